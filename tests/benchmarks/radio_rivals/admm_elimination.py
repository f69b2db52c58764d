"""ADMM on the semidefinite relaxation that drops eigenvalues on the way."""

from collections.abc import Iterator

import numpy as np

__all__ = ["admm_elimination"]

_PENALTY = 3.0


def admm_elimination(g: np.ndarray, rng: np.random.Generator, steps: int = 200) -> Iterator[np.ndarray]:
    """Zaher and Björnson (arXiv 2511.07310; 2504.06090), in our reading of the abstract.

    W is split from its projection X on the positive semidefinite matrices, from the users' powers s >= t and
    from the nodes' powers p <= 1; the rank allowed to X falls from full to one over the first half of the
    rounds. Rows of the linear map are scaled to norm one. Instances side by side.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        rng: Source of the perturbation of later runs; the first starts at the matched filters.
        steps: Rounds of a run.

    Yields:
        The strongest eigenvector at full power, (batch, 1, nodes, antennas), every 10 rounds.
    """
    batch, users, nodes, antennas = g.shape
    flat = g.reshape(batch, users, -1)
    size = flat.shape[2]
    norm = np.linalg.norm(flat, axis=2)
    unit = flat / norm[:, :, None]
    gram = np.zeros((batch, users + nodes, users + nodes))
    gram[:, :users, :users] = np.abs(unit @ unit.conj().swapaxes(1, 2)) ** 2
    share = np.linalg.norm(g, axis=3) ** 2 / norm[:, :, None] ** 2 / np.sqrt(antennas)
    gram[:, :users, users:], gram[:, users:, :users] = share, share.swapaxes(1, 2)
    gram[:, range(users, users + nodes), range(users, users + nodes)] = 1.0
    inverse = np.linalg.inv(np.eye(users + nodes) + gram)
    need = 1.0 / norm**2

    def measure(matrix: np.ndarray) -> np.ndarray:
        heard = np.einsum("bki,bij,bkj->bk", unit, matrix, unit.conj(), optimize=True).real
        sent = np.einsum("bii->bi", matrix).real.reshape(batch, nodes, antennas).sum(axis=2)
        return np.concatenate([heard, sent / np.sqrt(antennas)], axis=1)

    def spread(values: np.ndarray) -> np.ndarray:
        matrix = (unit.conj().swapaxes(1, 2) * values[:, None, :users]) @ unit
        diagonal = np.repeat(values[:, users:], antennas, axis=1) / np.sqrt(antennas)
        matrix[:, range(size), range(size)] += diagonal
        return matrix

    jitter = 0.0
    while True:
        v = (unit.conj() * (1.0 + jitter * rng.standard_normal((batch, users, 1)))).sum(axis=1)
        x = v[:, :, None] * v[:, None].conj() + np.eye(size) / antennas
        dual, slack, multiplier = np.zeros_like(x), measure(x), np.zeros((batch, users + nodes))
        for step in range(1, steps + 1):
            given = x - dual + spread(slack - multiplier)
            w = given - spread(np.einsum("bij,bj->bi", inverse, measure(given)))
            rank = max(1, round(size * (1.0 - 2.0 * step / steps)))
            values, vectors = np.linalg.eigh(w + dual)
            values[:, : size - rank] = 0.0
            x = (vectors * np.maximum(values, 0.0)[:, None]) @ vectors.conj().swapaxes(1, 2)
            seen = measure(w) + multiplier
            lifted = _lift(seen[:, :users], need)
            slack = np.concatenate([lifted, np.minimum(seen[:, users:], 1.0 / np.sqrt(antennas))], axis=1)
            dual, multiplier = dual + w - x, seen - slack
            if step % 10 == 0:
                beam = vectors[:, :, -1].reshape(batch, 1, nodes, antennas)
                yield beam / np.maximum(np.linalg.norm(beam, axis=3, keepdims=True), 1e-12)
        jitter = 1.0


def _lift(seen: np.ndarray, need: np.ndarray) -> np.ndarray:
    """max(seen_k, t need_k), t where its price is one: sum_k need_k (t need_k - seen_k)+ = 1 / penalty."""
    low, high = np.zeros(len(seen)), np.full(len(seen), 4.0)
    for _ in range(40):
        middle = (low + high) / 2.0
        price = (need * np.maximum(middle[:, None] * need - seen, 0.0)).sum(axis=1) * _PENALTY
        low, high = np.where(price < 1.0, middle, low), np.where(price < 1.0, high, middle)
    return np.maximum(seen, low[:, None] * need)
