"""What a solver returns: the beamformer, what it achieves, and how far from the best it can be."""

from dataclasses import dataclass

import numpy as np

from radio.problem import DEAD_USER, NO_ANSWER, NO_HOLDER, NO_USER, OK, OUTAGE, Problem
from radio.snr import rate_bit_s_hz
from radio.types import BoolArray, ComplexArray, FloatArray, StrArray

__all__ = ["KKT_TOLERANCE", "BroadcastResult", "make_result"]

KKT_TOLERANCE = 3e-3
"""Residual up to which a beam counts as a local optimum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastResult:
    """A batch of solved broadcasts; the leading axes `...` are the batch axes of the call."""

    w: ComplexArray
    """Beamformer, (..., nodes, antennas, rank), sqrt(W); zero at nodes that do not hold the block."""
    snr: FloatArray
    """SNR of each user from w on the given CSI, (..., users); never NaN, 0 for masked and dead users."""
    min_snr: FloatArray
    """SNR of the weakest user, (...); inf where no user waits, 0 where no node holds the block or a user is
    dead and not left out."""
    worst_snr: FloatArray
    """As min_snr, but guaranteed for every channel in the CSI error ball; equal to it without CSI error."""
    rate_bit_s_hz: FloatArray
    """log2(1 + worst_snr), (...)."""
    upper_bound: FloatArray
    """No beamformer has a higher worst_snr, (...); with CSI error and one column in w, none of rank one. From
    multipliers by an eigenvalue, in double precision to 1e-9 of itself and 1e-12 of the weakest user's
    matched-filter SNR (which counts near outage)."""
    gap: FloatArray
    """1 - worst_snr / upper_bound, (...): 0 is proven optimal."""
    kkt_residual: FloatArray
    """No first-order step from w gains more than this share of worst_snr, (...), and none at all more than
    gap / (1 - gap), which this is at most: 0 at a KKT point."""
    status: StrArray
    """ok, no holder, no user, dead user (a user hears no holder), outage (nothing can be guaranteed) or no
    answer (a convex solver failed on this row), (...)."""
    dropped: BoolArray
    """Users that wait but hear no holder, (..., users): w serves the others only. With
    on_dead_user="drop" the numbers above are of the others, too; else they are of all, and so 0."""

    def __repr__(self) -> str:
        *_, nodes, antennas, rank = self.w.shape
        users, count = self.snr.shape[-1], self.gap.size
        sizes = f"{count} x {users} users, {nodes} nodes of {antennas} antennas, rank {rank}"
        states = ", ".join(map(str, np.unique(self.status)))
        worst = f", worst SNR {self.worst_snr.min():.4g}, gap {self.gap.max():.1e}" if count else ""
        return f"BroadcastResult({sizes}{worst}: {states})"

    @property
    def settled(self) -> BoolArray:
        """Whether w is a local optimum to first order, within KKT_TOLERANCE, (...)."""
        return np.asarray(self.kkt_residual <= KKT_TOLERANCE)


def make_result(
    problem: Problem,
    v: ComplexArray,
    snr: FloatArray,
    worst: FloatArray,
    bound: FloatArray,
    failed: BoolArray,
    residual: FloatArray | float = np.inf,
) -> BroadcastResult:
    """Give the answers physical units and the caller's batch shape.

    Args:
        problem: What was solved.
        v: Scaled beams, (batch, nodes, antennas, rank), ||v_n|| <= 1.
        snr: SNR of each user from v on the physical channel, (batch, users).
        worst: Guaranteed SNR of the weakest user, (batch,).
        bound: Upper bound on it, (batch,), linear SNR.
        residual: KKT residual of v, (batch,), or inf where only the gap is known.
        failed: Rows on which a solver gave no answer, (batch,).

    Returns:
        The result.
    """
    users = problem.users
    least = np.where(users, snr, np.inf).min(axis=-1, initial=np.inf)
    status = problem.status.copy()
    status[(status == OK) & failed] = NO_ANSWER
    status[(status == OK) & ~(worst > 0)] = OUTAGE
    nobody = status == NO_USER
    unheard = (status == NO_HOLDER) | (status == DEAD_USER)
    worst = np.where(nobody, np.inf, np.where(unheard, 0.0, worst))
    bound = np.where(
        nobody,
        np.inf,
        np.where(unheard, 0.0, np.where(worst <= bound * (1 + 1e-9), np.maximum(bound, worst), bound)),
    )
    solved = np.isfinite(bound) & (bound > 0)
    gap = np.where(solved, 1.0 - worst / np.where(solved, bound, 1.0), 0.0)
    loss = np.where(gap < 1.0, gap / np.where(gap < 1.0, 1.0 - gap, 1.0), np.inf)
    shape = problem.batch_shape
    return BroadcastResult(
        w=(v * np.sqrt(problem.power_w)[:, :, None, None]).reshape(*shape, *v.shape[1:]),
        snr=np.where(users, snr, 0.0).reshape(*shape, users.shape[1]),
        min_snr=np.where(nobody, np.inf, np.where(unheard, 0.0, least)).reshape(shape),
        worst_snr=worst.reshape(shape),
        rate_bit_s_hz=rate_bit_s_hz(worst).reshape(shape),
        upper_bound=bound.reshape(shape),
        gap=gap.reshape(shape),
        kkt_residual=np.fmin(residual, np.maximum(loss, 0.0)).reshape(shape),
        status=status.reshape(shape),
        dropped=problem.dropped.reshape(*shape, users.shape[1]),
    )
