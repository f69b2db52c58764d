"""Projected subgradient ascent."""

from collections.abc import Iterator

import numpy as np

from radio_rivals.common import balls, random_beams

__all__ = ["projected_subgradient"]

_LENGTHS = (0.1, 0.2, 0.4, 0.8)


def projected_subgradient(
    g: np.ndarray, rng: np.random.Generator, starts: int = 16, steps: int = 400
) -> Iterator[np.ndarray]:
    """Zhang, Dong and Liang (arXiv 2107.07540), in our reading of the abstract, on the beams themselves.

    A step along the gradient of the weakest user's amplitude, then back on the unit balls. Steps fall as
    1 / sqrt(round); four first lengths are spread over the starts. Their reduction to one weight a user
    saves nothing here, with as many users as antennas or more.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        rng: Source of the starts.
        starts: Runs side by side.
        steps: Rounds before new starts.

    Yields:
        Beams, (batch, starts, nodes, antennas), every 10 rounds the best of them.
    """
    flat = g.reshape(*g.shape[:2], -1).astype(np.complex64)
    there = np.ascontiguousarray(flat.swapaxes(1, 2))
    unit = flat.conj() / np.linalg.norm(flat, axis=2, keepdims=True)
    length = np.resize(_LENGTHS, starts).astype(np.float32)[None, :, None] * np.float32(np.sqrt(g.shape[2]))
    while True:
        v = random_beams(g, starts, rng)
        x = v.reshape(*v.shape[:2], -1)
        best, top = x, np.zeros(x.shape[:2], dtype=np.float32)
        for step in range(1, steps + 1):
            y = x @ there
            amplitude = np.abs(y)
            weakest = amplitude.argmin(axis=2)[:, :, None]
            low = np.take_along_axis(amplitude, weakest, axis=2)
            better = low[:, :, 0] > top
            best, top = np.where(better[:, :, None], x, best), np.where(better, low[:, :, 0], top)
            phase = np.take_along_axis(y, weakest, axis=2) / np.maximum(low, np.float32(1e-12))
            along = np.take_along_axis(unit, weakest, axis=1) * phase
            x = balls((x + length / np.float32(np.sqrt(step)) * along).reshape(v.shape)).reshape(x.shape)
            if step % 10 == 0:
                yield best.reshape(v.shape)
