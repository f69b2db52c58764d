"""What tests hold certificates against: a climb of its own and an adversary, sharing no code with radio.

Plain numpy on physical units after one division by noise; slow, simple, and only ever a feasible point.
"""

import numpy as np

__all__ = ["attacked", "climb", "climb_bands", "in_ball", "received"]


def received(h: np.ndarray, w: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """SNR of each user, (batch, users), of w (batch, nodes, antennas, rank)."""
    y = np.einsum("bkna,bnar->bkr", h, w)
    return (np.abs(y) ** 2).sum(axis=2) / noise


def climb(
    h: np.ndarray,
    power: np.ndarray,
    noise: np.ndarray,
    users: np.ndarray,
    rank: int,
    rng: np.random.Generator,
    steps: int = 60,
) -> np.ndarray:
    """Best weakest SNR of a projected gradient ascent on the soft minimum of log SNR, (batch,).

    power (batch, nodes), noise and users (batch, users); every user that counts hears something.
    """
    scale = np.sqrt(power)[:, None, :, None] / np.sqrt(noise)[:, :, None, None]
    g = np.where(users[:, :, None, None], h * scale, 0.0)
    v = rng.standard_normal((*h.shape[:1], *h.shape[2:], rank)) + 1j * rng.standard_normal(
        (*h.shape[:1], *h.shape[2:], rank)
    )
    v /= np.maximum(np.linalg.norm(v, axis=(2, 3), keepdims=True), 1e-300)
    best = np.zeros(len(h))
    for step in range(steps):
        y = np.einsum("bkna,bnar->bkr", g, v)
        snr = np.where(users, (np.abs(y) ** 2).sum(axis=2), np.inf)
        least = snr.min(axis=1)
        best = np.maximum(best, least)
        sharp = 2.0 * 1.06**step
        ratio = np.maximum(snr, 1e-300) / np.maximum(least, 1e-300)[:, None]
        weights = np.where(users, np.minimum(ratio, 1e30) ** -sharp, 0.0)
        push = weights / np.where(users, np.maximum(snr, 1e-300), 1.0)
        slope = np.einsum("bkna,bkr->bnar", g.conj(), push[:, :, None] * y)
        slope /= np.maximum(_size(slope)[:, None, None, None], 1e-300)
        v = v + slope * np.sqrt(h.shape[2]) * 0.5 * 0.95**step
        v /= np.maximum(np.linalg.norm(v, axis=(2, 3), keepdims=True), 1.0)
    return best


def climb_bands(
    h: np.ndarray, power: np.ndarray, noise: np.ndarray, users: np.ndarray, rng: np.random.Generator
) -> float:
    """Best min_k mean_s log2(1 + SNR_sk) of a few random searches; h (bands, users, nodes, antennas)."""
    bands = len(h)
    g = h * np.sqrt(power)[None, None, :, None] / np.sqrt(noise / bands)[None, :, None, None]
    g = g[:, users]
    best = 0.0
    for _ in range(3):
        v = rng.standard_normal((bands, *h.shape[2:])) + 1j * rng.standard_normal((bands, *h.shape[2:]))
        for step in range(60):
            v /= np.maximum(np.linalg.norm(v, axis=(0, 2), keepdims=True), 1e-300)
            y = np.einsum("skna,sna->sk", g, v)
            rate = np.log2(1.0 + np.abs(y) ** 2).mean(axis=0)
            best = max(best, float(rate.min()))
            weights = (rate / max(rate.min(), 1e-300)) ** -(1.0 + 0.3 * step)
            slope = np.einsum("skna,sk->sna", g.conj(), weights * y / (1.0 + np.abs(y) ** 2))
            v = v + slope / max(np.linalg.norm(slope), 1e-300) * 0.9**step
    return best


def in_ball(error: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Errors (batch, users, nodes, antennas) scaled to the surface of their balls."""
    norm = np.linalg.norm(error, axis=(2, 3) if radius.ndim == 2 else 3, keepdims=True)
    return error * _spread(radius) / np.maximum(norm, 1e-300)


def attacked(
    h: np.ndarray,
    w: np.ndarray,
    noise: np.ndarray,
    radius: np.ndarray,
    rng: np.random.Generator,
    steps: int = 25,
) -> np.ndarray:
    """Least SNR of each user that an adversary finds in its ball, (batch, users)."""
    flat = w.reshape(len(w), w.shape[1] * w.shape[2], w.shape[3])
    top = np.linalg.norm(flat, 2, axis=(1, 2))[:, None, None, None] ** 2
    error = in_ball(rng.standard_normal(h.shape) + 1j * rng.standard_normal(h.shape), radius)
    least = np.minimum(received(h, w, noise), received(h + error, w, noise))
    for _ in range(steps):
        y = np.einsum("bkna,bnar->bkr", h + error, w)
        error = error - np.einsum("bkr,bnar->bkna", y, w.conj()) / np.maximum(top, 1e-300)
        size = np.linalg.norm(error, axis=(2, 3) if radius.ndim == 2 else 3, keepdims=True)
        error = error * np.minimum(1.0, _spread(radius) / np.maximum(size, 1e-300))
        least = np.minimum(least, received(h + error, w, noise))
    return least


def _spread(radius: np.ndarray) -> np.ndarray:
    """(batch, users) or (batch, users, nodes) with axes of length one up to four."""
    return radius[:, :, None, None] if radius.ndim == 2 else radius[..., None]


def _size(array: np.ndarray) -> np.ndarray:
    """Norm of each row."""
    return np.linalg.norm(array.reshape(len(array), int(np.prod(array.shape[1:]))), axis=1)
