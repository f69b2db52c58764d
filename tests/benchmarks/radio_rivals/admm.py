"""Batched consensus ADMM on the beam itself."""

from collections.abc import Iterator

import numpy as np

from radio_rivals.common import balls, random_beams

__all__ = ["admm"]

_PENALTIES = (0.3, 1.0, 3.0, 10.0)


def admm(g: np.ndarray, rng: np.random.Generator, starts: int = 16, steps: int = 300) -> Iterator[np.ndarray]:
    """Split z = G v: z lifts the weakest users to a level, v stays in the balls, u adds up what is left.

    The plain method, batched over instances and starts, in single precision. Users are scaled to channels of
    norm one, as steps would be tiny for the weak ones else. Penalties are spread over the starts, so that
    the best of four counts; v takes one gradient step of 1 / lmax(G G^H) a round.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        rng: Source of the starts.
        starts: Runs side by side.
        steps: Rounds before new starts.

    Yields:
        Beams, (batch, starts, nodes, antennas), every 10 rounds.
    """
    flat = g.reshape(*g.shape[:2], -1).astype(np.complex64)
    size = np.linalg.norm(flat, axis=2, keepdims=True)
    flat, need = flat / size, 1.0 / size.swapaxes(1, 2)
    there, back = np.ascontiguousarray(flat.swapaxes(1, 2)), flat.conj()
    largest = np.linalg.norm(flat, ord=2, axis=(1, 2))[:, None, None]
    penalty = np.resize(_PENALTIES, starts).astype(np.float32)[None, :, None]
    while True:
        v = random_beams(g, starts, rng)
        shape = v.shape
        x = v.reshape(*shape[:2], -1)
        y = x @ there
        u = np.zeros_like(y)
        room = need.sum(axis=2, keepdims=True) / penalty / g.shape[1] * np.float32(0.3)
        for step in range(1, steps + 1):
            target = y + u
            size = np.abs(target)
            level = _level(size, need, room) * need
            z = target * np.maximum(level / np.maximum(size, np.float32(1e-12)), np.float32(1.0))
            x = x - ((y - z + u) @ back) / largest**2
            x = balls(x.reshape(shape)).reshape(x.shape)
            y = x @ there
            u = u + y - z
            if step % 10 == 0:
                yield x.reshape(shape)


def _level(size: np.ndarray, need: np.ndarray, room: np.ndarray) -> np.ndarray:
    """t with sum_k need_k max(t need_k - size_k, 0) = room."""
    ratio = size / need
    order = np.argsort(ratio, axis=2)
    sorted_need = np.take_along_axis(np.broadcast_to(need, size.shape), order, axis=2)
    ratio = np.take_along_axis(ratio, order, axis=2)
    square = np.cumsum(sorted_need**2, axis=2)
    levels = (np.cumsum(sorted_need**2 * ratio, axis=2) + room) / square
    last = (levels > ratio).sum(axis=2, keepdims=True) - 1
    return np.take_along_axis(levels, np.maximum(last, 0), axis=2)
