import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.errors import SchemeError
from policy.interfaces import BlockCatalog, Bool, Float, Int
from policy.schemes.trimcaching import HitProblem, combinations, knapsack, place_gen, place_spec


@st.composite
def catalogs(draw: st.DrawFn, models: int = 4) -> BlockCatalog:
    """Up to three shared blocks and one own block for some of the models."""
    shared = draw(st.integers(1, 3))
    uses = draw(
        st.lists(st.lists(st.booleans(), min_size=shared, max_size=shared), min_size=models, max_size=models)
    )
    own = draw(st.lists(st.booleans(), min_size=models, max_size=models))
    rows = np.zeros((models, shared + models), dtype=bool)
    rows[:, :shared] = uses
    rows[np.arange(models), shared + np.arange(models)] = own | ~rows[:, :shared].any(axis=1)
    rows = rows[:, rows.any(axis=0)]
    sizes = draw(st.lists(st.integers(1, 9), min_size=rows.shape[1], max_size=rows.shape[1]))
    return BlockCatalog(sizes_bytes=np.array(sizes), members=rows)


@st.composite
def problems(draw: st.DrawFn) -> HitProblem:
    catalog = draw(catalogs())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    users, nodes = 3, 2
    return HitProblem(
        demand=rng.random((users, catalog.num_models)) * rng.integers(0, 2, (users, catalog.num_models)),
        reach=rng.random((nodes, users, catalog.num_models)) < 0.7,
        catalog=catalog,
        capacity_bytes=rng.integers(1, catalog.dedup_bytes + 2, nodes).astype(np.float64),
    )


def best_by_trying(problem: HitProblem) -> float:
    """Hit ratio of the best of all placements of models."""
    nodes, models = problem.capacity_bytes.size, problem.catalog.num_models
    rows = [np.array(bits) for bits in itertools.product((False, True), repeat=models)]
    fitting = [
        [row for row in rows if problem.used_bytes(row[None])[0] <= problem.capacity_bytes[n]]
        for n in range(nodes)
    ]
    return max(problem.hit_ratio(np.stack(choice)) for choice in itertools.product(*fitting))


@given(problem=problems(), epsilon=st.sampled_from([0.01, 0.1, 0.5]))
@settings(deadline=None, max_examples=40)
def test_spec_keeps_its_guarantee(problem: HitProblem, epsilon: float) -> None:
    placed = place_spec(problem, combinations(problem.catalog), epsilon)

    assert (problem.used_bytes(placed) <= problem.capacity_bytes).all()
    assert problem.hit_ratio(placed) >= (1 - epsilon) / 2 * best_by_trying(problem) - 1e-12


@given(problem=problems())
@settings(deadline=None, max_examples=40)
def test_gen_fits_cannot_be_added_to_and_keeps_its_bound(problem: HitProblem) -> None:
    placed = place_gen(problem)
    reached = problem.hit_ratio(placed)
    best = best_by_trying(problem)
    most_models = max(1, problem.capacity_bytes.size * problem.catalog.num_models)

    assert (problem.used_bytes(placed) <= problem.capacity_bytes).all()
    assert best / most_models - 1e-12 <= reached <= best + 1e-12
    for place in np.argwhere(~placed):
        more = placed.copy()
        more[tuple(place)] = True
        fits = (problem.used_bytes(more) <= problem.capacity_bytes).all()
        assert not fits or problem.hit_ratio(more) <= reached + 1e-12


def test_both_find_the_best_placement_of_a_hand_worked_case() -> None:
    # one node with room for 10; models 0 and 1 share a base of 6 and add 2 each; model 2 is a block of 10
    catalog = BlockCatalog(
        sizes_bytes=np.array([6, 2, 2, 10]),
        members=np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=bool),
    )
    problem = HitProblem(
        demand=np.array([[0.3, 0.3, 0.25]]),
        reach=np.ones((1, 1, 3), dtype=bool),
        catalog=catalog,
        capacity_bytes=np.array([10.0]),
    )

    for placed in (place_gen(problem), place_spec(problem, combinations(catalog), 0.1)):
        np.testing.assert_array_equal(placed, [[True, True, False]])
    assert problem.hit_ratio(placed) == pytest.approx(0.6 / 0.85)


def test_gen_can_be_far_off_where_spec_is_not() -> None:
    # greedy by gain takes the big model; the two small ones together serve more
    catalog = BlockCatalog(sizes_bytes=np.array([10, 5, 5]), members=np.eye(3, dtype=bool))
    problem = HitProblem(
        demand=np.array([[0.4, 0.35, 0.35]]),
        reach=np.ones((1, 1, 3), dtype=bool),
        catalog=catalog,
        capacity_bytes=np.array([10.0]),
    )

    np.testing.assert_array_equal(place_gen(problem), [[True, False, False]])
    np.testing.assert_array_equal(place_spec(problem, combinations(catalog), 0.05), [[False, True, True]])


def test_a_knapsack_of_the_smallest_values_takes_what_fits() -> None:
    taken = knapsack(np.array([5e-324, 5e-324]), np.array([1, 1]), 1, 0.05)

    assert taken.sum() == 1


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    data=st.data(),
    epsilon=st.sampled_from([0.05, 0.3, 0.9]),
)
@settings(deadline=None, max_examples=60)
def test_knapsack_is_near_the_optimum(values: list[float], data: st.DataObject, epsilon: float) -> None:
    weight: Int = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values))))
    room = data.draw(st.integers(0, 30))
    value: Float = np.array(values)
    taken = knapsack(value, weight, room, epsilon)
    choices = [np.array(bits) for bits in itertools.product((False, True), repeat=len(values))]
    best = max(float(value[c].sum()) for c in choices if weight[c].sum() <= room)

    assert weight[taken].sum() <= room
    assert value[taken].sum() >= (1 - epsilon) * best - 1e-12


@given(catalog=catalogs())
@settings(deadline=None)
def test_combinations_are_the_unions_of_the_shared_parts(catalog: BlockCatalog) -> None:
    choices = combinations(catalog)
    shared: Bool = catalog.members & (catalog.members.sum(axis=0) > 1)
    unions = {
        tuple(shared[list(models)].any(axis=0))
        for count in range(catalog.num_models + 1)
        for models in itertools.combinations(range(catalog.num_models), count)
    }

    assert len(choices.size_bytes) == len(unions)
    assert sorted(choices.size_bytes) == sorted(int(np.array(u) @ catalog.sizes_bytes) for u in unions)
    assert choices.allows.any(axis=0).all()


def test_too_many_combinations_are_refused() -> None:
    pairs = 13
    rows = np.kron(np.eye(pairs, dtype=bool), np.array([[1], [1]], dtype=bool))
    catalog = BlockCatalog(sizes_bytes=np.ones(pairs, dtype=np.int64), members=rows)

    with pytest.raises(SchemeError, match="at most 4096 combinations"):
        combinations(catalog)
