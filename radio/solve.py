"""The public solver: broadcast beamforming with a certificate."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from radio.engine import Settings, solve_problem
from radio.errors import BadInputError
from radio.fast.effort import Effort
from radio.fast.search import Certify
from radio.inputs import as_generator, as_rank
from radio.problem import Ball, OnDeadUser, normalise, scaled_start
from radio.result import BroadcastResult, make_result
from radio.snr import broadcast_snr

__all__ = ["solve_broadcast"]


@np.errstate(all="ignore")  # ranges are checked at the door, and no answer is taken that is not finite
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
    rng: np.random.Generator | int | None = None,
    *,
    effort: Effort | None = None,
    device: str | None = None,
    ball: Ball | None = None,
    on_dead_user: OnDeadUser = "report",
    start: ArrayLike | None = None,
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
            per link. An array that could be (batch, users) and (users, nodes) is refused without `ball`.
        rank: Columns of w: 1, 2, ... or "full". A higher rank is never worse than a lower one.
        solver: "fast" (fixed point), "sdp" (cvxpy relaxation and Gaussian randomisation) or "global" (branch
            and bound for rank 1 without CSI error: a beam and a bound on any single beam, 0.1 % apart unless
            the search hits its limit; upper_bound is then that bound).
        certify: Bound: "eig" (eigenvalue), "exact" (also by interior point: never looser) or "none" (matched
            filter; no re-runs).
        rng: Source of the random starts, or a seed; None is 0, so that equal calls give equal answers.
        effort: Starts and iterations of the fast solver; None is DEFAULT_EFFORT, or WIDE_EFFORT above rank 1.
            A single broadcast of rank 1 takes SINGLE_EFFORT, about twice as fast and within what the gap
            leaves; with an effort given, its answer is the same as in a batch.
        device: None runs in numpy, fastest on one core; a torch device ("cpu", "cuda") runs
            the nominal iteration there, for large batches.
        ball: What csi_error is, "joint" or "link"; None lets its shape say so.
        on_dead_user: A waiting user who hears no holder. "report": status "dead user" and rate 0, as the
            block does not reach everybody; w is still the best for the others. "drop": everything is of the
            others. "error": refused, with the indices. `dropped` says who, unless nobody is left to serve.
        start: Beams w to start from, complex (..., nodes, antennas, rank), such as those of the last slot;
            the answer is never worse. They are polished to a local optimum, beside a few near starts; the
            search is whole only where that more than doubles their SNR, or with csi_error or another solver.
            Several times faster, most so with certify "none", which leaves out all but the polish; now and
            then a call without a start finds better beams.

    Returns:
        Beamformer, SNR recomputed from it on h in double precision, rate, upper bound, gap and status.
        Leading axes broadcast: one h with many masks is a batch. No number is NaN.

    Raises:
        BadInputError: If an argument has a wrong shape or value; it names the offending indices.
    """
    if solver not in ("fast", "sdp", "global") or certify not in ("eig", "exact", "none"):
        raise BadInputError("solver, certify", "fast|sdp|global, eig|exact|none", f"{solver}, {certify}")
    columns, generator = as_rank(rank), as_generator(rng)
    if solver == "global" and (columns != 1 or csi_error is not None):
        raise BadInputError("solver", "rank 1 and no csi_error for global", f"{rank}, {type(csi_error)}")
    problem = normalise(h, power_w, noise_w, holders, users, csi_error, ball=ball, on_dead_user=on_dead_user)
    known = (
        None if start is None else scaled_start(start, problem, None if isinstance(columns, str) else columns)
    )
    answer = solve_problem(problem, columns, Settings(solver, certify, effort, device), generator, known)
    # Back in units before squares are taken: a strong user's square need not fit beside the weakest's.
    snr = broadcast_snr(problem.g * np.sqrt(problem.scale)[:, None, None, None], answer.v, np.ones(1))
    worst = answer.worst * problem.scale
    if problem.error is None:
        worst = np.where(problem.users, snr, np.inf).min(axis=1, initial=np.inf)
    bound = answer.bound * problem.scale
    return make_result(problem, answer.v, snr, worst, bound, answer.failed, answer.residual)
