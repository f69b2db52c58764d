"""Links of the pages lead to files and headings that are there."""

import re
from pathlib import Path

import pytest

from tests.demo.docs.pages import PAGES, ROOT

SOURCES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(PAGES.rglob("*.md"))]
RESULTS = [
    ROOT / "demo/experiments/results/README.md",
    ROOT / "demo/experiments/results/papers/README.md",
    ROOT / "tests/benchmarks/results/README.md",
]


def anchors(page: Path) -> set[str]:
    """What headings are called in addresses."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*SOURCES, *RESULTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []
