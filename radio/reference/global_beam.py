"""The best single beam, proven: branch and bound on the phases that users receive."""

from dataclasses import dataclass

import numpy as np

from radio.bounds.interior import exact_bound
from radio.fast.effort import DEFAULT_EFFORT, Effort, Stage
from radio.fast.search import search
from radio.fast.weights import fixed_point
from radio.reference.forms import Forms, relax_forms
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["GlobalBeam", "global_beam"]

_SECTORS = 4
"""Into how many a whole circle is split, at least 2; a sector is halved."""
_TOGETHER = 64
"""Boxes relaxed in one batch."""
_MANY = Effort(stages=(Stage(tolerance=0.0, starts=64, steps=100),))


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalBeam:
    """The best beam found and what no beam can exceed."""

    beam: ComplexArray
    """(nodes, antennas), blocks of norm at most one."""
    value: float
    """min_k |g_k v|^2 of it."""
    upper: float
    """No single beam has more: proven by a dual matrix for every box of phases."""
    relaxation: float
    """No covariance of any rank has more."""
    num_boxes: int
    """Boxes relaxed."""

    @property
    def gap(self) -> float:
        """1 - value / upper."""
        return 1.0 - self.value / self.upper


@dataclass(slots=True)
class _Boxes:
    """Sectors of the phase of each user's signal, relative to the reference user."""

    middle: FloatArray
    """(boxes, users), rad."""
    half: FloatArray
    """Half the width, (boxes, users), rad; pi where nothing is known."""
    bound: FloatArray
    """Bound on the amplitude within, over the level or more, (boxes,)."""

    def take(self, rows: np.ndarray) -> "_Boxes":
        return _Boxes(self.middle[rows], self.half[rows], self.bound[rows])

    def join(self, other: "_Boxes") -> "_Boxes":
        return _Boxes(
            np.concatenate([self.middle, other.middle]),
            np.concatenate([self.half, other.half]),
            np.concatenate([self.bound, other.bound]),
        )


def global_beam(
    g: ComplexArray, tolerance: float = 1e-3, max_boxes: int = 5000, target: float = 0.0
) -> GlobalBeam:
    """Maximise min_k |g_k v|^2 over ||v_n|| <= 1, to a proven relative gap.

    The phases of c_k = g_k v are split into sectors, after Lu and Liu, "An efficient global algorithm for
    single-group multicast beamforming", IEEE TSP 65(14), 2017: c_k of modulus >= t and phase within h <=
    pi/2 of m has Re(exp(-jm) c_k) >= t cos h, which is linear. Here these cuts join the semidefinite
    relaxation of [1; v] instead of a cone program of v alone, so that the first box already has the bound of
    the relaxation. A box whose bound stays under the level to beat is closed; another is split at the user
    that misses it most, weighted by its multiplier, and its vector starts the fixed point.

    Args:
        g: Scaled CSI of the users and nodes that count, (users, nodes, antennas).
        tolerance: Proof asked for: upper <= value (1 + tolerance).
        max_boxes: Boxes at most; then `upper` is what is proven by then.
        target: Stop as soon as this value is proven out of reach, or reached; 0 asks for the optimum.

    Returns:
        Beam, value and bounds.
    """
    search_ = _Search(g, tolerance, target)
    num_users = len(g)
    boxes = _Boxes(np.zeros((1, num_users)), np.full((1, num_users), np.pi), np.full(1, np.inf))
    boxes.half[0, search_.reference] = 0.0
    count = 0
    while len(boxes.bound) and count < max_boxes:
        order = np.argsort(boxes.bound)
        tried = boxes.take(order[-_TOGETHER:])
        boxes = boxes.take(order[:-_TOGETHER]).join(search_.split(tried))
        count += len(tried.bound)
    upper = search_.level**2 * max(1.0, boxes.bound.max(initial=0.0) ** 2)
    return GlobalBeam(
        beam=search_.beam.reshape(g.shape[1:]),
        value=search_.value,
        upper=float(max(search_.value, min(upper, search_.relaxation))),
        relaxation=search_.relaxation,
        num_boxes=count,
    )


class _Search:
    """The problem, the best beam so far and the amplitude to beat."""

    def __init__(self, g: ComplexArray, tolerance: float, target: float) -> None:
        num_users, self.num_nodes, self.num_antennas = g.shape
        self.flat, self.tolerance, self.target = g.reshape(num_users, -1), tolerance, target
        everyone = np.ones((1, num_users), dtype=bool)
        exact = exact_bound(g[None], everyone)
        self.relaxation = float(exact.upper[0])
        self.reference = int(exact.weights[0].argmax())
        self.beam: ComplexArray = np.zeros(self.flat.shape[1], dtype=np.complex128)
        self.value = self.level = 0.0
        for effort in (DEFAULT_EFFORT, _MANY):
            found = search(g[None], everyone, 1, np.random.default_rng(0), fixed_point, effort=effort)
            self.offer(found.v[0].reshape(-1, 1))

    def offer(self, beams: ComplexArray) -> None:
        """Keep the best of some beams, (size, beams); raise the level."""
        values = (np.abs(self.flat @ beams) ** 2).min(axis=0)
        best = int(values.argmax())
        if values[best] > self.value:
            self.beam, self.value = beams[:, best], float(values[best])
        self.level = np.sqrt(max(self.value * (1.0 + self.tolerance), self.target))

    def split(self, boxes: _Boxes) -> _Boxes:
        """Relax boxes; the children of those that could hold a beam above the level."""
        level = self.level
        forms = self._forms(boxes)
        relaxed = relax_forms(forms)
        bound = _amplitude(relaxed.bound, relaxed.multipliers, len(self.flat))
        bound = np.where(np.isnan(bound), boxes.bound, np.minimum(bound, boxes.bound))
        rows = np.flatnonzero(bound >= 1.0)
        if not len(rows):
            return boxes.take(rows)
        v = relaxed.w[rows, 1:, 0] / np.maximum(relaxed.w[rows, 0, 0].real, 1e-9)[:, None]
        weights = self._per_user(relaxed.multipliers, boxes)[rows]
        self._polish(v, weights)
        # A later level may be higher: bounds are over the present one.
        parents = _Boxes(boxes.middle[rows], boxes.half[rows], bound[rows] * level / self.level)
        return self._children(parents, v @ self.flat.T / level, weights)

    def _per_user(self, multipliers: FloatArray, boxes: _Boxes) -> FloatArray:
        """Multipliers of each user's form and of its cut together, (boxes, users)."""
        num_users = len(self.flat)
        slots, used = _slots(boxes)
        cuts = np.zeros(boxes.half.shape)
        np.put_along_axis(cuts, slots, np.where(used, multipliers[:, num_users:-1], 0.0), axis=1)
        return np.asarray(multipliers[:, :num_users] + cuts)

    def _children(self, boxes: _Boxes, received: ComplexArray, multipliers: FloatArray) -> _Boxes:
        """Split each box at one user; received (boxes, users) over the level."""
        missing = (1.0 - np.abs(received) ** 2) * multipliers
        missing = np.where(boxes.half > 1e-3, missing, -np.inf)
        # Where nobody misses it, the widest sector.
        user = np.where(missing.max(axis=1) > 0, missing.argmax(axis=1), boxes.half.argmax(axis=1))
        row = np.arange(len(user))
        whole = boxes.half[row, user] > np.pi / 2
        angle = np.angle(received[row, user])
        width = np.where(whole, np.pi / _SECTORS, boxes.half[row, user] / 2)
        children = boxes.take(np.empty(0, dtype=int))
        for part in range(_SECTORS):
            some = row if part < 2 else np.flatnonzero(whole)
            child = boxes.take(some)
            index = np.arange(len(some))
            halved = boxes.middle[some, user[some]] + (2 * part - 1) * width[some]
            turned = angle[some] + 2.0 * part * width[some]
            child.middle[index, user[some]] = np.where(whole[some], turned, halved)
            child.half[index, user[some]] = width[some]
            children = children.join(child)
        return children

    def _polish(self, v: ComplexArray, weights: FloatArray) -> None:
        """Offer vectors (vectors, size) and where the fixed point goes from them and their multipliers."""
        blocks = v.reshape(len(v), self.num_nodes, -1)
        norm = np.linalg.norm(blocks, axis=2, keepdims=True)
        start = blocks / np.maximum(norm, 1.0)
        self.offer(start.reshape(len(v), -1).T)
        end = fixed_point(
            self.flat[None].astype(np.complex64),
            start.reshape(len(v), -1).T[None, :, None].astype(np.complex64),
            np.ones((1, len(self.flat)), dtype=bool),
            self.num_nodes,
            60,
            0.2,
            np.maximum(weights / weights.max(axis=1, keepdims=True), 1e-6).T[None].astype(np.float32),
        )
        beams = end.u[0, :, 0].astype(np.complex128).reshape(self.num_nodes, self.num_antennas, -1)
        beams = beams / np.maximum(np.linalg.norm(beams, axis=1, keepdims=True), 1.0)
        self.offer(beams.reshape(self.flat.shape[1], -1))

    def _forms(self, boxes: _Boxes) -> Forms:
        """Users, the cuts of each box, and Im c = 0 for the reference, as forms of [1; v]."""
        num_boxes, num_users = boxes.half.shape
        g = np.concatenate([np.zeros((num_users, 1)), self.flat / self.level], axis=1)
        slots, used = _slots(boxes)
        middle, half = (np.take_along_axis(part, slots, axis=1) for part in (boxes.middle, boxes.half))
        turned = np.where(used, np.exp(-1j * middle), 0.0)[:, :, None] * g[slots]
        one = np.zeros((num_boxes, slots.shape[1], g.shape[1]), dtype=np.complex128)
        one[:, :, 0] = used
        users = np.broadcast_to(g, (num_boxes, *g.shape))
        real = np.broadcast_to(-1j * g[self.reference], (num_boxes, 1, g.shape[1]))
        unit = np.broadcast_to(np.eye(1, g.shape[1]), real.shape)
        ones = np.ones((num_boxes, num_users))
        return Forms(
            a=np.concatenate([users, turned, real], axis=1),
            b=np.concatenate([users, one, unit], axis=1),
            least=np.concatenate([ones, np.where(used, np.cos(half), 0.0), 0.0 * ones[:, :1]], axis=1),
            counts=np.concatenate([ones > 0, used, ones[:, :1] > 0], axis=1),
            starts=np.concatenate([[0], 1 + self.num_antennas * np.arange(self.num_nodes)]),
        )


def _slots(boxes: _Boxes) -> tuple[np.ndarray, BoolArray]:
    """The users with a sector, first in each row, and which of these slots are in use."""
    cut = boxes.half <= np.pi / 2
    slots = np.argsort(~cut, axis=1, kind="stable")[:, : int(cut.sum(axis=1).max())]
    return slots, np.take_along_axis(cut, slots, axis=1)


def _amplitude(bound: FloatArray, multipliers: FloatArray, num_users: int) -> FloatArray:
    """Bound on the amplitude from a bound on s, (batch,).

    A beam of amplitude x has forms of users x^2 and of cuts x cos h, so l x^2 + (1 - l) x <= bound, where l
    is the multipliers' share of users.
    """
    share = multipliers[:, :num_users].sum(axis=1)
    rest = 1.0 - share
    return np.asarray((np.sqrt(rest**2 + 4.0 * share * bound) - rest) / (2.0 * share))
