"""What is committed of `pbcast experiment`: whole, as described, and as theory says; figures can be read."""

import csv
from pathlib import Path

import pytest

from demo.experiments.papers.registry import EXPERIMENTS
from demo.experiments.papers.trimcaching import EVERYWHERE
from demo.show.curves import Curve, Panel, _draw_panel
from demo.show.figure import pyplot

RESULTS = Path(__file__).parents[2] / "demo" / "experiments" / "results" / "papers"
DESIGNS = ("robust", "nominal")
COMMITTED = sorted(RESULTS.glob("*.csv"))
CACHED = tuple(
    f"{base} {name}" for base in ("p2", "v30", "default") for name in ("ewma-greedy", "pooled", "learned")
)


def committed(name: str) -> list[dict[str, str]]:
    path = RESULTS / f"{name}.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_results_are_of_the_experiments_as_described(path: Path) -> None:
    experiment, rows = EXPERIMENTS[path.stem], committed(path.stem)
    for ending in (".svg", ".pdf", ".md"):
        assert path.with_suffix(ending).is_file()
    if experiment.record is None:
        assert {row["x"] for row in rows} == {
            point.x if isinstance(point.x, str) else f"{point.x:g}" for point in experiment.points
        }
        assert {row["curve"] for row in rows} == set(experiment.curves)
    assert all(row[name] for row in rows for name in experiment.measures)
    assert f"{experiment.name}.svg" in (RESULTS / "README.md").read_text()


def test_who_keeps_nothing_waits_alike_whatever_the_room() -> None:
    for name in ("capacity", "capacity-zoo", "llama"):
        assert len({row["delay_s"] for row in committed(name) if row["curve"] == "no-cache"}) <= 1


def test_robust_beams_lose_nothing_and_nominal_ones_more_with_the_error() -> None:
    rows = committed("csi")
    lost = {design: [float(row["outage"]) for row in rows if design in row["curve"]] for design in DESIGNS}
    assert not any(lost["robust"])
    assert lost["nominal"] == sorted(lost["nominal"])


def test_more_time_is_never_less_done() -> None:
    for name, measure, curve in (("deadline", "hit_ratio", EVERYWHERE), ("loading", "tasks_in_time", None)):
        for each in {row["curve"] for row in committed(name)} if curve is None else {curve}:
            shares = [float(row[measure]) for row in committed(name) if row["curve"] == each]
            assert shares == sorted(shares)


def test_no_order_is_committed_that_does_more_than_the_best() -> None:
    done: dict[str, dict[str, float]] = {}
    for row in committed("loading"):
        done.setdefault(row["x"], {})[row["curve"]] = float(row["tasks_in_time"])
    assert all(max(curves.values()) == curves["the best order, shared"] for curves in done.values())


@pytest.mark.parametrize(("means", "log"), [((79.0, 79.5), False), ((1e-5, 90.0), True), ((1.0, 8.0), True)])
def test_markers_are_not_cut_and_ticks_have_room(means: tuple[float, ...], log: bool) -> None:
    curve = Curve(name="a", x=(0.0, 1.0), mean=means, low=means, high=means)
    fig, ax = pyplot().subplots()
    _draw_panel(ax, Panel(label="b", curves=[curve], log=log))

    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    assert max(means) * 1.02 < high
    assert 2 <= len(ticks) <= 11
    pyplot().close(fig)


def test_no_line_joins_places_whose_order_means_nothing() -> None:
    curve = Curve(name="a", x=(0.0, 1.0), mean=(1.0, 2.0), low=(1.0, 2.0), high=(1.0, 2.0))
    fig, axes = pyplot().subplots(2)
    for ax, joined in zip(axes, (True, False), strict=True):
        _draw_panel(ax, Panel(label="b", curves=[curve], joined=joined))

    assert [ax.get_lines()[0].get_linestyle() for ax in axes] == ["-", "None"]
    assert not EXPERIMENTS["superposed-chain"].joined
    pyplot().close(fig)


CLEAR = (
    ("csi", "ewma-greedy, robust", ("0.05", "0.1", "0.2"), "delay_s_less_than_ewma-greedy, nominal"),
    ("granularity", "ewma-greedy", None, "delay_s_less_than_whole-model"),
    ("granularity", "ewma-greedy", None, "delay_s_less_than_whole-model-shared-air"),
    ("deadline", "trimcaching-spec", None, "hit_ratio_more_than_independent caching"),
    ("loading", "most tasks a second, shared", None, "tasks_in_time_more_than_most tasks a second, whole"),
    ("loading", "most tasks a second, shared", None, "tasks_in_time_more_than_as asked, shared"),
    ("together", "at once", None, "air_s_less_than_in turn"),
    ("superposed-chain", "two at once", CACHED, "user_delay_s_less_than_in turn"),
    ("superposed-chain", "three at once", CACHED, "user_delay_s_less_than_in turn"),
    ("arrival", "by change", ("5", "10", "25", "50", "75"), "score_more_than_as in the file"),
    ("versions", "changed blocks", None, "stale_s_less_than_whole model"),
    ("versions", "deltas", None, "stale_s_less_than_whole model"),
    (
        "fusion",
        "neurons matched first, trained apart",
        ("50",),
        "score_more_than_plain average, trained apart",
    ),
)
"""Experiment, curve, places (None: all) and comparison: what the page says is clear of zero."""


@pytest.mark.parametrize(("name", "curve", "places", "measure"), CLEAR)
def test_what_is_said_to_be_clear_is(
    name: str, curve: str, places: tuple[str, ...] | None, measure: str
) -> None:
    rows = [row for row in committed(name) if row["curve"] == curve]
    rows = [row for row in rows if places is None or row["x"] in places]
    assert len(rows) == len(places or {row["x"] for row in committed(name)})
    assert all(float(row[f"{measure}_low"]) > 0 for row in rows)


def test_who_goes_on_to_the_very_bits_pays_little_for_a_tier_first() -> None:
    rows = committed("tiers")
    for model in {row["curve"] for row in rows}:
        first, exact = (
            {row["x"]: float(row[key]) for row in rows if row["curve"] == model}
            for key in ("first_mb", "exact_mb")
        )
        assert first["int4"] < first["int8"] < first["bf16"] < first["exact at once"]
        assert max(exact.values()) < 1.07 * first["exact at once"]


def test_a_nested_model_costs_a_store_with_the_whole_next_to_nothing() -> None:
    rows = committed("nested")
    assert len(rows) == 12
    for row in rows:
        assert float(row["added_mb"]) < 0.01 < float(row["upgrade_mb"]) <= float(row["first_mb"])


def test_matched_parents_average_well_and_strangers_do_not() -> None:
    scores = {(row["x"], row["curve"]): float(row["score"]) for row in committed("fusion")}
    for pair in ("one lineage", "trained apart"):
        ends = [scores[(x, f"neurons matched first, {pair}")] for x in ("0", "100")]
        for x in ("25", "50", "75"):
            assert scores[(x, f"neurons matched first, {pair}")] > min(ends) - 0.03
            assert scores[(x, f"plain average, {pair}")] < min(ends) - 0.05


def test_swarms_need_several_times_our_time_and_still_wait_longer() -> None:
    for row in committed("swarm"):
        if row["curve"] == "m-pso-clock":
            assert float(row["delay_s_less_than_ours, the search alone"]) < 0
            assert int(row["x"]) < 480 or float(row["decide_ms_less_than_ours, the search alone"]) < -1
