"""From physical units to a problem every solver can trust: checked, masked, divided by noise, scaled."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.inputs import LARGEST, as_complex, as_mask, as_real, reject
from radio.types import BoolArray, ComplexArray, FloatArray, StrArray

__all__ = [
    "DEAD_USER",
    "NO_ANSWER",
    "NO_HOLDER",
    "NO_USER",
    "OK",
    "OUTAGE",
    "Ball",
    "OnDeadUser",
    "Problem",
    "normalise",
    "scaled_start",
]

OK, NO_HOLDER, NO_USER, DEAD_USER, OUTAGE = "ok", "no holder", "no user", "dead user", "outage"
NO_ANSWER = "no answer"
Ball = Literal["joint", "link"]
OnDeadUser = Literal["report", "drop", "error"]
_STRONG = 1e6
"""Over the weakest user's amplitude: a user who hears more than this is served by a trace of power."""
_SILENT = 1e-290
"""SNR below which a user hears nothing: near the least number of double precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A batch of broadcasts without units: maximise min_k |sum g_k v|^2 with ||v_n|| <= 1.

    g = h sqrt(P_n) / (sigma_k sqrt(scale)), where scale is the SNR that the weakest user would have if all
    beams were matched to it alone. Every optimum is then in (0, 1].
    """

    g: ComplexArray
    """(batch, users, nodes, antennas), complex128; zero where a user or a node is masked out."""
    scale: FloatArray
    """SNR of one unit, (batch,); 1 where the row has no answer."""
    holders: BoolArray
    """(batch, nodes): holds the block and has power."""
    users: BoolArray
    """Users that wait and hear a holder, (batch, users)."""
    strong: BoolArray
    """Of these, users so strong beside the weakest that any trace of power serves them, (batch, users)."""
    dropped: BoolArray
    """Users that wait and hear no holder, though there is one, (batch, users)."""
    power_w: FloatArray
    """(batch, nodes)."""
    status: StrArray
    """(batch,): what is known before solving."""
    batch_shape: tuple[int, ...]
    error: FloatArray | None
    """CSI error in units of g sqrt(P_n): (batch, users) joint or (batch, users, nodes) per link, or None."""

    @property
    def live(self) -> BoolArray:
        """Rows of which every user can be served, (batch,)."""
        return np.asarray(self.status == OK)

    @property
    def solvable(self) -> BoolArray:
        """Rows that want solving, (batch,): the live ones, and those that have other users than dead ones."""
        return np.asarray(self.live | ((self.status == DEAD_USER) & self.users.any(axis=-1)))


def normalise(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    holders: ArrayLike | None = None,
    users: ArrayLike | None = None,
    csi_error: ArrayLike | None = None,
    *,
    ball: Ball | None = None,
    on_dead_user: OnDeadUser = "report",
) -> Problem:
    """Check the input, apply the masks and scale; arguments as in `radio.solve_broadcast`."""
    if on_dead_user not in ("report", "drop", "error"):
        raise BadInputError("on_dead_user", "report|drop|error", str(on_dead_user))
    csi, power, noise, holder_mask, user_mask, shape = _checked(h, power_w, noise_w, holders, users)
    num_users, num_nodes, num_antennas = csi.shape[-3:]
    batch = int(np.prod(shape, dtype=np.int64))
    holder_mask = np.broadcast_to(holder_mask & (power > 0), (*shape, num_nodes)).reshape(batch, num_nodes)
    user_mask = np.broadcast_to(user_mask, (*shape, num_users)).reshape(batch, num_users)
    g = csi * np.sqrt(power)[..., None, :, None] / np.sqrt(noise)[..., :, None, None]
    g = np.broadcast_to(g, (*shape, *csi.shape[-3:])).reshape(batch, num_users, num_nodes, num_antennas)
    g = g * (holder_mask[..., None, :] & user_mask[..., :, None])[..., None]
    matched = np.linalg.norm(g, axis=-1).sum(axis=-1) ** 2
    held = np.asarray(holder_mask.any(axis=-1))
    dropped = user_mask & (matched < _SILENT) & held[:, None]
    waiting = user_mask & ~dropped
    status = _status(held, user_mask, dropped, on_dead_user, shape)
    weakest = np.where(waiting & held[:, None], matched, np.inf).min(axis=-1, initial=np.inf)
    scale = np.where(np.isfinite(weakest), weakest, 1.0)
    root = np.sqrt(scale)
    return Problem(
        g=g / root[:, None, None, None],
        scale=scale,
        holders=holder_mask,
        users=waiting,
        strong=waiting & (np.sqrt(matched) > _STRONG * root[:, None]),
        dropped=dropped,
        power_w=np.broadcast_to(power, (*shape, num_nodes)).reshape(batch, num_nodes),
        status=status,
        batch_shape=shape,
        error=_error(csi_error, noise, (*shape, num_users, num_nodes), root, ball),
    )


def _status(
    held: BoolArray, asked: BoolArray, dropped: BoolArray, on_dead_user: OnDeadUser, shape: tuple[int, ...]
) -> StrArray:
    """What is known of each row before solving, (batch,)."""
    if on_dead_user == "error":
        dead = dropped.reshape(*shape, dropped.shape[1])
        reject("h", dead, "users that hear a holder", "nothing heard (batch axes, user)")
    status = np.full(len(held), OK, dtype="<U9")
    some = np.asarray(dropped.any(axis=1))
    if on_dead_user == "drop":
        some &= (dropped == asked).all(axis=1)
    status[some] = DEAD_USER
    status[~held] = NO_HOLDER
    status[~asked.any(axis=-1)] = NO_USER
    return status


def _checked(
    h: ArrayLike, power_w: ArrayLike, noise_w: ArrayLike, holders: ArrayLike | None, users: ArrayLike | None
) -> tuple[ComplexArray, FloatArray, FloatArray, BoolArray, BoolArray, tuple[int, ...]]:
    """The arrays in double precision, and the batch shape they agree on."""
    csi = as_complex("h", h)
    num_users, num_nodes = csi.shape[-3:-1]
    power = _trailing("power_w", power_w, num_nodes, "nodes")
    noise = _trailing("noise_w", noise_w, num_users, "users")
    reject("power_w", ~(np.isfinite(power) & (power >= 0)), "finite watts >= 0", "something else")
    reject("noise_w", ~(np.isfinite(noise) & (noise > 0)), "finite watts > 0", "something else")
    reject("power_w", power > 1.001 * LARGEST, f"watts of at most {LARGEST:g}", "more")
    noisy = (noise > 1.001 * LARGEST) | (noise < 0.999 / LARGEST)
    reject("noise_w", noisy, f"watts from {1.0 / LARGEST:g} to {LARGEST:g}", "something else")
    masks = as_mask("holders", holders, num_nodes), as_mask("users", users, num_users)
    shapes = [csi.shape[:-3], *(array.shape[:-1] for array in (power, noise, *masks))]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise BadInputError("batch axes", "shapes that broadcast", " ".join(map(str, shapes))) from None
    return csi, power, noise, *masks, shape


def _trailing(name: str, value: ArrayLike, size: int, axis: str) -> FloatArray:
    array = as_real(name, value)
    if array.ndim == 0:
        array = np.broadcast_to(array, (size,))
    if array.shape[-1] != size:
        raise BadInputError(name, f"(..., {axis}) with {size} {axis}", str(array.shape))
    return array


def _error(
    csi_error: ArrayLike | None,
    noise: FloatArray,
    shape: tuple[int, ...],
    root: FloatArray,
    ball: Ball | None,
) -> FloatArray | None:
    """CSI error in units of the scaled problem; None where there is none at all."""
    if ball not in (None, "joint", "link"):
        raise BadInputError("ball", "joint|link or None", str(ball))
    if csi_error is None:
        return None
    error = as_real("csi_error", csi_error)
    reject("csi_error", ~(np.isfinite(error) & (error >= 0)), "finite numbers >= 0", "something else")
    reject("csi_error", error > 1.001 * LARGEST, f"numbers of at most {LARGEST:g}", "larger ones")
    joint = _ball_of(error, shape, ball) == "joint"
    if not error.any():
        return None
    target, divisor = (shape[-2:-1], noise) if joint else (shape[-2:], noise[..., None])
    full = np.broadcast_to(error / np.sqrt(divisor), (*shape[:-2], *target)).reshape(-1, *target)
    return np.asarray(full / root.reshape(-1, *(1,) * len(target)))


def _ball_of(error: FloatArray, shape: tuple[int, ...], ball: Ball | None) -> Ball:
    """Which of the two shapes the error has: the only one that fits, the one with all axes, or the one named.

    (..., users) is joint and (..., users, nodes) per link, where `...` broadcasts to the batch axes of the
    call. With as many users as nodes, (users, nodes) is also (batch, users) of a batch of that size: as the
    same array would mean one thing in a batch of 4 and another in a batch of 5, it is refused unless named.
    """
    batch, (num_users, num_nodes) = shape[:-2], shape[-2:]
    fits: list[Ball] = []
    if _fits(error, (num_users,), batch):
        fits.append("joint")
    if _fits(error, (num_users, num_nodes), batch):
        fits.append("link")
    if ball is not None:
        fits = [name for name in fits if name == ball]
    if len(fits) == 2 and num_nodes > 1:
        expected = f'ball="joint" or ball="link", as {error.shape} may be (batch, users) or (users, nodes)'
        raise BadInputError("csi_error", expected, "neither")
    if not fits:
        names = {
            "joint": f"(..., {num_users}) joint",
            "link": f"(..., {num_users}, {num_nodes}) per link",
        }
        expected = " or ".join(names.values()) if ball is None else names[ball]
        raise BadInputError("csi_error", f"{expected}, with batch axes {batch}", str(error.shape))
    return fits[0]


def _fits(error: FloatArray, target: tuple[int, ...], batch: tuple[int, ...]) -> bool:
    """Whether the last axes are the target's and the leading ones broadcast to the batch."""
    split = error.ndim - len(target)
    if split < 0 or error.shape[split:] != target or split > len(batch):
        return False
    lead = error.shape[:split]
    return all(a in (1, b) for a, b in zip(lead[::-1], batch[::-1], strict=False))


def scaled_start(start: ArrayLike, problem: Problem, columns: int | None) -> ComplexArray:
    """Beams in sqrt(W), (..., nodes, antennas, at most columns), as unit ones, (batch, ...).

    Raises:
        BadInputError: If their shape does not fit the problem's, or a number is not finite.
    """
    w = as_complex("start", start, "..., nodes, antennas, rank")
    nodes, antennas = problem.g.shape[2:]
    try:
        if w.shape[-3:-1] != (nodes, antennas) or not 1 <= w.shape[-1] <= (columns or w.shape[-1]):
            raise ValueError
        w = np.broadcast_to(w, (*problem.batch_shape, *w.shape[-3:])).reshape(-1, *w.shape[-3:])
    except ValueError:
        most = "rank" if columns is None else f"at most {columns}"
        raise BadInputError("start", f"(..., {nodes}, {antennas}, {most})", str(w.shape)) from None
    root = np.sqrt(problem.power_w)[:, :, None, None]
    return np.where(root > 0.0, w / np.where(root > 0.0, root, 1.0), 0.0)
