"""Blocks on the air at once: the same clock everywhere, everything is sent, and nothing is slower for it."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import AirConfig, LinkConfig, ScenarioConfig, config_from_dict
from policy.errors import RateError
from policy.interfaces import Bool, Float
from policy.scenario import Scenario, shipped_catalog
from policy.serving import Effort, serve_planned
from policy.serving.clock import planned, timed
from policy.serving.freight import freight_of
from policy.serving.genes import Genes
from policy.serving.joint import timeline_together, total_delay_s, usual_shares
from policy.serving.plans import IN_TURN, Lines
from policy.serving.serve import plan_in_full
from policy.serving.together import Sendings, ends_of, schedule
from policy.slot.problem import SlotProblem
from policy.slot.rates import AirTimes, Party
from policy.slot.timeline import busy_s, carried, run
from policy.world.cheap_radio import ProxyDelay
from tests.policy.serving.problems import random_problem

QUICK = Effort(rounds=2, share=0.25)
SEEDS = st.integers(0, 100_000)
SHARES = np.array([1.0, 1.0, 0.9, 0.82])


@dataclass(frozen=True)
class CrowdedDelay(ProxyDelay):
    """A radio on which each of n broadcasts at once has a known part of its rate."""

    shares: tuple[float, ...] = (1.0, 1.0, 0.9, 0.82, 0.0)

    def check_together(self) -> None:
        pass

    def together_bit_s(self, slot: int, holders: Bool, users: Bool, alone_bit_s: Float) -> Float:
        assert (users.sum(axis=1) <= 1).all()
        count = users.any(axis=2).sum(axis=1)
        return np.asarray(alone_bit_s * np.array(self.shares)[count][:, None])


def crowded(
    seed: int,
    at_once: int = 3,
    shares: tuple[float, ...] | None = None,
    **more: Any,  # noqa: ANN401
) -> SlotProblem:
    problem = random_problem(seed, at_once=at_once, **more)
    cheap = problem.delay
    assert isinstance(cheap, ProxyDelay)
    return replace(
        problem,
        delay=CrowdedDelay(
            snr=cheap.snr,
            bandwidth_hz=cheap.bandwidth_hz,
            coherent=cheap.coherent,
            shares=shares or CrowdedDelay.shares,
        ),
    )


def some_genes(problem: SlotProblem, seed: int, rows: int = 5) -> tuple[Genes, object]:
    freight = freight_of(problem, AirTimes(delay=problem.delay, slot=0))
    rng, options = np.random.default_rng(seed), freight.valid.sum(axis=1)
    ways = freight.sets.num_ways
    genes = Genes(
        option=(rng.random((rows, options.size)) * options).astype(np.int64),
        way=(rng.random((rows, ways.size)) * ways).astype(np.int64),
        turn=rng.random((rows, problem.needs.shape[0])) * 5,
        nudge=rng.normal(size=(rows, options.size)),
        lag=rng.integers(0, 4, rows),
        swift=rng.random(rows) < 0.5,
        thread=np.zeros(rows, dtype=np.int64),
    )
    return genes, freight


def members(users: tuple[int, ...]) -> int:
    return sum(1 << user for user in users)


@settings(max_examples=25)
@given(seed=SEEDS, most=st.integers(2, 3), timing=st.sampled_from(["pipelined", "sequential"]))
def test_the_compiled_clock_is_the_schedule(seed: int, most: int, timing: str) -> None:
    problem = crowded(seed, most, timing=timing)
    genes, freight = some_genes(problem, seed)
    comp, shares = np.zeros(genes.size, dtype=np.int64), SHARES[: most + 1]
    lines = Lines.real(problem, genes.size, shares)
    plans, delay_s = planned(freight, genes, comp, lines)
    air = AirTimes(delay=problem.delay, slot=0)

    assert timed(freight, plans, comp, lines) == pytest.approx(delay_s)
    for row in range(genes.size):
        plan = plan_in_full(problem, freight, plans.rows(np.array([row])), air)
        _, ready_s = carried(plan, problem.links_free.tolist(), problem.timing)
        sendings = Sendings(
            seconds=[sum(cast.seconds) for cast in plan.casts],
            ready_s=ready_s,
            users=[members(cast.users) for cast in plan.casts],
        )
        pieces = schedule(
            sendings, problem.band_free_s, most, lambda chosen: [shares[len(chosen)]] * len(chosen)
        )
        done = np.zeros(problem.needs.shape[0])
        for cast, parts in zip(plan.casts, pieces, strict=True):
            done[list(cast.users)] = np.maximum(done[list(cast.users)], parts[-1].end_s)
        assert delay_s[row] == pytest.approx(done.sum(), rel=1e-6)


@settings(max_examples=25)
@given(seed=SEEDS, most=st.integers(2, 4), weak=st.booleans())
def test_all_is_sent_when_it_may_be_and_no_plan_is_slower(seed: int, most: int, weak: bool) -> None:
    problem = crowded(seed, most, (1.0, 1.0, 0.55, 0.3, 0.2) if weak else None, users=6, blocks=9)
    genes, freight = some_genes(problem, seed, rows=3)
    plans, _ = planned(freight, genes, np.zeros(3, dtype=np.int64), Lines.real(problem, 3))
    air = AirTimes(delay=problem.delay, slot=0)
    for row in range(3):
        plan = plan_in_full(problem, freight, plans.rows(np.array([row])), air)
        line = timeline_together(problem, plan, air, np.array([1.0, 1.0, 0.9, 0.82, 0.7])[: most + 1])
        in_turn = run(plan, problem.links_free.tolist(), problem.band_free_s, problem.timing)

        assert total_delay_s(line) <= total_delay_s(in_turn) * (1 + 1e-9)
        assert sorted((b.block, b.users) for b in line.broadcasts) == sorted(
            (b.block, b.users) for b in in_turn.broadcasts
        )
        came = {(t.target, t.block): t.end_s for t in line.transfers}
        for cast in line.broadcasts:
            begins = max(came.get((node, cast.block), 0.0) for node in cast.holders)
            assert cast.start_s >= max(begins, problem.band_free_s) - 1e-9
        alone = {(b.block, b.users): b.end_s - b.start_s for b in in_turn.broadcasts}
        for cast in line.broadcasts:
            assert cast.alone_s == pytest.approx(alone[cast.block, cast.users])
            for one in cast.pieces:
                assert cast.start_s <= one.start_s < one.end_s <= cast.end_s
                assert 0 < one.share <= 1
        assert busy_s(line.broadcasts) <= sum(b.end_s - b.start_s for b in line.broadcasts) * (1 + 1e-9)


@settings(max_examples=25)
@given(
    seed=SEEDS,
    most=st.integers(1, 4),
    count=st.integers(1, 9),
)
def test_what_is_on_the_air_fits_and_adds_up(seed: int, most: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    sendings = Sendings(
        seconds=rng.exponential(1.0, count).tolist(),
        ready_s=(rng.exponential(1.0, count) * (rng.random(count) < 0.5)).tolist(),
        users=[1 << int(rng.integers(5)) | 1 << int(rng.integers(5)) for _ in range(count)],
    )
    part = rng.uniform(0.4, 1.0, 6)
    pieces = schedule(sendings, 0.5, most, lambda chosen: [float(part[one % 6]) for one in chosen])

    edges = sorted({edge for parts in pieces for piece in parts for edge in (piece.start_s, piece.end_s)})
    for low, high in itertools.pairwise(edges):
        now = [
            one
            for one, parts in enumerate(pieces)
            if any(p.start_s <= low and high <= p.end_s and low < high for p in parts)
        ]
        assert len(now) <= most
        assert all(not sendings.users[a] & sendings.users[b] for a, b in itertools.combinations(now, 2))
        assert all(sendings.ready_s[one] <= low + 1e-9 for one in now)
    for parts, seconds in zip(pieces, sendings.seconds, strict=True):
        assert sum((p.end_s - p.start_s) * p.share for p in parts) == pytest.approx(seconds)
        blocks = rng.dirichlet(np.ones(3)) * seconds
        ends = ends_of(parts, blocks.tolist())
        assert ends[-1][1] == parts[-1].end_s
        assert ends[0][0] == pytest.approx(parts[0].start_s)
        for (_, end), (start, _) in itertools.pairwise(ends):
            assert end <= start + 1e-9
        for (start, end), block in zip(ends, blocks.tolist(), strict=True):
            over = sum(max(0.0, min(p.end_s, end) - max(p.start_s, start)) * p.share for p in parts)
            assert over == pytest.approx(block)


@pytest.mark.parametrize("seed", range(8))
def test_tiny_slots_are_as_fast_as_the_best_of_all_orders(seed: int) -> None:
    """Three blocks of three users, all cached at all nodes: every order, in turn, two or three at once."""
    problem = crowded(seed, cached=1.0, users=3, blocks=3, link_free_s=None)
    problem = replace(problem, needs=np.eye(3, dtype=bool), asked=np.ones(3, dtype=bool))
    air = AirTimes(delay=problem.delay, slot=0)
    per_bit = air.per_bit(np.ones((3, problem.num_nodes), bool), np.eye(3, dtype=bool))[0]
    seconds = problem.air_bits(np.arange(3)) * per_bit
    best = np.inf
    for order in itertools.permutations(range(3)):
        sendings = Sendings(seconds=seconds[list(order)].tolist(), ready_s=[0.0] * 3, users=[1, 2, 4])
        for most in (1, 2, 3):
            pieces = schedule(
                sendings, problem.band_free_s, most, lambda chosen: [SHARES[len(chosen)]] * len(chosen)
            )
            best = min(best, sum(parts[-1].end_s for parts in pieces))

    served = serve_planned(problem, air).user_delay_s.sum()

    assert served == pytest.approx(best, rel=1e-6)
    assert served < serve_planned(replace(problem, at_once=1), air).user_delay_s.sum()


def test_a_radio_on_which_nothing_goes_at_once_leaves_all_in_turn() -> None:
    problem = crowded(3, shares=(1.0, 1.0, 0.4, 0.2, 0.1))
    air = AirTimes(delay=problem.delay, slot=0)

    assert usual_shares(problem, air) is IN_TURN
    together, in_turn = (serve_planned(each, air, QUICK) for each in (problem, replace(problem, at_once=1)))
    assert together.user_delay_s.tolist() == in_turn.user_delay_s.tolist()


def test_the_second_waits_for_what_comes_over_the_backhaul() -> None:
    """Two users, two blocks; the second one's must be fetched: both are on the air only once it has come."""
    snr = np.full((1, 2, 1), 15.0)
    problem = SlotProblem(
        slot=0,
        sizes_bytes=np.array([10_000_000, 10_000_000]),
        delay=CrowdedDelay(snr=snr, bandwidth_hz=100e6, coherent=True),
        asked=np.ones(2, dtype=bool),
        needs=np.eye(2, dtype=bool),
        cached=np.array([[True, False]]),
        links=LinkConfig(backhaul_bit_s=1e9, cloud_bit_s=8e8),
        timing="pipelined",
        at_once=2,
    )
    outcome = serve_planned(problem, AirTimes(delay=problem.delay, slot=0))

    # Alone each takes 0.2 s; the second comes at 0.1 s, and the first has 0.1 s left: at 0.9 of its rate.
    assert outcome.user_delay_s[0] == pytest.approx(0.1 + 0.1 / 0.9)
    assert outcome.user_delay_s[1] == pytest.approx(0.1 + 0.1 / 0.9 + 0.1)
    assert outcome.airtime_s == pytest.approx(outcome.user_delay_s[1])


def test_shares_are_asked_once_and_checked() -> None:
    problem = crowded(0)
    air = AirTimes(delay=problem.delay, slot=0)
    pair = (Party((0,), (0,), 1e6), Party((1, 2), (1, 3), 2e6))
    first = air.shares([pair], 3, 4)[0]

    assert first == dict.fromkeys(pair, 0.9)
    assert air.shares([pair[::-1]], 3, 4)[0] is first
    with pytest.raises(RateError, match="knows of no broadcasts at once"):
        AirTimes(delay=random_problem(0).delay, slot=0).shares([pair], 3, 4)


def test_superposing_is_refused_where_nothing_is_known_of_interference() -> None:
    with pytest.raises(ValueError, match="needs a radio that knows interference"):
        Scenario(ScenarioConfig(air=AirConfig(superpose=2)), shipped_catalog("vision")).world(0)
    with pytest.raises(ValueError, match="pipelined or sequential"):
        config_from_dict({"base": "findings", "air": {"superpose": 2}})
    with pytest.raises(ValueError, match=r"superpose must be in 1\.\.8"):
        AirConfig(superpose=0)


def test_who_would_get_nothing_is_not_sent_beside_others() -> None:
    sendings = Sendings(seconds=[1.0, 1.0, 1.0], ready_s=[0.0] * 3, users=[1, 2, 4])
    shares = {2: [0.5, 0.55], 3: [1.0, 0.9, 0.0]}
    pieces = schedule(sendings, 0.0, 3, lambda chosen: shares[len(chosen)])

    assert all(piece.share > 0 for parts in pieces for piece in parts)
    assert max(parts[-1].end_s for parts in pieces) == pytest.approx(3.0)
