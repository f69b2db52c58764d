"""What CONTRIBUTING.md and the READMEs point to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [f"{name}/README.md" for name in ("pbstore", "radio", "policy", "demo")]
PAGES = ["CONTRIBUTING.md", "README.md", *PACKAGES]


def test_paths_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"(?:pbstore|radio|policy|demo|tests)/[\w./-]*\w/?", text)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists() and "NAME" not in path] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", PACKAGES)
def test_each_package_explains_its_words(page: str) -> None:
    assert "\n## Words\n" in (ROOT / page).read_text()
