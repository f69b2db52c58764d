"""Where users will be: they go on as they went, damped by a factor that is fitted online."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float, Int
from policy.world.trace import nearest

PRIOR_KEEP = 0.8
"""Share of a displacement that carries over to the next slot, before anything is seen."""
PRIOR_WEIGHT = 4.0
"""Displacements that the prior is worth."""


def likely_cells(node_xy: Float, now: Float, before: Float) -> Int:
    """Cell of each user in the next slot if it goes on as it went, (..., users).

    Args:
        node_xy: Places of the nodes, (nodes, 2), m.
        now: Places in the last slot, (..., users, 2), m.
        before: The same one slot earlier.
    """
    return nearest(node_xy, now + PRIOR_KEEP * (now - before))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaceDraws:
    """Random numbers behind sampled places."""

    normals: Float
    """Standard normals, (samples, users, 2)."""
    uniforms: Float
    """Uniforms for the time before anything was seen, (samples, users, 2)."""
    ahead: Int
    """How many slots ahead each sample is, 1 or more, (samples,)."""


def place_draws(rng: np.random.Generator, samples: int, users: int, later: float | None = None) -> PlaceDraws:
    """Draw for the next slot, or for later ones that weigh `later` times as much as the one before."""
    pairs = (samples + 1) // 2
    half = rng.standard_normal((pairs, users, 2))
    normals = np.concatenate([half, -half])[:samples]  # opposite pairs: their mean is exact
    ahead = np.ones(pairs, dtype=np.int64)
    if later is not None:  # evenly spread quantiles of a geometric law
        quantiles = (np.arange(pairs) + 0.5) / pairs
        ahead = 2 + (np.log(quantiles) / np.log(later)).astype(np.int64)
    return PlaceDraws(normals=normals, uniforms=rng.random(normals.shape), ahead=np.tile(ahead, 2)[:samples])


def join_draws(parts: Sequence[PlaceDraws]) -> PlaceDraws:
    """Samples of all parts, one part after another."""
    names = ("normals", "uniforms", "ahead")
    return PlaceDraws(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class Motion:
    """Least-squares fit of each displacement to the one before, shared by all users; walls reflect."""

    def __init__(self, area_m: float) -> None:
        self._area = area_m
        self._past: list[Float] = []
        self._along = np.zeros(2)
        self._miss = np.zeros(2)

    def observe(self, user_xy: Float) -> None:
        """Take in the places of one slot, (users, 2), m."""
        self._past = [*self._past[-2:], user_xy]
        if len(self._past) < 3:
            return
        before, now = self._past[1] - self._past[0], self._past[2] - self._past[1]
        fair = (before * now).sum(axis=1) > 0  # a turn at a wall says nothing about memory
        self._along += ((before * now)[fair].sum(), (before * before)[fair].sum())
        gap = (now - self.keep * before)[fair]
        self._miss += ((gap * gap).sum(), 2.0 * fair.sum())

    @property
    def keep(self) -> float:
        """Share of a displacement that carries over to the next slot, 0..1."""
        typical = self._along[1] / max(self._miss[1] / 2, 1.0) if self._along[1] > 0 else 1.0
        prior = PRIOR_WEIGHT * typical
        return float(np.clip((self._along[0] + PRIOR_KEEP * prior) / (self._along[1] + prior), 0.0, 1.0))

    @property
    def spread_m(self) -> float:
        """Standard deviation of a place one slot ahead, in each direction, m."""
        if self._miss[1] == 0:
            return 0.05 * self._area
        return float(np.sqrt(self._miss[0] / self._miss[1]))

    def places(self, draws: PlaceDraws) -> Float:
        """Sampled places some slots ahead, (samples, users, 2), m.

        With d the last displacement, r the share that carries over and e_i what is new in slot i, a user at p
        is after h slots at p + d (r + ... + r^h) + sum over i of e_i (1 + ... + r^(h - i)).
        """
        if not self._past:
            return draws.uniforms * self._area
        now = self._past[-1]
        move = now - self._past[-2] if len(self._past) > 1 else np.zeros_like(now)
        reach = np.cumsum(self.keep ** np.arange(draws.ahead.max() + 1))  # 1 + r + ... + r^i
        go, miss = reach - 1, self.spread_m * np.sqrt(np.cumsum(np.append(0.0, reach[:-1] ** 2)))
        go, miss = go[draws.ahead, None, None], miss[draws.ahead, None, None]
        raw = np.mod(now + go * move + miss * draws.normals, 2 * self._area)
        return np.asarray(np.where(raw > self._area, 2 * self._area - raw, raw))
