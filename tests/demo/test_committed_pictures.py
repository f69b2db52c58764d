"""No committed picture is older than its numbers: each PNG bears the hash of those that it was drawn from."""

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from demo.experiments.learners_picture import curve_rows
from demo.show.figure import mark_of, numbers_mark, numbers_text
from demo.show.ladder import capacity_rows, ladder_rows
from policy.evaluation import Evaluation

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "demo" / "experiments" / "results"
BENCHMARKS = ROOT / "tests" / "benchmarks" / "results"
AGAIN = "draw it again: python -m demo.experiments.pictures, python tests/benchmarks/store_report.py"


def read(path: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(path.read_text(encoding="utf-8"))


def ladder(name: str) -> list[dict[str, object]]:
    if name == "beamformers":
        return ladder_rows(Evaluation.from_dict(read(EXPERIMENTS / "beamformers.json")))
    return ladder_rows(Evaluation.from_dict(read(EXPERIMENTS / f"{name}.json")["ladder"]))


def capacities(name: str) -> list[dict[str, object]]:
    sweep = read(EXPERIMENTS / f"{name.replace('capacities', 'ladder')}.json")["capacities"]
    return capacity_rows({float(share): Evaluation.from_dict(row) for share, row in sweep.items()})


def rows_behind(path: Path) -> list[dict[str, object]]:
    """What a picture has to show, from the results themselves."""
    if path.stem.startswith("capacities"):
        return capacities(path.stem)
    if path.stem == "convergence":
        return curve_rows(read(EXPERIMENTS / "convergence.json")["curves"])
    return ladder(path.stem)


def store_rows(path: Path) -> list[dict[str, Any]]:
    sys.path.insert(0, str(BENCHMARKS.parent))
    try:
        import store_report
    finally:
        sys.path.pop(0)
    document = read(path.with_suffix(".json"))
    rows = store_report.read_rows(document)
    if document["runs"] == 1:
        rows = sorted(rows, key=lambda row: row.stored_bytes)
    found: list[dict[str, Any]] = store_report.picture_rows(rows, document["raw_bytes"])
    return found


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.png")), ids=lambda path: path.stem)
def test_a_picture_of_an_experiment_shows_its_results(path: Path) -> None:
    assert mark_of(path) == numbers_mark(rows_behind(path)), AGAIN


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.png")), ids=lambda path: path.stem)
def test_a_picture_of_a_benchmark_shows_its_results(path: Path) -> None:
    rows = store_rows(path)
    assert mark_of(path) == numbers_mark(rows), AGAIN
    assert path.with_suffix(".csv").read_text() == numbers_text(rows), AGAIN


def test_there_are_pictures_and_their_numbers() -> None:
    pictures = [*EXPERIMENTS.glob("*.png"), *BENCHMARKS.glob("*.png")]
    assert len(pictures) > 8
    for path in pictures:
        assert list(csv.reader(path.with_suffix(".csv").read_text().splitlines()))[1:]


def test_another_number_is_another_mark() -> None:
    assert numbers_mark([{"a": 1.0}]) != numbers_mark([{"a": 1.0000001}])


def test_colours_of_pictures_stand_in_the_style_sheet_alone() -> None:
    homes = {"figure.py", "report_page.py"}  # and the style of a web page, which no picture is drawn with
    own = [
        f"{path.relative_to(ROOT)}: {colour}"
        for folder in ("demo", "tests/benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name not in homes
        for colour in re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text())
    ]
    assert own == []


def test_every_committed_picture_is_compared_with_its_numbers() -> None:
    """Screenshots of pages show no numbers of ours; drawings have none."""
    compared = {*EXPERIMENTS.glob("*.png"), *BENCHMARKS.glob("*.png")}
    drawn = {
        path
        for name in ("demo", "tests", "pbstore", "policy", "radio")
        for path in (ROOT / name).rglob("*.png")
    }
    assert drawn - compared == {ROOT / "demo/docs/pages/pictures/dashboard.png"}
