"""Compiled kernels equal the clock in plain Python, and the timeline that is played."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.interfaces import Bool
from policy.serving import clock, compiled
from policy.serving.clock import climbed, planned, spread, timed
from policy.serving.freight import Cargo, Freight, freight_of
from policy.serving.genes import Genes
from policy.serving.parts import Desk, desk_for
from policy.serving.plans import Climb, Lines
from policy.serving.serve import plan_in_full
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, AirTimes
from policy.slot.timeline import run
from tests.policy.serving import plain_clock
from tests.policy.serving.problems import random_problem

ROOT = Path(__file__).parents[3]
SHAPES = st.sampled_from(
    [
        {"nodes": 1, "cached": 0.5},
        {"nodes": 3, "cached": 0.3},
        {"nodes": 4, "users": 9, "blocks": 40, "cached": 0.2},
        {"nodes": 3, "cached": 1.1, "blocks": 1},
        {"nodes": 2, "cached": 0.0},
        {"nodes": 64, "users": 5, "blocks": 8, "cached": 0.02},
    ]
)
"""One node; a few; more items than are sorted by insertion; nothing to fetch; all from the cloud; many."""


def draw_slot(seed: int, shape: dict[str, float], timing: str, busy: bool) -> tuple[SlotProblem, Freight]:
    problem = random_problem(seed, **shape, timing=timing)  # type: ignore[arg-type]
    if busy:
        rng = np.random.default_rng(seed)
        busy_s = rng.exponential(1.0, problem.num_nodes)
        problem = replace(problem, link_free_s=busy_s, band_free_s=float(rng.exponential(1.0)))
    if not problem.wanted.size:
        needs = np.ones_like(problem.needs)
        problem = replace(problem, needs=needs, asked=needs.any(axis=1))
    return problem, freight_of(problem, AirTimes(delay=problem.delay, slot=0))


def draw_genes(rng: np.random.Generator, freight: Freight, users: int, rows: int) -> tuple[Genes, Lines]:
    """Genes of all sorts, some with equal turns; lines without busy times."""
    options, ways = freight.valid.sum(axis=1), freight.sets.num_ways
    genes = Genes(
        option=(rng.random((rows, options.size)) * options).astype(np.int64),
        way=(rng.random((rows, ways.size)) * ways).astype(np.int64),
        turn=rng.integers(0, users, (rows, users)).astype(np.float64),
        nudge=rng.normal(size=(rows, options.size)) * rng.integers(0, 2, (rows, 1)),
        lag=rng.choice([0, 1, 2, 8], rows),
        swift=rng.random(rows) < 0.5,
        thread=np.arange(rows) % 2,
    )
    rates = 10 ** rng.uniform(8, 10, rows)
    return genes, Lines(rates, rates * rng.uniform(0.02, 1.0, rows), np.zeros(0), 0.0, False)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    shape=SHAPES,
    timing=st.sampled_from(["pipelined", "sequential"]),
    busy=st.booleans(),
)
def test_kernels_tell_what_the_plain_clock_tells(
    seed: int, shape: dict[str, float], timing: str, busy: bool
) -> None:
    problem, freight = draw_slot(seed, shape, timing, busy)
    rng, rows = np.random.default_rng(seed), 3
    genes, drawn = draw_genes(rng, freight, problem.needs.shape[0], rows)
    lines, comp = Lines.of(problem, *drawn[:2]), rng.integers(0, 2, rows)
    price = rng.uniform(0, 2, rows)
    allowed: Bool = np.stack([freight.valid, freight.valid & (freight.copies == 0)])

    plans, delay_s = planned(freight, genes, comp, lines)
    chosen = spread(freight, genes, comp, lines, price, allowed).option
    for row in range(rows):
        of_row = int(comp[row])
        plain = plain_clock.planned(freight, genes, row, of_row, lines)
        for got, expected in zip(plans, plain, strict=True):
            assert got[row].tolist() == expected[0].tolist()
        assert delay_s[row] == plain_clock.delay_s(freight, plans, row, of_row, lines)
        options = plain_clock.spread(freight, genes, row, of_row, lines, float(price[row]), allowed[row % 2])
        assert chosen[row].tolist() == options
    assert (timed(freight, plans, comp, lines) == delay_s).all()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    shape=SHAPES,
    timing=st.sampled_from(["pipelined", "sequential"]),
    busy=st.booleans(),
)
def test_any_plan_takes_as_long_as_its_timeline(
    seed: int, shape: dict[str, float], timing: str, busy: bool
) -> None:
    problem, freight = draw_slot(seed, shape, timing, busy)
    genes, _ = draw_genes(np.random.default_rng(seed), freight, problem.needs.shape[0], 1)
    lines, comp = Lines.real(problem, 1), np.full(1, COMP)
    plans, delay_s = planned(freight, genes, comp, lines)

    full = plan_in_full(problem, freight, plans, AirTimes(delay=problem.delay, slot=0))
    line = run(full, problem.links_free.tolist(), problem.band_free_s, problem.timing)
    done = np.zeros(problem.needs.shape[0])
    for cast in line.broadcasts:
        done[list(cast.users)] = np.maximum(done[list(cast.users)], cast.end_s)
    assert delay_s[0] == pytest.approx(done.sum(), rel=1e-12)


@pytest.mark.parametrize("timing", ["pipelined", "sequential"])
def test_what_lies_on_the_desk_before_changes_nothing(timing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, freight = draw_slot(5, {"nodes": 4, "users": 9, "blocks": 40, "cached": 0.2}, timing, busy=True)
    rows = 2
    genes, drawn = draw_genes(np.random.default_rng(5), freight, problem.needs.shape[0], rows)
    lines, comp = Lines.of(problem, *drawn[:2]), np.zeros(rows, dtype=np.int64)
    allowed: Bool = np.repeat(freight.valid[None], rows, axis=0)
    steps = {"steps": np.full(rows, 50), "below": np.array([-1, 0]), "seeds": np.arange(rows)}
    climb = Climb(
        options=allowed.sum(axis=2),
        allowed=allowed,
        split=np.ones(rows, dtype=bool),
        **steps,
        kept=8,
        all_kept=False,
    )

    def everything() -> list[Any]:
        plans, delay_s = planned(freight, genes, comp, lines)
        chosen = spread(freight, genes, comp, lines, np.ones(rows), allowed)
        better, best_s, kept = climbed(freight, genes, delay_s, comp, lines, climb)
        arrays = (*plans, delay_s, *chosen, *better, best_s, *kept, timed(freight, plans, comp, lines))
        return [one.tolist() for one in arrays]

    def littered(value: float) -> Callable[[Cargo, Lines, int], Desk]:
        def desk(cargo: Cargo, lines: Lines, users: int) -> Desk:
            for array in (one := desk_for(cargo, lines, users)):
                array.fill(value)
            return one

        return desk

    monkeypatch.setattr(clock, "desk_for", littered(0))
    clean = everything()
    for value in (1, 1e9):
        monkeypatch.setattr(clock, "desk_for", littered(value))
        assert everything() == clean


def test_nothing_loads_the_compiler_before_a_slot_is_served() -> None:
    code = "import sys, policy.play.migration, policy.schemes, demo.cli.app; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_where_no_folder_can_be_written_to_kernels_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def double(numbers: np.ndarray) -> None:
        for at in range(numbers.size):
            numbers[at] *= 2

    monkeypatch.setattr(compiled._Kept, "_locator_classes", ())
    numbers = np.arange(3.0)
    compiled.kernel(compiled.array("float", 1))(double)(numbers)
    assert numbers.tolist() == [0.0, 2.0, 4.0]


@pytest.mark.slow
def test_two_processes_that_compile_at_once_leave_whole_kernels(tmp_path: Path) -> None:
    code = "import policy.serving.kernels as k; print(sum(k.make_plans.stats.cache_hits.values()))"
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE)

    both = [start(), start()]
    assert [process.communicate()[0] for process in both] == [b"0\n", b"0\n"]
    assert start().communicate()[0] == b"1\n"


def test_kept_kernels_are_stale_once_any_source_beside_them_is_other(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("def kernel() -> None: ...")
    (tmp_path / "parts.py").write_text("LIMIT = 1")
    source: dict[str, Any] = {}
    exec(compile("def kernel() -> None: ...", str(tmp_path / "kernels.py"), "exec"), source)

    def stamp() -> str:
        return str(compiled._Beside(source["kernel"], str(tmp_path / "kernels.py")).get_source_stamp())

    before = stamp()
    assert stamp() == before
    (tmp_path / "parts.py").write_text("LIMIT = 2")
    assert stamp() != before


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100_000), shape=SHAPES, timing=st.sampled_from(["pipelined", "sequential"]))
def test_climbing_never_makes_a_plan_slower_and_tells_what_it_takes(
    seed: int, shape: dict[str, float], timing: str
) -> None:
    problem, freight = draw_slot(seed, shape, timing, busy=True)
    rng, rows = np.random.default_rng(seed), 4
    genes, drawn = draw_genes(rng, freight, problem.needs.shape[0], rows)
    genes = genes._replace(thread=np.arange(rows))
    rates = np.sort(drawn.backhaul_bit_s), np.sort(drawn.cloud_bit_s)
    lines, comp = Lines.of(problem, *rates), np.zeros(rows, dtype=np.int64)
    allowed: Bool = np.repeat(freight.valid[None], rows, axis=0)
    climb = Climb(
        options=allowed.sum(axis=2),
        allowed=allowed,
        split=np.ones(rows, dtype=bool),
        steps=np.array([0, 20, 40, 0]),
        below=np.array([-1, 0, 1, 2]),
        seeds=rng.integers(2**63, size=rows),
        kept=8,
        all_kept=True,
    )
    before = planned(freight, genes, comp, lines)[1]
    better, delay_s, kept = climbed(freight, genes, before, comp, lines, climb)

    assert (delay_s <= before).all()
    assert (planned(freight, better, comp, lines)[1] == delay_s).all()
    assert (freight.valid[np.arange(freight.num_parcels), better.option]).all()
    assert kept.option.shape[0] <= rows * climb.kept
    again = climbed(freight, genes, before, comp, lines, climb)
    assert (again[1] == delay_s).all()
