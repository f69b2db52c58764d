"""The fast solvers against cvxpy."""

import numpy as np
import pytest

from radio import draw_iid, solve_broadcast
from radio.bounds import exact_bound
from radio.fast.worst_case import worst_case
from radio.problem import normalise
from radio.reference.robust import difference_of_convex, solve_robust_relaxation
from radio.reference.sca import successive_cones
from radio.reference.sdr import solve_relaxation
from radio.reference.sqp import sequential_quadratic


def instance(seed: int, users: int = 4, nodes: int = 2, antennas: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return draw_iid(users, nodes, antennas, rng) * 10.0 ** rng.uniform(-0.7, 0.7, (users, nodes, 1))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(4))
def test_exact_bound_is_the_value_of_the_sdp(seed: int) -> None:
    g = normalise(instance(seed), 1.0, 1.0).g

    ours = exact_bound(g, np.ones((1, 4), dtype=bool))

    assert ours.upper[0] == pytest.approx(solve_relaxation(g[0]).value, rel=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_scs_and_clarabel_agree_on_the_scaled_problem(seed: int) -> None:
    g = normalise(instance(seed), 1.0, 1.0).g[0]

    assert solve_relaxation(g, "SCS").value == pytest.approx(solve_relaxation(g).value, rel=0.02)


def test_sdp_and_fast_solvers_meet() -> None:
    h = np.stack([instance(seed) for seed in range(3)])

    fast, sdp = solve_broadcast(h, 1.0, 1.0), solve_broadcast(h, 1.0, 1.0, solver="sdp")

    assert fast.upper_bound == pytest.approx(sdp.upper_bound, rel=0.01)
    assert (fast.min_snr >= sdp.min_snr * (1 - 1e-3)).all()
    assert (sdp.min_snr >= 0.5 * sdp.upper_bound).all()


@pytest.mark.parametrize("kind", ["joint", "link"])
def test_robust_bound_is_the_value_of_the_s_procedure(kind: str) -> None:
    h = instance(1, users=3)
    limit = 0.1 * (np.linalg.norm(h.reshape(3, -1), axis=1) if kind == "joint" else np.linalg.norm(h, axis=2))
    problem = normalise(h, 1.0, 1.0, csi_error=limit)

    sdp = solve_robust_relaxation(problem.g[0], problem.error[0], np.ones(2)).value * problem.scale[0]
    full = solve_broadcast(h, 1.0, 1.0, csi_error=limit, rank="full", certify="exact")

    assert full.worst_snr == pytest.approx(sdp, rel=2e-4)
    assert full.upper_bound == pytest.approx(sdp, rel=2e-4)


def test_fast_robust_is_not_below_difference_of_convex_and_cones_do_not_improve_it() -> None:
    h = instance(2, users=3)
    limit = 0.1 * np.linalg.norm(h.reshape(3, -1), axis=1)
    problem = normalise(h, 1.0, 1.0, csi_error=limit)
    g, error, root = problem.g[0], problem.error[0], np.ones(2)

    fast = solve_broadcast(h, 1.0, 1.0, csi_error=limit)
    dc = difference_of_convex(g, error, root, num_rounds=3)
    cones = successive_cones(g, fast.w[..., 0], error, root)
    after = worst_case(g[None], cones[None, ..., None], error[None], root[None]).amplitude.min() ** 2

    assert fast.worst_snr >= dc.guaranteed * problem.scale[0] * 0.999
    assert after * problem.scale[0] == pytest.approx(float(fast.worst_snr), rel=2e-3)
    assert dc.guaranteed <= dc.relaxation.value * (1 + 1e-6)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", ["joint", "link"])
@pytest.mark.parametrize("rank", [1, 2])
def test_quadratic_programs_climb_to_the_fast_solver_and_no_higher(kind: str, rank: int) -> None:
    h = instance(4, users=4, antennas=3)
    limit = 0.1 * (np.linalg.norm(h.reshape(4, -1), axis=1) if kind == "joint" else np.linalg.norm(h, axis=2))
    problem = normalise(h, 1.0, 1.0, csi_error=limit)
    g, error, root = problem.g[0], problem.error[0], np.ones(2)
    fast = solve_broadcast(h, 1.0, 1.0, csi_error=limit, rank=rank)
    rng = np.random.default_rng(0)

    reached = []
    for _ in range(6):
        v = rng.standard_normal((*g.shape[1:], rank)) + 1j * rng.standard_normal((*g.shape[1:], rank))
        for share in (0.1, 1.0):
            v = sequential_quadratic(g, v, share * error, root)
        reached.append(worst_case(g[None], v[None], error[None], root[None]).amplitude.min() ** 2)

    assert max(reached) * problem.scale[0] == pytest.approx(float(fast.worst_snr), rel=2e-3)


def test_cones_climb_from_a_poor_start() -> None:
    g = normalise(instance(3), 1.0, 1.0).g[0]
    start = np.ones((2, 2), dtype=complex) / np.sqrt(2)

    beam = successive_cones(g, start)

    before = np.abs(np.einsum("kna,na->k", g, start)).min()
    assert np.abs(np.einsum("kna,na->k", g, beam)).min() > before
    assert (np.linalg.norm(beam, axis=1) <= 1 + 1e-9).all()
