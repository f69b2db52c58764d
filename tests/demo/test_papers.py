"""`pbcast experiment`: descriptions are whole, stops change nothing, what theory says of a curve holds."""

import csv
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.bridge.csi import CsiError
from demo.cli import main
from demo.experiments.papers.catalogs import catalog_names
from demo.experiments.papers.description import Air, Cell, Experiment, Point
from demo.experiments.papers.load_orders import (
    MOST_RELATED,
    best_order,
    done_in_time,
    families,
    greedy_order,
    load_times,
)
from demo.experiments.papers.partialloading import tasks_in_time
from demo.experiments.papers.play import QUICK, Extent, merged, play_experiment, scenario_at
from demo.experiments.papers.redraw import rows_from
from demo.experiments.papers.registry import EXPERIMENTS
from demo.experiments.papers.run import quick, run_experiment
from demo.experiments.papers.table import csv_rows, rows_of
from demo.experiments.papers.trimcaching import EVERYWHERE, hit_problem, hit_ratios, placements
from demo.experiments.papers.write import MOST_PLACES, draw, table
from demo.show.figure import numbers_text
from policy.config import config_from_dict
from policy.evaluation.closure import function_digest
from policy.evaluation.results import scenario_digest
from policy.interfaces import BlockCatalog
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme

DESIGNS = ("robust", "nominal")
TINY = {
    "base": "default",
    "catalog": "findings",
    "num_nodes": 2,
    "num_users": 3,
    "num_slots": 1,
    "capacity_share": 0.2,
}
SWEEP = Experiment(
    name="tiny",
    question="Does it work?",
    paper="none",
    axis="users",
    points=tuple(Point(x=count, changes={"num_users": count}) for count in (2, 3)),
    schemes=("no-cache", "random"),
    references=("no-cache",),
    scenario=TINY,
)
BATCHES = replace(
    EXPERIMENTS["loading"], scenario=TINY, points=EXPERIMENTS["loading"].points[:2], name="tiny-batches"
)
EXTENT = Extent(worlds=2, seeds=2)


def told(experiment: Experiment, folder: Path | None, extent: Extent = EXTENT) -> str:
    return numbers_text(
        csv_rows(experiment, rows_of(experiment, play_experiment(experiment, extent, folder)))
    )


@pytest.fixture(scope="module")
def whole() -> str:
    return told(SWEEP, None)


@pytest.mark.sampled(9)
@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_a_description_can_be_played(experiment: Experiment) -> None:
    for point in experiment.points:
        config = config_from_dict(merged(experiment.scenario, point.changes))
        assert (point.catalog or config.catalog) in catalog_names()
        assert function_digest(point.air.make_world()) is not None, "nothing would be kept"
    for scheme in experiment.schemes if experiment.player is None else ():
        find_scheme(scheme)
    if experiment.player is not None:
        assert function_digest(experiment.player) is not None, "nothing would be kept"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"references": ("lru",)}, "references must be curves"),
        ({"measures": ("beauty",)}, "measures are of"),
        ({"points": ()}, "need points"),
        ({"points": (Point(x=1), Point(x=1))}, "same place"),
        ({"points": (Point(x=1), Point(x="one"))}, "all numbers or all texts"),
    ],
)
def test_a_wrong_description_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(SWEEP, **changes)  # type: ignore[arg-type]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_stop_anywhere_changes_nothing(after: int, tmp_path: Path, whole: str) -> None:
    def stop(done: int, _: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_experiment(SWEEP, EXTENT, tmp_path, stop)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes() + b'\n{"torn": ')

    assert told(SWEEP, tmp_path) == whole


def test_many_named_places_are_rows_with_the_comparisons_beside() -> None:
    places = [f"place {number}" for number in range(MOST_PLACES + 1)]
    experiment = replace(
        SWEEP, points=tuple(Point(x=place) for place in places), references=("no-cache",), measures=("p95_s",)
    )
    cells = [
        Cell(x=place, curve=curve, world=world, seed=0, values={"p95_s": value + world})
        for place in places
        for curve, value in (("no-cache", 4.0), ("random", 2.0))
        for world in range(2)
    ]
    lines = table(experiment, "p95_s", rows_of(experiment, cells)).splitlines()

    assert lines[2].split(" | ")[1:] == ["no-cache", "random", "*less than no-cache* |"]
    assert len(lines) == 4 + len(places)
    assert lines[4].startswith("| place 0 | 4.5 [")
    assert " | 44.4 % [" in lines[4]


@pytest.mark.slow
def test_more_worlds_are_added_to_those_that_are_there(tmp_path: Path, whole: str) -> None:
    told(SWEEP, tmp_path, replace(EXTENT, worlds=1, seeds=1))
    played: list[int] = []
    play_experiment(SWEEP, EXTENT, tmp_path, lambda done, _: played.append(done))

    assert told(SWEEP, tmp_path) == whole
    assert len(played) == 4  # the second seed of the first worlds, and all of the second ones


def test_a_stopped_player_goes_on_too(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_experiment(BATCHES, EXTENT, tmp_path, stop)

    played: list[int] = []
    play_experiment(BATCHES, EXTENT, tmp_path, lambda done, _: played.append(done))
    assert played == [4]
    assert told(BATCHES, tmp_path) == told(BATCHES, None)


def test_the_files_of_an_experiment(tmp_path: Path) -> None:
    answer = run_experiment(SWEEP, EXTENT, tmp_path, kept=tmp_path / "kept", command="pbcast experiment tiny")

    assert {path.suffix for path in answer.files} == {".csv", ".svg", ".pdf", ".md"}
    pdf = (tmp_path / "tiny.pdf").read_bytes()
    assert b"/MediaBox [ 0 0 252 " in pdf  # 3.5 inch
    assert b"/Type3" not in pdf
    page = (tmp_path / "tiny.md").read_text()
    for text in (
        "pbcast experiment tiny",
        "commit",
        "CPU time",
        "2 worlds",
        '"num_nodes": 2',
        "less than no-cache",
    ):
        assert text in page
    rows = list(csv.DictReader((tmp_path / "tiny.csv").read_text().splitlines()))
    assert [(row["x"], row["curve"]) for row in rows] == list(itertools.product("23", ("no-cache", "random")))
    before = {path: path.read_bytes() for path in answer.files if path.suffix != ".md"}
    again = run_experiment(SWEEP, EXTENT, tmp_path, kept=tmp_path / "kept", command="")
    assert {path: path.read_bytes() for path in again.files if path.suffix != ".md"} == before


def test_the_setting_that_sweeps_have_in_common_is_one_and_played_once() -> None:
    common = {"users": 12, "antennas": 8, "bandwidth": 100, "backhaul": 1.0, "cloud": 200, "zipf": 0.8}
    places = (common | {"load": 0.3, "csi": 0.0}).items()
    kept_under = {
        (scenario_digest(scenario_at(EXPERIMENTS[name], point)), function_digest(point.air.make_world()))
        for name, x in places
        for point in EXPERIMENTS[name].points
        if point.x == x
    }
    assert len(kept_under) == 1
    assert None not in next(iter(kept_under))


@pytest.mark.slow
def test_room_changes_nothing_for_who_keeps_nothing() -> None:
    rooms = replace(
        SWEEP,
        schemes=("no-cache",),
        points=tuple(Point(x=share, changes={"capacity_share": share}) for share in (0.1, 0.2, 0.4)),
    )
    rows = rows_of(rooms, play_experiment(rooms, EXTENT, None))

    assert len({row.means["delay_s"].value for row in rows}) == 1


@pytest.mark.slow
def test_without_an_error_both_designs_are_the_same() -> None:
    designs = replace(
        SWEEP,
        schemes=("lru",),
        references=("lru, nominal",),
        measures=("delay_s", "outage"),
        points=tuple(
            Point(x=size, arm=design, air=Air(csi=CsiError(size=size, design=design)))
            for size in (0.0, 0.3)
            for design in DESIGNS
        ),
    )
    rows = rows_of(designs, play_experiment(designs, EXTENT, None))
    by_place = {(row.x, row.curve): row.means for row in rows}

    assert by_place[(0.0, "lru, robust")] == by_place[(0.0, "lru, nominal")]
    assert by_place[(0.3, "lru, robust")]["outage"].value == 0.0
    assert len(csv_rows(designs, rows)) == 4
    assert by_place[(0.3, "lru, robust")] != by_place[(0.3, "lru, nominal")]


@pytest.fixture(scope="module")
def tiny() -> Scenario:
    return Scenario(config_from_dict(TINY), load_scenario("findings").catalog)


def test_a_later_deadline_never_misses_more(tiny: Scenario) -> None:
    world = tiny.world(3)
    problems = [hit_problem(world, 0, deadline) for deadline in (0.5, 2.0, 8.0, 32.0)]
    for placed in placements(problems[1]).values():
        ratios = [problem.hit_ratio(placed) for problem in problems]
        assert ratios == sorted(ratios)
    assert problems[-1].hit_ratio(placements(problems[-1])[EVERYWHERE]) == pytest.approx(1.0)


def test_no_placement_hits_more_than_everything_everywhere_and_all_fit(tiny: Scenario) -> None:
    for placed in placements(hit_problem(tiny.world(3), 0, 4.0)).values():
        assert placed.shape == (2, tiny.catalog.num_models)
    ratios = hit_ratios(tiny, {"deadline_s": 4.0}, 3)

    assert max(one["hit_ratio"] for one in ratios.values()) == ratios[EVERYWHERE]["hit_ratio"] > 0
    independent = placements(hit_problem(tiny.world(3), 0, 4.0))["independent caching"]
    assert (independent @ tiny.catalog.model_bytes <= tiny.capacity_bytes).all()


def catalog_with(members: list[list[int]], sizes: list[int]) -> BlockCatalog:
    return BlockCatalog(sizes_bytes=np.array(sizes), members=np.array(members, dtype=bool))


@pytest.mark.parametrize("seed", range(6))
def test_loading_in_order_is_at_most_the_best_order_and_sharing_never_hurts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = rng.random((4, 6)) < 0.5
    members[:, 0] = True
    catalog = BlockCatalog(sizes_bytes=rng.integers(1, 100, size=6), members=members)
    counts, deadline_s = rng.integers(0, 4, size=4), 1.2
    whole, shared = (load_times(catalog, 200.0, share) for share in (False, True))
    orders = list(itertools.permutations(np.flatnonzero(counts).tolist()))

    best = max(done_in_time(counts, order, shared, deadline_s) for order in orders)
    assert done_in_time(counts, greedy_order(counts, shared, deadline_s), shared, deadline_s) <= best
    for order in orders:
        done = [done_in_time(counts, order, shared, limit) for limit in (0.2, 0.6, 1.2, 5.0)]
        assert done == sorted(done)
        assert done[2] >= done_in_time(counts, order, whole, deadline_s)
        assert done[3] == counts.sum()


@pytest.mark.parametrize("seed", range(12))
def test_no_order_of_all_does_more_than_the_best_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = rng.random((5, 7)) < 0.35
    members[~members.any(axis=1), 0] = True
    catalog = BlockCatalog(sizes_bytes=rng.integers(1, 100, size=7), members=members)
    counts = rng.integers(0, 9, size=5)
    for share, deadline_s in itertools.product((False, True), (0.0, 0.1, 0.25, 0.5, 0.8, 1.2, 9.0)):
        times = load_times(catalog, 500.0, share)
        order = best_order(counts, times, deadline_s)
        every = [done_in_time(counts, one, times, deadline_s) for one in itertools.permutations(range(5))]

        assert len(set(order)) == len(order)
        assert done_in_time(counts, order, times, deadline_s) == max(every)


def test_greedy_is_not_always_the_best_order() -> None:
    # a task a second for the small model first leaves no time for the large one with most tasks
    times = load_times(catalog_with([[1, 0], [0, 1]], [10, 95]), 100.0, True)
    counts = np.array([1, 9])

    assert done_in_time(counts, greedy_order(counts, times, 1.0), times, 1.0) == 1
    assert done_in_time(counts, best_order(counts, times, 1.0), times, 1.0) == 9


def test_families_share_nothing_and_too_large_ones_are_refused() -> None:
    catalog = catalog_with([[1, 0, 1], [0, 1, 0], [1, 0, 0]], [5, 6, 7])
    assert families([0, 1, 2], load_times(catalog, 1.0, True)) == [[0, 2], [1]]
    assert families([0, 1, 2], load_times(catalog, 1.0, False)) == [[0], [1], [2]]
    assert best_order(np.zeros(3, dtype=np.int64), load_times(catalog, 1.0, True), 1.0) == []

    many = MOST_RELATED + 1
    alike = catalog_with([[1]] * many, [5])
    with pytest.raises(ValueError, match="hang together"):
        best_order(np.ones(many, dtype=np.int64), load_times(alike, 1.0, True), 1.0)


def test_the_order_reuses_what_is_loaded() -> None:
    # two families: alternating between them loads each base anew
    members = [[1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1]]
    catalog = catalog_with(members, [90, 90, 10, 10, 10, 10])
    shared, counts = load_times(catalog, 100.0, True), np.ones(4, dtype=np.int64)

    assert greedy_order(counts, shared, 10.0) in ([0, 2, 1, 3], [0, 2, 3, 1])
    assert done_in_time(counts, greedy_order(counts, shared, 2.25), shared, 2.25) == 4
    assert done_in_time(counts, [0, 1, 2, 3], shared, 2.25) == 2


def test_tasks_are_counted_once(tiny: Scenario) -> None:
    settings = {"deadline_s": 1e6, "load_byte_s": 2e9}
    assert {one["tasks_in_time"] for one in tasks_in_time(tiny, settings, 3).values()} == {1.0}


def test_the_record_of_learners_is_told() -> None:
    learning = EXPERIMENTS["learning"]
    rows = rows_of(learning, play_experiment(learning, QUICK, None))

    assert {row.curve for row in rows} >= {"MAPPO", "QMIX"}
    assert all(row.worlds >= 1 and row.means["cost_s"].value > 0 for row in rows)


def test_a_try_plays_two_places() -> None:
    assert len(quick(EXPERIMENTS["users"]).points) == 2
    assert len(quick(EXPERIMENTS["csi"]).points) == 4


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(["experiment", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_list_has_every_experiment(run: Run) -> None:
    for words in ((), ("--list",)):
        code, out, _ = run(*words)
        assert code == 0
        assert all(name in out for name in EXPERIMENTS)
    listed = json.loads(run("--list", "--json")[1])
    assert [one["name"] for one in listed] == list(EXPERIMENTS)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("capacities",), 1, "did you mean 'capacity'?"),
        (("users", "--worlds", "0"), 2, "--worlds"),
        (("users", "--first-world", "499999"), 1, "worlds 0..499999"),
    ],
)
def test_a_wrong_call_is_one_line(run: Run, words: tuple[str, ...], code: int, text: str) -> None:
    got, out, err = run(*words)

    assert (got, out) == (code, "")
    assert text in err
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_played(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = run("users", "--quick", "--out", str(tmp_path / "file"))

    assert (code, out) == (1, "")
    assert "cannot be written" in err


@pytest.mark.slow
def test_a_command_writes_and_prints_json(run: Run, tmp_path: Path) -> None:
    words = (
        "loading",
        "--quick",
        "--workers",
        "1",
        "--out",
        str(tmp_path),
        "--cache",
        str(tmp_path),
        "--json",
    )
    code, out, _ = run(*words)

    assert code == 0
    document = json.loads(out)
    assert document["experiment"] == "loading"
    assert len(document["rows"]) == len((tmp_path / "loading.csv").read_text().splitlines()) - 1
    assert (tmp_path / "loading.pdf").is_file()


def test_a_figure_drawn_again_from_its_numbers_is_the_same(tmp_path: Path) -> None:
    run_experiment(BATCHES, EXTENT, tmp_path, kept=None, command="")
    (lines,) = [list(csv.DictReader((tmp_path / "tiny-batches.csv").read_text().splitlines()))]
    again = tmp_path / "again"
    again.mkdir()
    draw(BATCHES, rows_from(BATCHES, lines), lines, again)

    for ending in (".csv", ".svg"):
        assert (again / f"tiny-batches{ending}").read_text() == (
            tmp_path / f"tiny-batches{ending}"
        ).read_text()
