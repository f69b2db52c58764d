"""scipy's L-BFGS on the soft minimum, one instance after another."""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import minimize

from radio_rivals.common import random_beams

__all__ = ["climb", "soft_minimum"]

_GENTLE = (0.3, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
_SHARP = (64.0, 512.0, 4096.0)


def soft_minimum(g: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Random starts, one of each instance in turn; sharpness rises in seven steps, as high ones end badly.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        rng: Source of the starts.

    Yields:
        Beams, (batch, 1, nodes, antennas), zero but for the instance just solved.
    """
    while True:
        start = random_beams(g, 1, rng)[:, 0].astype(np.complex128)
        for index, row in enumerate(g):
            offer = np.zeros_like(start)[:, None]
            offer[index, 0] = climb(row, start[index], _GENTLE)
            yield offer


def climb(
    g: np.ndarray, v: np.ndarray, sharpness: tuple[float, ...] = _SHARP, num_steps: int = 40
) -> np.ndarray:
    """From one beam up, (nodes, antennas); blocks beyond norm one are scaled back inside the loss."""
    flat, shape = g.reshape(len(g), -1), v.shape
    other = flat.conj()

    def beam(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v = x.view(np.complex128).reshape(shape)
        norm = np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1.0)
        return v / norm, norm

    def loss(x: np.ndarray, p: float) -> tuple[float, np.ndarray]:
        v, norm = beam(x)
        y = flat @ v.ravel()
        power = np.maximum(y.real**2 + y.imag**2, 1e-300)
        log = np.log(power)
        weights = np.exp(-p * (log - log.min()))
        total = weights.sum()
        slope = ((weights * (-2.0 / total) / power * y) @ other).reshape(shape)
        outward = (v.conj() * slope).real.sum(axis=1, keepdims=True)
        slope = np.where(norm > 1.0, (slope - v * outward) / norm, slope)
        return np.log(total) / p - log.min(), np.ascontiguousarray(slope).view(np.float64).ravel()

    x = np.ascontiguousarray(v, dtype=np.complex128).view(np.float64).ravel()
    for p in sharpness:
        options = {"maxiter": num_steps, "maxcor": 8}
        x = minimize(loss, x, args=(p,), jac=True, method="L-BFGS-B", options=options).x
    return beam(x)[0]
