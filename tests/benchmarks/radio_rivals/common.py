"""What rivals share: instances in a batch, beams that they offer, and a clock."""

import time
from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["Rival", "balls", "curve", "least", "random_beams", "receive"]

Rival = Callable[[np.ndarray, np.random.Generator], Iterator[np.ndarray]]
"""Scaled CSI (batch, users, nodes, antennas) -> beams (batch, any, nodes, antennas), again and again."""


def receive(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What users receive, (batch, any, users)."""
    flat = g.reshape(*g.shape[:2], -1)
    return v.reshape(*v.shape[:2], -1) @ flat.swapaxes(1, 2)


def least(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Power of the weakest user under the best of some beams, in double precision, (batch,)."""
    v = balls(np.asarray(v, dtype=np.complex128))
    return (np.abs(receive(g, v)) ** 2).min(axis=2).max(axis=1)


def balls(v: np.ndarray) -> np.ndarray:
    """Project each node's block on the unit ball."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1.0)


def random_beams(g: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Full-power random beams, complex64 (batch, count, nodes, antennas)."""
    shape = (len(g), count, *g.shape[2:])
    v = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return (v / np.linalg.norm(v, axis=-1, keepdims=True)).astype(np.complex64)


def curve(g: np.ndarray, rival: Rival, budget_s: float, seed: int = 0) -> dict[float, np.ndarray]:
    """Best power of the weakest user within one and four times a budget of CPU seconds, (batch,) each.

    What is offered late counts at the next mark only; a rival that offers nothing in time has zero. The
    beams are judged off the clock.
    """
    found = {1.0: np.zeros(len(g)), 4.0: np.zeros(len(g))}
    offers = rival(g, np.random.default_rng(seed))
    spent, best = 0.0, np.zeros(len(g))
    while spent < 4.0 * budget_s:
        started = time.process_time()
        offer = next(offers, None)
        spent += time.process_time() - started
        if offer is None:
            break
        best = np.maximum(best, least(g, offer))
        for mark in found:
            if spent <= mark * budget_s:
                found[mark] = best
    return found
