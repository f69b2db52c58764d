"""The reference names all that is public, all pages are in the contents, and the built site loads nothing."""

import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.demo.docs.pages import PAGES, ROOT

CONFIG = ROOT / "demo" / "docs" / "mkdocs.yml"
MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"


@pytest.mark.parametrize("package", ["pbstore", "policy", "radio"])
def test_the_reference_names_all_that_is_public(package: str) -> None:
    text = (PAGES / "api" / f"{package}.md").read_text()
    named = {path.rsplit(".", 1)[1] for path in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)}
    assert set(import_module(package).__all__) == named


def test_what_the_reference_names_is_there() -> None:
    for page in (PAGES / "api").glob("*.md"):
        for path in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE):
            module, _, name = path.rpartition(".")
            assert hasattr(import_module(module), name), path


def test_all_pages_are_in_the_contents() -> None:
    text = CONFIG.read_text()
    listed = re.findall(r": ([\w/]+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md"))
    settings = yaml.safe_load(text)
    assert settings["strict"]
    assert settings["theme"]["font"] is False


@pytest.mark.slow
@pytest.mark.skipif(not MKDOCS.exists(), reason="needs .venv-docs (`make docs`)")
def test_the_site_builds_and_loads_nothing(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [str(MKDOCS), "build", "--quiet", "--strict", "-f", str(CONFIG), "-d", str(site)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    chromium = shutil.which("chromium")
    tools = pytest.importorskip("playwright.sync_api")
    if chromium is None:
        pytest.skip("needs chromium")
    with tools.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        asked: list[str] = []
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("request", lambda one: asked.append(one.url))
        page.on("console", lambda one: asked.append(one.text) if one.type == "error" else None)
        for path in (one for one in site.rglob("*.html") if one.name != "404.html"):  # that is for servers
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 400, path.name
        browser.close()
    assert [one for one in asked if not one.startswith("file://")] == []
