"""Numbers with intervals: interquartile mean, bootstrap over worlds and seeds, paired reductions.

After Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021,
arXiv 2108.13264, with worlds in place of tasks. Values have shape (worlds, seeds). Worlds and seeds are
crossed: a resample draws worlds (within each stratum) and, apart from them, seeds; schemes that are compared
share it.
"""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """How much lower one scheme's cost is than another's, on the same worlds."""

    reduction: float
    """1 - mean(a) / mean(b): 0.1 means a costs ten per cent less."""
    ci95: tuple[float, float]
    """Bootstrap interval of the reduction."""
    improvement_probability: float
    """Share of (world, seed) pairs in which a costs less than b; a tie counts half."""
    improvement_ci95: tuple[float, float]
    """Bootstrap interval of that share."""
    worlds: int
    """Worlds compared."""
    seeds: int
    """Seeds per world of the scheme that has more."""


def iqm(values: Float) -> float:
    """Interquartile mean: mean of the middle half, all values together.

    Of n values, n / 4 are cut from each end; if that is no whole number, the border values count in part.
    """
    ordered = np.sort(np.ravel(values))
    if ordered.size == 0:
        raise ValueError("the interquartile mean needs a value")
    cut = ordered.size / 4
    places = np.arange(ordered.size)
    weights = np.clip(places + 1 - cut, 0, 1) * np.clip(ordered.size - cut - places, 0, 1)
    return float((weights * ordered).sum() / weights.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Bootstrap draws, as how often each world and each seed was drawn."""

    worlds: Float
    """(draws, worlds), rows sum to the number of worlds, within each stratum too."""
    seeds: Float
    """(draws, seeds), rows sum to the number of seeds."""

    def means(self, values: Float) -> Float:
        """Mean of the resampled values (worlds, seeds) in each draw, (draws,)."""
        return np.asarray(((self.worlds @ values) * self.seeds).sum(axis=1) / values.size)


def bootstrap(
    rng: np.random.Generator, worlds: int, seeds: int, draws: int = 2000, strata: Int | None = None
) -> Draws:
    """Draw worlds with replacement within each stratum, and seeds with replacement.

    Args:
        rng: Source of every draw.
        worlds: Number of worlds.
        seeds: Seeds per world.
        draws: Resamples.
        strata: Stratum of each world, (worlds,); None: one stratum.
    """
    labels = np.zeros(worlds, dtype=np.int64) if strata is None else np.asarray(strata)
    if labels.shape != (worlds,):
        raise ValueError(f"need a stratum for each of {worlds} worlds, got shape {labels.shape}")
    weights = np.zeros((draws, worlds))
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        weights[:, inside] = rng.multinomial(inside.size, np.full(inside.size, 1 / inside.size), size=draws)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    return Draws(worlds=weights, seeds=drawn_seeds.astype(np.float64))


def mean_interval(values: Float, draws: Draws) -> tuple[float, float]:
    """95 % interval of the mean of values (worlds, seeds)."""
    return _middle(draws.means(values))


def iqm_interval(values: Float, draws: Draws) -> tuple[float, float]:
    """95 % interval of the interquartile mean of values (worlds, seeds)."""
    flat = np.ravel(values)
    order = np.argsort(flat)
    counts = (draws.worlds[:, :, None] * draws.seeds[:, None, :]).reshape(len(draws.worlds), -1)[:, order]
    ends = np.cumsum(counts, axis=1)
    cut = ends[:, -1:] / 4
    inside = np.clip(np.minimum(ends, 3 * cut) - np.maximum(ends - counts, cut), 0.0, None)
    return _middle((inside @ flat[order]) / inside.sum(axis=1))


def paired(a: Float, b: Float, draws: Draws) -> Paired:
    """Compare two schemes on the same worlds.

    Args:
        a: Cost of the first, (worlds, seeds); one column if it does not draw.
        b: Cost of the second, (worlds, seeds), likewise.
        draws: Resamples of the worlds and of the larger number of seeds.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[0] or a.size == 0:
        raise ValueError(f"need costs (worlds, seeds) of the same worlds, got {a.shape}, {b.shape}")
    seeds = draws.seeds.shape[1]
    a, b = _wide(a, seeds), _wide(b, seeds)
    better = (a < b) + 0.5 * (a == b)
    return Paired(
        reduction=float(_reduction(a.mean(keepdims=True), b.mean(keepdims=True)).item()),
        ci95=_middle(_reduction(draws.means(a), draws.means(b))),
        improvement_probability=float(better.mean()),
        improvement_ci95=_middle(draws.means(better)),
        worlds=a.shape[0],
        seeds=seeds,
    )


def _reduction(a: Float, b: Float) -> Float:
    """How much lower a is than b, as a share of b; where b costs nothing, 0 if a does neither, else -inf."""
    share = np.where(a > 0, -np.inf, 0.0)
    return np.asarray(np.divide(b - a, b, out=share, where=b > 0))


def _wide(values: Float, seeds: int) -> Float:
    if values.shape[1] not in (1, seeds):
        raise ValueError(f"need 1 or {seeds} seeds, got {values.shape[1]}")
    return np.broadcast_to(values, (values.shape[0], seeds))


def _middle(values: Float) -> tuple[float, float]:
    finite = bool(np.isfinite(values).all())
    low, high = np.quantile(values, [0.025, 0.975], method="linear" if finite else "nearest")
    return float(low), float(high)
