"""Ascent on the soft minimum of the users' log-SNR with rising sharpness, batched in numpy."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["SoftPoint", "sharpen", "soft_ascent", "with_silent_antenna"]

_TINY = np.float32(1e-30)
_MEMORY = 3
"""Pairs of moves and changes of the gradient that L-BFGS keeps."""
_STRIDE = np.float32(0.5)
"""Longest step, as root mean square over the nodes' blocks of norm one."""
_FIRST = np.float32(0.3)
"""Length of the first step."""
_SLOPE = np.float32(1e-4)
"""Share of the promised gain that a step must bring (Armijo)."""
_NOISE = np.float32(2e-7)
"""Relative loss that a step may bring: single precision cannot tell it from a gain."""
_REST = 4
"""Steps between two rises of the sharpness."""
_CUT = np.float32(0.3)
"""Length of a step that did not bring it, over the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftPoint:
    """Where runs stand: for each node a block of norm one, its last antenna silent."""

    x: ComplexArray
    """(batch, starts, columns, nodes, antennas + 1), complex64."""
    least: FloatArray
    """Power that the weakest user receives, (batch, starts)."""

    def best(self, count: int) -> "SoftPoint":
        """The best starts of each row, best first."""
        order = np.argsort(-self.least, axis=1, kind="stable")[:, :count]
        x = np.take_along_axis(self.x, order[:, :, None, None, None], axis=1)
        return SoftPoint(x=x, least=np.take_along_axis(self.least, order, axis=1))

    def beams(self) -> ComplexArray:
        """Beams in the unit balls, (batch, nodes * antennas, columns, starts)."""
        u = self.x[..., :-1]
        return np.ascontiguousarray(u.reshape(*u.shape[:3], -1).transpose(0, 3, 2, 1))


class _Received(NamedTuple):
    """What users receive."""

    parts: FloatArray
    """Real and imaginary parts of each column, (batch, starts, 2 * columns, users)."""
    power: FloatArray
    """Over all columns, (batch, starts, users)."""
    log: FloatArray
    """Its logarithm; inf where masked."""


def sharpen(first: FloatArray, last: float, steps: int) -> FloatArray:
    """Sharpness of each step and start, (steps + 1, starts), from that at first, (starts,).

    A geometric series that rests, as each rise costs half a step.
    """
    rises = np.geomspace(first, last, 1 + steps // _REST)
    return np.repeat(rises, _REST, axis=0)[-steps - 1 :].astype(np.float32)


def with_silent_antenna(u: ComplexArray, num_nodes: int, amplitude: float = 0.0) -> ComplexArray:
    """Starts from beams (batch, nodes * antennas, columns, starts), the silent antennas at this amplitude."""
    batch, size, columns, starts = u.shape
    blocks = u.transpose(0, 3, 2, 1).reshape(batch, starts, columns, num_nodes, size // num_nodes)
    silent = np.full((*blocks.shape[:-1], 1), amplitude, dtype=np.complex64)
    return np.concatenate([blocks, silent], axis=-1, dtype=np.complex64)


def soft_ascent(g: ComplexArray, x: ComplexArray, users: BoolArray, sharpness: FloatArray) -> SoftPoint:
    """Maximise -log(mean_k power_k^-p) / p by L-BFGS while p rises.

    With p near zero this is the geometric mean of the users' powers, whose few maxima are good places to come
    from; with a high p it is the least. Neither depends on the scale. Each node's block has norm one, with a
    silent antenna that takes the power it does not use, so the unit balls need no projection. All starts of
    all rows step together; a step that brings too little is tried again at 0.3 of its length.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas); zero where masked.
        x: Starts, complex64 (batch, starts, columns, nodes, antennas + 1), scaled to norm one a node.
        users: Users that count, (batch, users).
        sharpness: p of each step, (steps + 1, starts), > 0.

    Returns:
        Where the runs end.
    """
    rows, memory = _Rows(g, users, x.shape), _Memory()
    flat = rows.unit(np.ascontiguousarray(x, dtype=np.complex64).reshape(*x.shape[:2], -1).view(np.float32))
    seen = rows.receive(flat)
    value, gradient = rows.soft(flat, seen, sharpness[0])
    move = -gradient
    slope = -_dot(gradient, gradient)
    length = _FIRST / np.sqrt(_TINY - slope)
    for p, next_p in pairwise(sharpness):
        there = rows.unit(flat + length[:, :, None] * move)
        heard = rows.receive(there)
        reached, turned = rows.soft(there, heard, p)
        good = reached <= value + _SLOPE * length * slope + _NOISE * np.abs(value)
        if not good.all():
            wide = good[:, :, None]
            there, turned = np.where(wide, there, flat), np.where(wide, turned, gradient)
            reached = np.where(good, reached, value)
            heard = _Received(
                np.where(wide[..., None], heard.parts, seen.parts),
                np.where(wide, heard.power, seen.power),
                np.where(wide, heard.log, seen.log),
            )
        memory.add(there - flat, turned - gradient)
        flat, seen, value, gradient = there, heard, reached, turned
        if next_p[0] != p[0]:
            value, gradient = rows.soft(flat, seen, next_p)
        move, slope = memory.direction(gradient)
        whole = np.minimum(np.float32(1.0), rows.stride / np.sqrt(_dot(move, move) + _TINY))
        length = np.where(good, whole, length * _CUT)
    least = np.where(users[:, None], seen.power, np.inf).min(axis=2)
    return SoftPoint(x=flat.view(np.complex64).reshape(x.shape), least=least)


class _Rows:
    """What stays fixed over the steps."""

    def __init__(self, g: ComplexArray, users: BoolArray, shape: tuple[int, ...]) -> None:
        real = np.zeros((len(g), g.shape[1], 2, *g.shape[2:], 2), dtype=np.float32)
        real[:, :, 0, ..., 0] = real[:, :, 1, ..., 1] = g.real
        real[:, :, 1, ..., 0], real[:, :, 0, ..., 1] = g.imag, -g.imag
        padded = np.pad(real, ((0, 0),) * 4 + ((0, 1), (0, 0)))
        self.back = np.ascontiguousarray(padded.swapaxes(1, 2).reshape(len(g), 2 * g.shape[1], -1))
        self.forth = np.ascontiguousarray(self.back.swapaxes(1, 2))
        self.absent = None if users.all() else np.where(users, 0.0, np.inf).astype(np.float32)[:, None]
        self.counted = users.sum(axis=1).astype(np.float32)[:, None]
        self.columns, self.num_nodes = shape[2:4]
        self.stride = _STRIDE * np.float32(np.sqrt(self.num_nodes))

    def unit(self, flat: FloatArray) -> FloatArray:
        """Scale each node's block to norm one."""
        blocks = self._blocks(flat)
        norm = np.sqrt(np.einsum("bscnd,bscnd->bsn", blocks, blocks) + _TINY)
        return np.asarray((blocks / norm[:, :, None, :, None]).reshape(flat.shape))

    def receive(self, flat: FloatArray) -> _Received:
        """What users receive from beams."""
        batch, starts, _ = flat.shape
        y = flat.reshape(batch, starts * self.columns, -1) @ self.forth
        parts = y.reshape(batch, starts, 2 * self.columns, -1)
        square = np.square(parts)
        total = square[:, :, 0] + square[:, :, 1]
        for column in range(2, 2 * self.columns):
            total += square[:, :, column]
        total += _TINY
        log = np.log(total)
        return _Received(parts, total, log if self.absent is None else log + self.absent)

    def soft(self, flat: FloatArray, seen: _Received, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Minus the soft minimum, (batch, starts), and its gradient on the spheres, shaped like flat."""
        least = seen.log.min(axis=2, keepdims=True)
        weights = np.exp((least - seen.log) * p[:, None])
        total = weights.sum(axis=2)
        value = np.log(total / self.counted) / p - least[:, :, 0]
        weights *= np.float32(-2.0) / (total[:, :, None] * seen.power)
        batch, starts, parts, _ = seen.parts.shape
        weighted = (seen.parts * weights[:, :, None]).reshape(batch, starts * parts // 2, -1)
        pull = weighted @ self.back
        blocks, slope = self._blocks(flat), self._blocks(pull.reshape(flat.shape))
        outward = np.einsum("bscnd,bscnd->bsn", blocks, slope)
        return value, (slope - blocks * outward[:, :, None, :, None]).reshape(flat.shape)

    def _blocks(self, flat: FloatArray) -> FloatArray:
        return np.asarray(flat.reshape(*flat.shape[:2], self.columns, self.num_nodes, -1))


class _Memory:
    """The last moves and changes of the gradient, (batch, starts, numbers) each."""

    def __init__(self) -> None:
        self.pairs: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        self.scale: FloatArray = np.ones((1, 1), dtype=np.float32)

    def add(self, move: FloatArray, change: FloatArray) -> None:
        """Where the curvature along the move is not positive the pair counts nothing."""
        along = _dot(move, change)
        good = along > np.float32(1e-12)
        rate = np.where(good, np.float32(1.0) / np.where(good, along, np.float32(1.0)), np.float32(0.0))
        self.scale = np.where(good, along / np.maximum(_dot(change, change), _TINY), self.scale)
        self.pairs = [*self.pairs[1 - _MEMORY :], (move, change, rate)]

    def direction(self, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Minus the inverse Hessian times the gradient (two-loop recursion), and its slope, < 0."""
        rest, shares = gradient, []
        for move, change, rate in reversed(self.pairs):
            shares.append(rate * _dot(move, rest))
            rest = rest - shares[-1][:, :, None] * change
        rest = rest * self.scale[:, :, None]
        for (move, change, rate), share in zip(self.pairs, reversed(shares), strict=True):
            rest = rest + (share - rate * _dot(change, rest))[:, :, None] * move
        slope = -_dot(rest, gradient)
        uphill = slope >= 0
        if uphill.any():
            rest = np.where(uphill[:, :, None], gradient * self.scale[:, :, None], rest)
            slope = np.where(uphill, -_dot(rest, gradient), slope)
        return -rest, slope


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("bsd,bsd->bs", a, b))
