"""How fast the learners learn: cost on validation worlds against CPU seconds and slots played, over seeds.

    python -m demo.experiments.learners_picture

Draws `results/convergence.png` from the JSON beside it, which `demo.experiments.learners` writes.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.show.figure import clean_axes, pyplot, save_figure

RESULTS = Path(__file__).parent / "results" / "convergence.json"
LEARNERS = {
    # row of the JSON: (label, colour)
    "augur": ("Augur (ours)", "#1b6ca8"),
    "maasn-da": ("MAASN-DA, our reading", "#c8553d"),
    "mappo": ("MAPPO", "#3a7d44"),
    "maddpg": ("MADDPG", "#8e6bbf"),
    "qmix": ("QMIX", "#c79a2b"),
    "vdn": ("VDN", "#7a7a7a"),
}
ABLATIONS = {
    "maasn-da": ("MAASN-DA, our reading", "#c8553d"),
    "maasn-da without augmentation": ("without augmentation", "#1b6ca8"),
    "maasn-da without action semantics": ("without action semantics", "#8e6bbf"),
    "maasn-da without decomposition": ("without decomposition", "#7a7a7a"),
    "maasn-da, qmix critic": ("QMIX critic", "#c79a2b"),
    "maasn-da, vdn critic": ("VDN critic", "#3a7d44"),
}
REFERENCES = {"ewma-greedy": "EWMA-greedy (nothing learnt)", "lru": "LRU"}
AXES = {"cpu_s": "CPU time of training (s)", "env_steps": "slots played (training)"}

Curve = Sequence[Mapping[str, float]]


def curve_rows(curves: Mapping[str, Mapping[str, Curve]]) -> list[dict[str, object]]:
    """All looks of all curves that are drawn."""
    drawn = [name for name in {**LEARNERS, **ABLATIONS} if curves.get(name)]
    return [
        {"learner": name, "seed": seed, **point}
        for name in drawn
        for seed, curve in curves[name].items()
        for point in curve
    ]


def draw_convergence(results: Mapping[str, Any], path: Path) -> None:
    """Two rows (learners; MAASN-DA and its ablations), two columns (CPU time; slots played)."""
    plt = pyplot()
    fig, axes = plt.subplots(2, 2, figsize=(12.5, 8), sharey=True, layout="constrained")
    for row, rows in zip(axes, (LEARNERS, ABLATIONS), strict=True):
        for ax, (key, label) in zip(row, AXES.items(), strict=True):
            for name, (text, colour) in rows.items():
                if results["curves"].get(name):
                    _draw(ax, list(results["curves"][name].values()), key, text, colour)
            _draw_references(ax, results["references_s"])
            ax.set_xlabel(label)
            clean_axes(ax, "y")
        row[0].set_ylabel("cost on validation worlds (s per slot)")
        row[1].xaxis.set_major_formatter(_thousands)
        row[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)
    for ax in axes[0]:
        ax.set_xscale("log")  # Augur's slots are many and cheap
        ax.xaxis.set_major_formatter(_thousands)
        ax.xaxis.set_minor_formatter("")
    axes[0, 0].set_ylim(32, 60)
    axes[0, 0].set_title("learners", loc="left", fontsize=11)
    axes[1, 0].set_title("MAASN-DA with one thing changed", loc="left", fontsize=11)
    seeds = sorted({len(runs) for runs in results["curves"].values() if runs})
    count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    text = f"Scenario findings; lines: mean of {count} training seeds, bands: their range; cut off above 60 s"
    fig.suptitle(text, fontsize=11)
    save_figure(fig, path, curve_rows(results["curves"]))


def _draw(ax: Any, runs: Sequence[Curve], key: str, text: str, colour: str) -> None:  # noqa: ANN401
    """Mean and range over seeds; looks are at the same episodes in every seed."""
    looks = min(len(curve) for curve in runs)
    at = np.array([[point[key] for point in curve[:looks]] for curve in runs]).mean(axis=0)
    costs = np.array([[point["cost_s"] for point in curve[:looks]] for curve in runs])
    if key == "env_steps":  # no zero on a logarithmic axis
        at, costs = at[1:], costs[:, 1:]
    ax.plot(at, costs.mean(axis=0), color=colour, lw=1.8, marker="o", ms=3, label=text)
    ax.fill_between(at, costs.min(axis=0), costs.max(axis=0), color=colour, alpha=0.12, lw=0)


def _thousands(value: float, _: int) -> str:
    return f"{value:,.0f}"


def _draw_references(ax: Any, costs: Mapping[str, float]) -> None:  # noqa: ANN401
    for (name, text), style in zip(REFERENCES.items(), ("--", ":"), strict=True):
        ax.axhline(costs[name], color="#333333", lw=1, ls=style, label=text)


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
