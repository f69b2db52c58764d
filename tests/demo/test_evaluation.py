import csv
import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from demo.cli import main
from demo.console import PlainConsole
from demo.experiments.pictures import draw_all
from demo.experiments.tune import GRIDS, settings_of
from demo.show.evaluation import (
    evaluation_table,
    markdown_capacities,
    markdown_rungs,
    markdown_table,
)
from demo.show.ladder import draw_capacities, draw_ladder
from demo.show.load import lever_lines, load_lines, load_table
from policy.config import FINDINGS
from policy.evaluation import Evaluation, evaluate
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.world.synthetic import findings_catalog


@pytest.fixture(scope="module")
def result() -> Evaluation:
    scenario = Scenario(replace(FINDINGS, num_slots=2), findings_catalog())
    return evaluate(scenario, ["no-cache", "lru", "random"], worlds=2, seeds=2, bound_worlds=1)


def scenario_file(folder: Path) -> str:
    path = folder / "short.toml"
    path.write_text('base = "findings"\nname = "short"\nnum_slots = 2\n')
    return str(path)


def test_json_on_stdout_progress_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "evaluate",
        "--scenario",
        scenario_file(tmp_path),
        "--schemes",
        "lru,no-cache",
        "--worlds",
        "2",
    ]
    more = ["--bound-worlds", "1", "--workers", "1", "--json"]
    code = main(
        [*command, *more, "--cache", str(tmp_path / "kept"), "--figure", str(tmp_path / "ladder.png")]
    )
    shown = capsys.readouterr()
    data = json.loads(shown.out)

    assert code == 0
    assert set(data["schemes"]) == {"lru", "no-cache"}
    assert data["paired"]["lru|no-cache"]["worlds"] == 2
    assert data["bounds"]["hindsight_lower_s"] <= data["bounds"]["one_step_clairvoyant_s"]
    assert "2/2" in shown.err
    assert (tmp_path / "ladder.png").stat().st_size > 5_000
    assert list((tmp_path / "kept").rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--schemes", "best"], "no scheme 'best'"),
        (["--scenario", "nowhere"], "scenario must be one of"),
        (["--schemes", ","], "name at least one scheme"),
        (["--schemes", "ewma-greedy:weight=9"], "must be in (0, 1], got 9"),
        (["--catalog", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(
    options: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["evaluate", "--fresh", "--worlds", "1", *options])
    shown = capsys.readouterr()

    assert code == 1
    assert text in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert shown.out == ""


@pytest.mark.parametrize("scheme", GRIDS)
def test_every_setting_of_the_tuning_can_be_played(scheme: str) -> None:
    for name in settings_of(scheme):
        assert find_scheme(name).name == name


def test_tables_tell_what_was_found(result: Evaluation) -> None:
    table = markdown_table(result)
    rungs = markdown_rungs(result, {"no-cache": "nothing", "lru": "caches"})

    rows = [line for line in table.splitlines() if line.startswith("| ")][1:4]
    assert [line.split("|")[1].strip() for line in rows] == sorted(
        result.schemes, key=lambda name: -result.schemes[name].mean_delay_s
    )
    assert f"{result.paired['lru|no-cache'].reduction:.1%}" in rungs
    assert f"{result.bounds['one_step_clairvoyant_s']:.2f}" in rungs


def _with_step(result: Evaluation, reduction: float, ci95: tuple[float, float]) -> Evaluation:
    """The same with a scheme that was also played without CoMP."""
    step = replace(result.paired["lru|no-cache"], reduction=reduction, ci95=ci95)
    return replace(
        result,
        schemes={"lru": result.schemes["lru"], "lru+no-comp": result.schemes["no-cache"]},
        paired={"lru|lru+no-comp": step},
        on_bound_worlds={"lru": 10.0, "lru+no-comp": 10.0},
        bounds={**result.bounds, "hindsight_lower_s": 9.5},
    )


@pytest.mark.parametrize(
    ("reduction", "ci95", "says"),
    [
        (0.3, (0.2, 0.4), ["CoMP takes 30.0% (20.0% to 40.0%) off lru+no-comp"]),
        (-0.3, (-0.4, -0.2), ["CoMP adds 30.0% (20.0% to 40.0%) to lru+no-comp"]),
        (0.001, (-0.1, 0.1), ["CoMP shows nothing in lru", "nobody can take more than 5.0% off lru+no-comp"]),
        (0.3, (-0.1, 0.4), ["CoMP shows nothing in lru"]),
    ],
)
def test_a_lever_without_effect_is_said_with_what_the_bound_leaves(
    result: Evaluation, reduction: float, ci95: tuple[float, float], says: list[str]
) -> None:
    (line,) = lever_lines(_with_step(result, reduction, ci95))

    assert all(text in line for text in says)


def test_too_much_work_is_a_warning(result: Evaluation) -> None:
    loads = {name: row.load for name, row in result.schemes.items()}
    busy = max(max(load.band, load.busiest_link) for load in loads.values() if load)

    (line,) = load_lines(result)
    assert f"{busy:.0%}" in line
    assert "laboratory" in line
    calm = {
        n: replace(r, load=replace(r.load, band=0.9, busiest_link=0.9)) for n, r in result.schemes.items()
    }  # type: ignore[type-var]
    assert load_lines(replace(result, schemes=calm)) == []


def test_a_narrow_screen_cuts_no_number(result: Evaluation) -> None:
    row = result.schemes["lru"]
    long = replace(result, schemes={"trimcaching-gen-delay+no-store-sharing+no-migration": row})
    screen = StringIO()
    console = PlainConsole(screen)
    console.width = 80
    evaluation_table(long).print(console)

    printed = screen.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.count("…") == 1
    load_table(long, list(long.schemes)).print(console)
    assert max(map(len, screen.getvalue().splitlines())) <= 80
    assert printed.count("trim") == 1
    assert f"{row.user_delay_s:.2f}" in printed


@pytest.mark.slow
def test_pictures_are_drawn(result: Evaluation, tmp_path: Path) -> None:
    sweep = {0.1: result, 0.2: result}
    draw_ladder(result, tmp_path / "a.png")
    draw_capacities(sweep, tmp_path / "b.png")

    draw_ladder(result, tmp_path / "a.pdf")
    draw_capacities(sweep, tmp_path / "b.pdf")

    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("a.png", "b.png"))
    for name in ("a.pdf", "b.pdf"):
        data = (tmp_path / name).read_bytes()
        assert b"/Type3" not in data  # fonts are of type 42, which publishers take
        width_pt = float(re.search(rb"/MediaBox \[ 0 0 ([0-9.]+)", data)[1])  # type: ignore[index]
        assert width_pt == pytest.approx(72 * (7.16 if name == "a.pdf" else 3.5), abs=1)
    numbers = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert {row["name"] for row in numbers if row["kind"] == "scheme"} == set(result.schemes)
    for row in numbers:  # bounds are told for the worlds that they were computed on, beside the schemes there
        assert float(row["on_bound_worlds_s"]) > 0
        assert row["bound_worlds"] == "1"
    assert "10%" in markdown_capacities(sweep)
    assert np.isfinite(result.costs["lru"]).all()


def test_pictures_are_drawn_again_from_json(result: Evaluation, tmp_path: Path) -> None:
    document = {"ladder": result.to_dict(), "capacities": {"0.1": result.to_dict(), "0.2": result.to_dict()}}
    (tmp_path / "ladder-short.json").write_text(json.dumps(document))
    (tmp_path / "beamformers.json").write_text(result.to_json())
    back = Evaluation.from_dict(json.loads(result.to_json()))

    assert back.to_dict() == result.to_dict()
    assert [path.name for path in draw_all(tmp_path, tmp_path)] == [
        "ladder-short.png",
        "capacities-short.png",
        "beamformers.png",
    ]
