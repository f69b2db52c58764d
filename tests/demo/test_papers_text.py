"""What the page of the papers says in numbers is what the tables beside it hold."""

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "demo" / "experiments" / "results" / "papers"
DEMO = Path(__file__).parents[2] / "demo" / "README.md"
NUMBER = r"-?\d+(?:\.\d+)?"
SAID = re.compile(rf"({NUMBER}) (?:%|points|s a slot|s) \(({NUMBER}) to ({NUMBER})\)")
"""A number with its interval, such as `1.8 % (0.8 to 2.8)`."""
ABOUT = re.compile(r"\[[a-z-]+\]\(([a-z-]+)\.md\)")


def paragraphs() -> Iterator[tuple[tuple[str, ...], str]]:
    """Parts of the text with the tables that they are about: the links at the start of each."""
    for part in (RESULTS / "README.md").read_text().split("\n\n"):
        text = " ".join(part.split())
        start = re.match(rf"(?:{ABOUT.pattern}(?:, )?)+", text)
        if start:
            yield tuple(ABOUT.findall(start.group())), text


def features() -> Iterator[tuple[tuple[str, ...], str]]:
    """Rows of the demo's README with the tables that they are about."""
    for line in DEMO.read_text().splitlines():
        names = re.findall(r"\(experiments/results/papers/([a-z-]+)\.md\)", line)
        if names and line.startswith("|"):
            yield tuple(names), line


def held(name: str) -> list[tuple[float, float, float]]:
    """All numbers of a table that have intervals."""
    triples = []
    for row in csv.DictReader((RESULTS / f"{name}.csv").read_text().splitlines()):
        for column in row:
            ends = [row.get(f"{column}{end}") for end in ("", "_low", "_high")]
            if all(ends):
                triples.append(tuple(map(float, map(str, ends))))
    return triples  # type: ignore[return-value]


def is_said(said: tuple[str, ...], value: tuple[float, float, float]) -> bool:
    """Whether numbers of a text are these, to its digits: as they are, in per cent, or negated."""
    low, mid, high = value[1], value[0], value[2]
    for scale, ends in itertools.product((1.0, 100.0), ((mid, low, high), (-mid, -high, -low))):
        digits = [len(text.partition(".")[2]) for text in said]
        if all(
            abs(float(text) - scale * end) <= 0.5001 * 10.0**-places
            for text, end, places in zip(said, ends, digits, strict=True)
        ):
            return True
    return False


@pytest.mark.parametrize(("names", "text"), [*paragraphs(), *features()], ids=lambda value: str(value)[:40])
def test_each_interval_of_the_text_is_in_the_table_beside_it(names: tuple[str, ...], text: str) -> None:
    there = [value for name in names for value in held(name)]
    wrong = [said for said in SAID.findall(text) if not any(is_said(said, value) for value in there)]
    assert not wrong


def test_a_wrong_number_would_be_seen() -> None:
    assert is_said(("1.8", "0.8", "2.8"), (0.0182, 0.0079, 0.0283))
    assert is_said(("1.8", "0.8", "2.8"), (-0.0182, -0.0283, -0.0079))
    assert not is_said(("1.8", "0.8", "2.9"), (0.0182, 0.0079, 0.0283))
    assert not is_said(("2", "1", "3"), (0.0182, 0.0079, 0.0361))
    assert sum(len(SAID.findall(text)) for _, text in paragraphs()) > 20
    assert sum(len(SAID.findall(text)) for _, text in features()) > 8
