"""The README is short, says what is real first, and quotes figures that stand in the results."""

import json
import re
from functools import cache
from typing import Any

import pytest

from tests.demo.docs.pages import FENCE, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 700


def result(path: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


@cache
def stored_share(family: str, peer: str) -> str:
    found = result(f"tests/benchmarks/results/{family}.json")
    (row,) = (row for row in found["rows"] if row["peer"] == peer)
    return f"{row['stored_bytes'] / found['raw_bytes']:.3f}"


def row_of(words: str) -> str:
    return next(line for line in README.splitlines() if line.startswith("|") and words in line)


def test_the_readme_is_short() -> None:
    """Beside commands, what they print, and snippets."""
    assert len(FENCE.sub("", README).split()) < MOST_WORDS


def test_what_is_real_stands_before_the_first_command() -> None:
    assert README.index("| real | emulated | computed |") < README.index("```")


@pytest.mark.parametrize(
    ("row", "family", "peers"),
    [
        ("16 real checkpoints", "store-family-one", ("pbstore cold", "xet", "restic", "lmzip one-shot")),
        ("without de-quantised", "store-family-one-without-smol", ("pbstore cold", "xet", "lmzip one-shot")),
    ],
)
def test_figures_of_the_store_stand_in_its_results(row: str, family: str, peers: tuple[str, ...]) -> None:
    assert sorted(re.findall(r"0\.\d{3}", row_of(row))) == sorted(
        stored_share(family, peer) for peer in peers
    )


def test_figures_of_the_ladder_stand_in_its_results() -> None:
    schemes = result("demo/experiments/results/ladder-findings.json")["ladder"]["schemes"]
    wanted = [f"{schemes[name]['mean_delay_s']:.1f}" for name in ("learned", "whole-model", "ewma-greedy")]
    assert re.findall(r"\d+\.\d", row_of("64 test worlds")) == wanted


def test_figures_of_the_demo_stand_in_what_it_printed() -> None:
    printed = (ROOT / "demo/experiments/results/make-demo.md").read_text(encoding="utf-8")
    delays = {
        name: re.search(rf"^ {name} +(\d+\.\d+)", printed, re.MULTILINE)
        for name in ("whole-model", "lru", "rendezvous", "learned")
    }
    seconds = {name: float(match.group(1)) for name, match in delays.items() if match}
    quoted = [float(number) for number in re.findall(r"(\d+\.\d+) s", row_of("the demo's 14 models"))]
    assert quoted == [
        round(seconds["learned"], 2),
        round(seconds["whole-model"], 1),
        round(seconds["lru"], 2),
        round(seconds["rendezvous"], 2),
    ]
