"""The public solver: broadcast beamforming with a certificate."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from radio.bounds.eigen import relaxation_columns
from radio.errors import BadInputError
from radio.fast.effort import Effort
from radio.fast.robust_search import EXTRA_COLUMNS, search_robust
from radio.fast.search import Certify, Kernel, search
from radio.fast.weights import fixed_point
from radio.fast.worst_case import worst_case
from radio.problem import Problem, normalise
from radio.result import BroadcastResult, make_result
from radio.snr import broadcast_snr
from radio.types import ComplexArray, FloatArray

__all__ = ["solve_broadcast"]

_CHUNK_NUMBERS = 1 << 18
"""Complex numbers of CSI solved together: keeps the working set in the cache."""


def solve_broadcast(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    holders: ArrayLike | None = None,
    users: ArrayLike | None = None,
    csi_error: ArrayLike | None = None,
    rank: int | Literal["full"] = 1,
    solver: Literal["fast", "sdp", "global"] = "fast",
    certify: Certify = "eig",
    rng: np.random.Generator | None = None,
    *,
    effort: Effort | None = None,
    device: str | None = None,
) -> BroadcastResult:
    """Maximise the SNR of the weakest user of a CoMP broadcast, with a power limit per node.

    max_w min_k sum_r |sum_na h[k,n,a] w[n,a,r]|^2 / noise_k subject to ||w_n||^2 <= P_n, w_n = 0 where node
    n does not hold the block. One column is a beam, two are beamformed Alamouti, "full" is as many as the
    relaxation needs.

    Args:
        h: CSI, complex (..., users, nodes, antennas), already conjugated: user k receives sum(h[k] * w).
        power_w: Power limit, (..., nodes) or one for all, W.
        noise_w: Noise, (..., users) or one for all, W.
        holders: Nodes that may send, bool (..., nodes); None is all.
        users: Users that wait, bool (..., users); None is all.
        csi_error: Radius of the CSI error, in units of h: None, (..., users) joint or (..., users, nodes)
            per link.
        rank: Columns of w: 1, 2, ... or "full".
        solver: "fast" (fixed point), "sdp" (cvxpy relaxation and Gaussian randomisation) or "global" (branch
            and bound for rank 1 without CSI error: a beam and a bound on any single beam, 0.1 % apart unless
            the search hits its limit; upper_bound is then that bound).
        certify: Bound: "eig" (eigenvalue), "exact" (interior point) or "none" (matched filter; no re-runs).
        rng: Source of the random starts; None is a generator seeded with 0, so that equal calls give equal
            answers.
        effort: Starts and iterations of the fast solver; None is DEFAULT_EFFORT, or WIDE_EFFORT above rank 1.
        device: None runs in numpy, fastest on one core; a torch device ("cpu", "cuda") runs
            the nominal iteration there, for large batches.

    Returns:
        Beamformer, SNR recomputed from it on h in double precision, rate, upper bound, gap and status.
        Leading axes
        broadcast: one h with many masks is a batch.

    Raises:
        BadInputError: If an argument has a wrong shape or value; it names the offending indices.
    """
    if solver not in ("fast", "sdp", "global") or certify not in ("eig", "exact", "none"):
        raise BadInputError("solver, certify", "fast|sdp|global, eig|exact|none", f"{solver}, {certify}")
    if solver == "global" and (rank != 1 or csi_error is not None):
        raise BadInputError("solver", "rank 1 and no csi_error for global", f"{rank}, {type(csi_error)}")
    if rank != "full" and (not isinstance(rank, int) or rank < 1):
        raise BadInputError("rank", 'an int >= 1 or "full"', str(rank))
    rng = np.random.default_rng(0) if rng is None else rng
    problem = normalise(h, power_w, noise_w, holders, users, csi_error)
    num_users, num_nodes, num_antennas = problem.g.shape[1:]
    full = relaxation_columns(num_users, num_nodes) + (0 if problem.error is None else EXTRA_COLUMNS)
    full = min(full, num_nodes * num_antennas)
    columns = full if rank == "full" else rank
    v = np.zeros((len(problem.scale), num_nodes, num_antennas, columns), dtype=np.complex128)
    bound, worst = np.ones(len(problem.scale)), np.zeros(len(problem.scale))
    residual = np.full(len(problem.scale), np.inf)
    seed = rng.integers(1 << 63)
    live = np.flatnonzero(problem.live)
    size = max(16, (1 if device is None else 32) * _CHUNK_NUMBERS // max(problem.g[:1].size, 1))
    settings = _Settings(solver, certify, effort, _kernel(device))
    for rows in (live[i : i + size] for i in range(0, len(live), size)):
        same = np.random.default_rng(seed)  # a row's answer does not depend on where it stands
        v[rows], worst[rows], bound[rows], residual[rows] = _solve_rows(
            problem, rows, columns, settings, same
        )
    snr = broadcast_snr(problem.g, v, np.ones(1)) * problem.scale[:, None]
    return make_result(problem, v, snr, worst * problem.scale, bound * problem.scale, residual)


def _solve_rows(
    problem: Problem,
    rows: np.ndarray,
    columns: int,
    settings: "_Settings",
    rng: np.random.Generator,
) -> tuple[ComplexArray, FloatArray, FloatArray, FloatArray | float]:
    """Beams, guaranteed power, bound and KKT residual of some rows, in scaled units."""
    if settings.solver == "sdp":
        from radio.reference.rows import solve_rows

        return *solve_rows(problem, rows, columns, rng), np.inf
    if settings.solver == "global":
        from radio.reference.rows import solve_rows_globally

        return *solve_rows_globally(problem, rows), np.inf
    g, users = problem.g[rows], problem.users[rows]
    if problem.error is not None:
        error, root = problem.error[rows], np.sqrt(problem.power_w[rows]) * problem.holders[rows]
        v, _, bound = search_robust(g, users, columns, error, root, rng, settings.certify)
        v = v * problem.holders[rows][:, :, None, None]
        amplitude = worst_case(g, v, error, root).amplitude
        return v, np.where(users, amplitude, np.inf).min(axis=1) ** 2, bound, np.inf
    found = search(g, users, columns, rng, settings.kernel, settings.certify, settings.effort)
    v = found.v * problem.holders[rows][:, :, None, None]
    received = broadcast_snr(g, v, np.ones(1))
    return v, np.where(users, received, np.inf).min(axis=1), found.bound, found.residual


class _Settings(NamedTuple):
    """How to solve."""

    solver: str
    certify: Certify
    effort: Effort | None
    kernel: Kernel


def _kernel(device: str | None) -> Kernel:
    """The fixed point for a device; torch is imported only where it is asked for."""
    if device is None:
        return fixed_point
    from radio.fast.torch_weights import TorchKernel

    return TorchKernel(device)
