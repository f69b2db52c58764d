"""Better links and more freedom never slow a slot; what is planned is what is played."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import LinkConfig, Timing
from policy.errors import PlacementError
from policy.serving import Effort, serve_planned
from policy.serving.clock import planned
from policy.serving.freight import freight_of
from policy.serving.genes import Genes
from policy.serving.plans import Lines
from policy.serving.search import best_plan
from policy.slot.dynamics import SlotOutcome
from policy.slot.lower_bounds import asked_seconds_per_bit, slot_lower_bound
from policy.slot.problem import SlotProblem
from policy.slot.rates import AirTimes
from policy.slot.tables import ServiceRules
from policy.slot.timeline import CLOUD
from tests.policy.serving.problems import random_problem

QUICK = Effort(rounds=2, share=0.25)
TIMINGS = st.sampled_from(["pipelined", "sequential"])
SEEDS = st.integers(0, 100_000)
RULES = st.builds(
    ServiceRules, comp=st.booleans(), migration=st.booleans(), share_air=st.booleans(), groups=st.booleans()
)


def _serve(problem: SlotProblem) -> SlotOutcome:
    return serve_planned(problem, AirTimes(delay=problem.delay, slot=problem.slot), QUICK)


def _delay(problem: SlotProblem) -> float:
    return float(_serve(problem).user_delay_s.sum())


@settings(max_examples=12)
@given(seed=SEEDS, timing=TIMINGS, rules=RULES, faster=st.floats(1.0, 100.0), which=st.sampled_from("bc2"))
def test_a_faster_link_never_slows_a_slot(
    seed: int, timing: Timing, rules: ServiceRules, faster: float, which: str
) -> None:
    problem = random_problem(seed, timing=timing, rules=rules)
    links = problem.links
    backhaul = links.backhaul_bit_s * (faster if which != "c" else 1.0)
    cloud = min(links.cloud_bit_s * (faster if which != "b" else 1.0), backhaul)
    better = replace(problem, links=LinkConfig(backhaul_bit_s=backhaul, cloud_bit_s=cloud))

    assert _delay(better) <= _delay(problem) * (1 + 1e-9)


@settings(max_examples=12)
@given(seed=SEEDS, timing=TIMINGS, rules=RULES)
def test_more_freedom_never_slows_a_slot(seed: int, timing: Timing, rules: ServiceRules) -> None:
    problem = random_problem(seed, timing=timing)
    weak = _delay(replace(problem, rules=rules))
    for name in ("comp", "migration", "groups"):
        more = replace(rules, **{name: True})
        assert _delay(replace(problem, rules=more)) <= weak * (1 + 1e-9), name
    shared = replace(rules, share_air=True, groups=True)  # serving each alone is one way to split users
    assert _delay(replace(problem, rules=shared)) <= weak * (1 + 1e-9)


@pytest.mark.slow
@settings(max_examples=12)
@given(seed=SEEDS, first=st.integers(1, 7), second=st.integers(1, 7))
def test_another_node_that_may_hold_never_slows_a_slot(seed: int, first: int, second: int) -> None:
    problem = random_problem(seed, link_free_s=None)
    few = np.array([first >> n & 1 for n in range(3)], dtype=bool)
    more = few | np.array([second >> n & 1 for n in range(3)], dtype=bool)

    assert _delay(replace(problem, may_fetch=more)) <= _delay(replace(problem, may_fetch=few)) * (1 + 1e-9)
    out = _serve(replace(problem, may_fetch=few))
    assert all(few[t.target] for t in out.transfers)


@settings(max_examples=12)
@given(seed=SEEDS, links_free=st.floats(0.0, 1e3))
def test_what_comes_before_the_band_is_free_is_sent_in_turn(seed: int, links_free: float) -> None:
    problem = random_problem(seed, link_free_s=np.full(3, links_free), band_free_s=1e4)
    freight = freight_of(problem, AirTimes(delay=problem.delay, slot=0))
    rng, options = np.random.default_rng(seed), freight.valid.sum(axis=1)
    rows, turn = 2, rng.random(problem.needs.shape[0])
    genes = Genes(
        option=np.tile((rng.random(options.size) * options).astype(np.int64), (rows, 1)),
        way=np.zeros((rows, freight.sets.num_ways.size), dtype=np.int64),
        turn=np.tile(turn, (rows, 1)),
        nudge=np.zeros((rows, options.size)),
        lag=np.zeros(rows, dtype=np.int64),
        swift=np.array([False, True]),
        thread=np.zeros(rows, dtype=np.int64),
    )
    plans, _ = planned(freight, genes, np.zeros(rows, dtype=np.int64), Lines.real(problem, rows))

    assert plans.sends[1, : plans.active[1].sum()] == pytest.approx(plans.sends[0, : plans.active[0].sum()])


@settings(max_examples=15)
@given(seed=SEEDS, timing=TIMINGS, rules=RULES, cached=st.sampled_from([0.0, 0.3]))
def test_no_slot_is_served_faster_than_its_bound(
    seed: int, timing: Timing, rules: ServiceRules, cached: float
) -> None:
    problem = random_problem(seed, timing=timing, rules=rules, cached=cached)
    known = asked_seconds_per_bit(problem, AirTimes(delay=problem.delay, slot=0))
    bound = slot_lower_bound(problem, known)

    assert bound * problem.asked.sum() <= _delay(problem) * (1 + 1e-9)
    assert bound >= slot_lower_bound(problem) * (1 - 1e-9)


@settings(max_examples=15)
@given(seed=SEEDS, timing=TIMINGS, rules=RULES)
def test_what_is_planned_is_what_is_played(seed: int, timing: Timing, rules: ServiceRules) -> None:
    problem = random_problem(seed, timing=timing, rules=rules, blocks=9)
    air = AirTimes(delay=problem.delay, slot=0)
    out = serve_planned(problem, air, QUICK)
    choice = best_plan(problem, freight_of(problem, air), QUICK)

    assert out.user_delay_s.sum() == pytest.approx(choice.delay_s, rel=1e-12)
    _keeps_the_laws_of_a_slot(problem, out)


def _keeps_the_laws_of_a_slot(problem: SlotProblem, out: SlotOutcome) -> None:
    nodes, rules, links = problem.num_nodes, problem.rules, problem.links
    got = np.zeros(problem.needs.shape, dtype=np.int64)
    for cast in out.broadcasts:
        got[list(cast.users), cast.block] += 1
        assert (out.user_delay_s[list(cast.users)] >= cast.end_s - 1e-9).all()
        assert rules.comp or len(cast.holders) == 1
        assert rules.share_air or len(cast.users) == 1
        assert (
            not rules.share_air
            or rules.groups
            or set(cast.users) == set(problem.needs[:, cast.block].nonzero()[0])
        )
        for node in cast.holders:
            came = [t.end_s for t in out.transfers if (t.block, t.target) == (cast.block, node)]
            assert problem.cached[node, cast.block] or (came and came[0] <= cast.start_s + 1e-9)
    assert (got == problem.needs).all()
    for line, free in [
        (out.broadcasts, problem.band_free_s),
        *(([t for t in out.transfers if t.target == n], problem.links_free[n]) for n in range(nodes)),
    ]:
        ordered = sorted(line, key=lambda item: item.start_s)
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(ordered))
        assert not ordered or ordered[0].start_s >= free - 1e-12
    for t in out.transfers:
        rate = links.cloud_bit_s if t.source == CLOUD else links.backhaul_bit_s
        assert t.end_s - t.start_s == pytest.approx(8 * problem.sizes_bytes[t.block] / rate)
        came = [o.end_s for o in out.transfers if (o.block, o.target) == (t.block, t.source)]
        assert t.source == CLOUD or problem.cached[t.source, t.block] or came[0] <= t.start_s + 1e-9
        assert t.source == CLOUD or rules.migration
        assert t.source != CLOUD or not problem.cached[:, t.block].any()
    if problem.timing == "sequential" and out.broadcasts and out.transfers:
        assert out.broadcasts[0].start_s >= max(t.end_s for t in out.transfers) - 1e-12


def test_the_same_slot_is_served_alike() -> None:
    problem = random_problem(5, blocks=12)
    one, two = _serve(problem), _serve(problem)

    assert one.broadcasts == two.broadcasts
    assert one.transfers == two.transfers


def test_nobody_is_promised_what_he_cannot_hear() -> None:
    problem = random_problem(3)
    deaf = replace(problem.delay, snr=np.where(np.arange(4)[:, None] == 0, 0.0, problem.delay.snr))  # type: ignore[type-var,attr-defined]
    assert problem.asked[0]
    with pytest.raises(PlacementError, match="nobody can send block"):
        _serve(replace(problem, delay=deaf))
    with pytest.raises(PlacementError, match="no plan serves slot 0"):
        _serve(replace(problem, cached=np.zeros_like(problem.cached), may_fetch=np.zeros(3, dtype=bool)))
