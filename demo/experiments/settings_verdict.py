"""What ten settings tell together: where ours is below all rivals, how far in scarce rooms, where behind.

All is computed from the rows of `demo.experiments.settings_ten.summary`. A rival is whoever is not told the
future and is not ours; intervals are 95 % bootstrap ones over worlds and training seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policy.evaluation.statistics import bootstrap
from policy.interfaces import Float

Rows = Mapping[str, Mapping[str, Any]]
"""A summary for each setting, by its name."""
SCARCE = 3
"""So many scarce settings are looked at: those with the largest gain."""
GAIN = 0.08
"""How far below the best rival ours is to be in each of them."""
BEHIND = -0.01
"""A gain below this is a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """How much lower ours is, as a share of the other, with its 95 % interval."""

    name: str
    """Of a setting, or of a rival."""
    reduction: float
    low: float
    high: float
    settings: int = 1
    """Settings behind it."""

    def __str__(self) -> str:
        low, high = f"{100 * self.low:.1f}", f"{100 * self.high:.1f}"
        return f"{self.name} {100 * self.reduction:.1f} % ({low} to {high})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is asked of the ten settings."""

    settings: int
    below_all: tuple[str, ...]
    """Settings in which ours has a lower mean than every rival."""
    clear: tuple[str, ...]
    """Those of them in which the interval against every rival is above zero."""
    scarce: tuple[Below, ...]
    """Against the best rival, in the scarce settings with the largest gain, that first."""
    behind: tuple[Below, ...]
    """Against the best rival, where ours is behind by more than 1 %."""
    against: tuple[Below, ...]
    """Against each rival alone, geometric mean over the settings in which it was played."""

    @property
    def scarce_reached(self) -> int:
        """In how many of these scarce settings the gain is as large as wanted."""
        return sum(one.reduction >= GAIN for one in self.scarce)


def verdict(done: Rows) -> Verdict:
    """All answers, from the rows of all settings."""
    best = [_below(name, one["schemes"][one["best_rival"]]["ours_below"]) for name, one in done.items()]
    scarce = [below for below in best if done[below.name]["room_of_all"] < 1.0]
    below_all = tuple(name for name, one in done.items() if all(gap["reduction"] > 0 for gap in _gaps(one)))
    return Verdict(
        settings=len(done),
        below_all=below_all,
        clear=tuple(name for name in below_all if all(gap["ci95"][0] > 0 for gap in _gaps(done[name]))),
        scarce=tuple(sorted(scarce, key=lambda below: -below.reduction)[:SCARCE]),
        behind=tuple(below for below in best if below.reduction < BEHIND),
        against=_against_each(done),
    )


def _gaps(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one["schemes"][rival]["ours_below"] for rival in one["rivals"]]


def _below(name: str, gap: Mapping[str, Any]) -> Below:
    low, high = gap["ci95"]
    return Below(name=name, reduction=gap["reduction"], low=low, high=high)


def costs_of(one: Mapping[str, Any], names: Sequence[str]) -> Float:
    """Costs of some schemes in a setting, (worlds, schemes), s."""
    return np.array([one["schemes"][name]["costs_s"] for name in names]).T


def _against_each(done: Rows) -> tuple[Below, ...]:
    """Rivals by what stands before the colon: EWMA-greedy is tuned in each setting."""
    pairs: dict[str, list[tuple[Float, Float]]] = {}
    for one in done.values():
        ours = costs_of(one, one["seeds"])
        for rival in one["rivals"]:
            pairs.setdefault(rival.partition(":")[0], []).append((ours, costs_of(one, [rival])))
    return tuple(geometric_mean(rival, costs) for rival, costs in pairs.items())


def geometric_mean(name: str, pairs: Sequence[tuple[Float, Float]]) -> Below:
    """How much lower ours is than one rival, in the geometric mean over settings.

    A resample draws worlds in each setting apart, and training seeds for all settings at once.

    Args:
        name: The rival.
        pairs: Costs of ours (worlds, seeds) and of the rival (worlds, 1) in each setting, > 0.
    """
    rng, seeds = np.random.default_rng(0), pairs[0][0].shape[1]
    drawn_seeds = bootstrap(rng, 1, seeds).seeds
    ratios, drawn = [], []
    for ours, rival in pairs:
        draws = replace(bootstrap(rng, len(ours), seeds), seeds=drawn_seeds)
        ratios.append(np.log(ours.mean() / rival.mean()))
        drawn.append(np.log(draws.means(ours) / draws.means(np.broadcast_to(rival, ours.shape))))
    low, high = np.quantile(1.0 - np.exp(np.mean(drawn, axis=0)), [0.025, 0.975])
    reduction = float(1.0 - np.exp(np.mean(ratios)))
    return Below(name=name, reduction=reduction, low=float(low), high=float(high), settings=len(pairs))


def verdict_lines(told: Verdict) -> list[str]:
    """What is asked, as lines of Markdown."""
    every = len(told.scarce) == SCARCE and told.scarce_reached == SCARCE
    lines = [
        "## What is asked\n",
        f"- Ours is below every rival in **{len(told.below_all)} of {told.settings}** settings"
        f"{_named(told.below_all)}, clear of zero against every rival in **{len(told.clear)}** (7 wanted)"
        f"{_named(told.clear)}.",
        f"- Scarce settings (the nodes together hold less than the catalog) with the largest gain below the "
        f"best rival: {', '.join(map(str, told.scarce)) or 'none'}. At least {GAIN:.0%} in "
        f"**{told.scarce_reached} of {SCARCE}**: {'reached' if every else 'not reached'}.",
        f"- Behind the best rival by more than 1 % in **{len(told.behind)}** (none wanted)"
        f"{_named([f'{one.name} {-100 * one.reduction:.1f} %' for one in told.behind])}.",
        "- Ours against each rival alone, geometric mean over settings:\n",
        "| rival | settings | ours below | 95 % |",
        "|---|---|---|---|",
    ]
    for one in told.against:
        interval = f"{100 * one.low:.1f} to {100 * one.high:.1f}"
        lines.append(f"| {one.name} | {one.settings} | {100 * one.reduction:.1f} % | {interval} |")
    return lines


def _named(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
