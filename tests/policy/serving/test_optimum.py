"""The search beside all plans of small slots, and beside bounds."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.bounds import slot_lower_bound
from policy.serving import Effort
from policy.serving.clock import timed
from policy.serving.freight import Freight, freight_of
from policy.serving.plans import Lines, Plans
from policy.serving.search import best_plan
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, AirTimes
from tests.policy.serving.problems import random_problem


def _optimum(problem: SlotProblem, freight: Freight) -> float:
    """Least sum of delays over all holders, splits of users, orders of links and orders of the band."""
    best = np.inf
    for ways in product(*(range(count) for count in freight.sets.num_ways)):
        chosen = np.array(ways)[freight.kind[freight.item_parcel]]
        active = freight.in_way[np.arange(chosen.size), chosen]
        sends = np.array(list(permutations(np.flatnonzero(active).tolist())), dtype=np.int64)
        rest = np.flatnonzero(~active)
        sends = np.concatenate([sends, np.tile(rest, (sends.shape[0], 1))], axis=1)
        for option in product(*(range(count) for count in freight.valid.sum(axis=1))):
            moves = _move_orders(freight, option)
            first, second = (part.ravel() for part in np.meshgrid(*map(np.arange, (len(moves), len(sends)))))
            plans = Plans(
                option=np.tile(np.array(option), (first.size, 1)),
                active=np.tile(active, (first.size, 1)),
                moves=moves[first],
                sends=sends[second],
            )
            best = min(best, _least(problem, freight, plans))
    return best


def _move_orders(freight: Freight, option: tuple[int, ...]) -> np.ndarray:
    """All orders of the moves that are needed, copies behind what they are copies of."""
    count = freight.num_parcels
    copied = [bool(freight.copies[p, o]) for p, o in enumerate(option)]
    needed = [p for p in range(count) if copied[p] or not freight.held[p]]
    needed += [count + p for p in range(count) if copied[p] and not freight.held[p]]
    orders = [
        [*order, *[-1] * (2 * count - len(order))]
        for order in permutations(needed)
        if all(order.index(m) > order.index(m - count) for m in needed if m >= count)
    ]
    return np.array(orders, dtype=np.int64)


def _least(problem: SlotProblem, freight: Freight, plans: Plans) -> float:
    count = plans.option.shape[0]
    return float(timed(freight, plans, np.full(count, COMP), Lines.real(problem, count)).min())


def _gaps(cases: range, effort: Effort, **shape: int) -> list[float]:
    gaps = []
    for seed in cases:
        problem = random_problem(seed, **shape)
        if not problem.wanted.size:
            continue
        freight = freight_of(problem, AirTimes(delay=problem.delay, slot=0))
        found = best_plan(problem, freight, effort).delay_s
        gaps.append(found / _optimum(problem, freight) - 1)
    return gaps


def _tell(gaps: list[float]) -> None:
    spread = ", ".join(f"{q} %: {np.percentile(gaps, q):.4f}" for q in (0, 50, 75, 90, 100))
    print(  # noqa: T201 - shown with -s
        f"{len(gaps)} slots, above the optimum by {np.mean(gaps):.4f} in the mean; {spread}"
    )


def test_the_search_is_near_the_optimum_of_small_slots() -> None:
    gaps = _gaps(range(14), Effort(), nodes=2, users=2, blocks=3)
    _tell(gaps)

    assert min(gaps) >= -1e-9
    assert np.mean(gaps) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "users", "blocks"), [(2, 2, 3), (3, 2, 2), (3, 3, 2), (4, 2, 2)])
def test_the_search_is_near_the_optimum_of_more_slots(nodes: int, users: int, blocks: int) -> None:
    gaps = _gaps(range(100, 124), Effort(), nodes=nodes, users=users, blocks=blocks)
    _tell(gaps)

    assert min(gaps) >= -1e-9
    assert np.mean(gaps) <= 0.02


@settings(max_examples=12)
@given(seed=st.integers(0, 100_000), timing=st.sampled_from(["pipelined", "sequential"]))
def test_no_plan_beats_the_bound(seed: int, timing: str) -> None:
    problem = random_problem(seed, timing=timing)
    air = AirTimes(delay=problem.delay, slot=0)
    found = best_plan(problem, freight_of(problem, air), Effort(rounds=1)).delay_s

    assert slot_lower_bound(problem) <= found / problem.asked.sum() * (1 + 1e-9)


def test_the_bound_is_met_where_nothing_has_to_move_and_users_are_alike() -> None:
    problem = random_problem(1, users=3, blocks=5, cached=1.1, link_free_s=None)
    even = replace(problem.delay, snr=np.ones_like(problem.delay.snr))  # type: ignore[type-var,attr-defined]
    problem = replace(problem, delay=even)
    air = AirTimes(delay=problem.delay, slot=0)

    found = best_plan(problem, freight_of(problem, air)).delay_s
    assert found / problem.asked.sum() == pytest.approx(slot_lower_bound(problem))
