"""One word per thing: what was put right stays so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for name in ("policy", "demo") for path in (ROOT / name).rglob("*.py"))
ONE_SPELLING = {
    "catalogue": "catalog",
    "block-popularity": "popularity",
    "block-greedy": "ewma-greedy",
    "hears of": "receives",
}
KEYS_OF_RESULTS = re.compile('"(new )?catalogue"')


@pytest.mark.parametrize("word", ONE_SPELLING)
def test_each_thing_has_one_word(word: str) -> None:
    texts = {path: KEYS_OF_RESULTS.sub("", path.read_text()) for path in SOURCES}
    used = [
        str(path.relative_to(ROOT)) for path, text in texts.items() if re.search(word, text, re.IGNORECASE)
    ]
    assert used == [], f"say {ONE_SPELLING[word]}"


def test_results_are_named_by_what_they_hold() -> None:
    used = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and node.id in ("made", "found", "given"))
        or (isinstance(node, ast.arg) and node.arg in ("made", "found", "given"))
    ]
    assert used == []
