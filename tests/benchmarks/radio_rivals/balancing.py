"""Rate balancing with closed-form beams."""

from collections.abc import Iterator

import numpy as np

from radio_rivals.common import random_beams

__all__ = ["rate_balancing"]

_POWERS = (0.25, 0.5, 1.0, 1.5)


def rate_balancing(
    g: np.ndarray, rng: np.random.Generator, starts: int = 16, steps: int = 300
) -> Iterator[np.ndarray]:
    """Rate balancing (arXiv 2601.22415), in our reading of the abstract.

    The quadratic transform of fractional programming makes the weighted sum of amplitudes concave; for given
    weights each node's beam is in closed form, the unit vector along sum_k l_k g_k^H y_k / |y_k|. Weights
    are balanced by (mean of the users' amplitudes / theirs) to a power, four of them spread over the starts.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        rng: Source of the starts.
        starts: Runs side by side.
        steps: Rounds before new starts.

    Yields:
        Beams, (batch, starts, nodes, antennas), every 10 rounds.
    """
    flat = g.reshape(*g.shape[:2], -1).astype(np.complex64)
    there, back = np.ascontiguousarray(flat.swapaxes(1, 2)), flat.conj()
    power = np.resize(_POWERS, starts).astype(np.float32)[None, :, None]
    while True:
        v = random_beams(g, starts, rng)
        weights = np.ones((len(g), starts, g.shape[1]), dtype=np.float32)
        for step in range(1, steps + 1):
            y = v.reshape(*v.shape[:2], -1) @ there
            amplitude = np.abs(y) + np.float32(1e-12)
            weights = weights * (amplitude.mean(axis=2, keepdims=True) / amplitude) ** power
            weights /= weights.sum(axis=2, keepdims=True)
            pull = ((weights * y / amplitude) @ back).reshape(v.shape)
            v = pull / (np.linalg.norm(pull, axis=3, keepdims=True) + np.float32(1e-12))
            if step % 10 == 0:
                yield v
