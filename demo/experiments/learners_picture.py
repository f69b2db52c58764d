"""How fast the learners learn: cost on validation worlds against CPU seconds, each seed.

    python -m demo.experiments.learners_picture

Draws `results/convergence.png` from the JSON beside it, which `demo.experiments.learners` writes.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.show.figure import BLUE, FAINT, INK, SKY, clean_axes, pyplot, save_figure

RESULTS = Path(__file__).parent / "results" / "convergence.json"
LEARNERS = {
    # row of the JSON: label
    "maasn-da": "MAASN-DA, our reading",
    "mappo": "MAPPO",
    "maddpg": "MADDPG",
    "qmix": "QMIX",
    "vdn": "VDN",
}
ABLATIONS = {
    "maasn-da": "MAASN-DA, our reading",
    "maasn-da, exact counterfactuals": "exact counterfactuals",
    "maasn-da without augmentation": "without augmentation",
    "maasn-da without action semantics": "without action semantics",
    "maasn-da without decomposition": "without decomposition",
    "maasn-da without gumbel noise": "without Gumbel noise",
    "maasn-da without discount": "without discount",
    "maasn-da, qmix critic": "QMIX critic",
    "maasn-da, vdn critic": "VDN critic",
    "maasn-da told neighbours' forecasts": "told neighbours' forecasts",
}
REFERENCES = {"pooled": "pooled coverage (nothing learnt)", "lru": "LRU"}
COLUMNS = 5
"""Panels side by side."""
LOGGED = (
    "env_steps",
    "cpu_s",
    "cost_s",
    "loss",
    "value_error",
    "entropy",
    "actor_norm",
    "critic_norm",
    "synthetic_share",
    "echo_explained",
)
"""What is kept of a look; empty where a learner has no such number."""

Curve = Sequence[Mapping[str, float]]


def curve_rows(curves: Mapping[str, Mapping[str, Curve]]) -> list[dict[str, object]]:
    """All looks of all curves that are drawn."""
    drawn = [name for name in {**LEARNERS, **ABLATIONS} if curves.get(name)]
    return [
        {"learner": name, "seed": seed, **{key: point.get(key, "") for key in LOGGED}}
        for name in drawn
        for seed, curve in curves[name].items()
        for point in curve
    ]


def draw_convergence(results: Mapping[str, Any], path: Path) -> None:
    """A panel for each learner and each change of MAASN-DA: its seeds, their mean, other means faint."""
    plt = pyplot()
    curves = results["curves"]
    groups = [[name for name in rows if curves.get(name)] for rows in (LEARNERS, ABLATIONS)]
    lines = [(group[at : at + COLUMNS], group) for group in groups for at in range(0, len(group), COLUMNS)]
    size = (2.05 * COLUMNS, 2.7 * len(lines))
    shape = {"figsize": size, "sharex": True, "sharey": True, "layout": "constrained"}
    with plt.rc_context({"font.size": 8}):
        fig, axes = plt.subplots(len(lines), COLUMNS, squeeze=False, **shape)
        for row, (names, group) in zip(axes, lines, strict=True):
            for ax in row[len(names) :]:
                ax.set_axis_off()
            for ax, name in zip(row, names, strict=False):
                _draw(ax, curves[name], [curves[other] for other in group if other != name])
                _draw_references(ax, results["references_s"])
                ax.set_title((LEARNERS | ABLATIONS)[name], fontsize=8)
                clean_axes(ax, "y")
            row[0].set_ylabel("cost on validation worlds (s per slot)")
        _shared_axes(axes)
        fig.supxlabel("CPU time of training (s)", fontsize=8)
        seeds = sorted({len(curves[name]) for group in groups for name in group})
        count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower right", ncols=2)
        text = (
            f"Scenario trio, by the clock; thick: mean of {count} seeds, thin: each seed, faint: other means"
        )
        fig.suptitle(text, fontsize=8, x=0.01, ha="left")
        save_figure(fig, path, curve_rows(results["curves"]))


def _shared_axes(axes: Any) -> None:  # noqa: ANN401
    first = axes[0, 0]
    first.set_ylim(4.0, 5.8)
    first.set_xscale("log")
    first.xaxis.set_major_formatter(_thousands)
    first.xaxis.set_minor_formatter("")


def _mean(runs: Sequence[Curve]) -> tuple[Any, Any]:
    """CPU time and cost in the mean of the seeds; looks are at the same episodes in every seed."""
    looks = min(len(curve) for curve in runs)
    cut = [curve[:looks] for curve in runs]
    at, costs = (
        np.array([[point[key] for point in curve] for curve in cut]).mean(axis=0)
        for key in ("cpu_s", "cost_s")
    )
    return at, costs


def _draw(ax: Any, runs: Mapping[str, Curve], others: Sequence[Mapping[str, Curve]]) -> None:  # noqa: ANN401
    for other in others:
        ax.plot(*_mean(list(other.values())), color=FAINT, lw=0.8, zorder=1)
    for curve in runs.values():
        ax.plot([one["cpu_s"] for one in curve], [one["cost_s"] for one in curve], color=SKY, lw=0.8)
    ax.plot(*_mean(list(runs.values())), color=BLUE, lw=2)


def _thousands(value: float, _: int) -> str:
    return f"{value:,.0f}"


def _draw_references(ax: Any, costs: Mapping[str, float]) -> None:  # noqa: ANN401
    for (name, text), style in zip(REFERENCES.items(), ("--", ":"), strict=True):
        ax.axhline(costs[name], color=INK, lw=1, ls=style, label=text)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=None, help="default: beside the results")
    options = parser.parse_args(argv)
    results = json.loads(options.results.read_text(encoding="utf-8"))
    draw_convergence(results, options.out or options.results.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
