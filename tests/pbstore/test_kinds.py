"""The page of kinds names tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_each_test_that_the_page_of_kinds_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (TESTS / "pbstore" / "README.md").read_text())
    assert len(named) > 40
    for path, name in named:
        place = TESTS.parent / path if path.startswith("tests/") else TESTS / "pbstore" / path
        tree = ast.parse(place.read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            f"{path}::{name}"
        )
