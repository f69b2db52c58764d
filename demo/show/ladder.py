"""Pictures of an evaluation: the ladder of schemes beside its bounds, and the sweep of capacities."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from demo.show.figure import BLUE, GREY, RED, SKY, clean_axes, font_pt, pyplot, save_figure, width_in
from policy.evaluation import Evaluation

BOUND_LABELS = {
    "one_step_clairvoyant_s": "one-step clairvoyant",
    "true_planner_s": "planner with true dynamics",
    "hindsight_upper_s": "hindsight optimum, at most",
    "causal_lower_s": "without seeing the future, at least",
    "hindsight_lower_s": "hindsight optimum, at least",
}
BOUND_STYLES = ("-", "--", "-.", (0, (1, 1)), ":")
OURS = ("ewma-greedy", "ewma-local", "pooled", "price", "planner", "planner-fair", "learned")
COLOURS = {"ours": BLUE, "ours, with something switched off": SKY, "others": GREY}
MARKERS = "osD^vPX"


def ladder_order(result: Evaluation) -> list[str]:
    """Schemes from the worst to the best."""
    return sorted(result.schemes, key=lambda name: -result.schemes[name].mean_delay_s)


def bounds_of(result: Evaluation) -> dict[str, float]:
    """Each bound that there is by its label, s."""
    return {
        label: value for key, label in BOUND_LABELS.items() if (value := result.bounds.get(key)) is not None
    }


def ladder_rows(result: Evaluation) -> list[dict[str, object]]:
    """What the picture shows: on all worlds, and on those of the bounds; s per slot."""
    worlds, bounded = result.settings["worlds"], result.bounds["worlds"]
    rows: list[dict[str, object]] = []
    for name in ladder_order(result):
        summary = result.schemes[name]
        row: dict[str, object] = {"name": name, "kind": "scheme", "worlds": worlds}
        row |= {"mean_s": summary.mean_delay_s, "ci95_low_s": summary.mean_ci95[0]}
        row |= {"ci95_high_s": summary.mean_ci95[1], "bound_worlds": bounded}
        rows.append({**row, "on_bound_worlds_s": result.on_bound_worlds.get(name, "")})
    for label, value in bounds_of(result).items():
        bound: dict[str, object] = dict.fromkeys(rows[0], "")
        bound |= {"name": label, "kind": "bound", "bound_worlds": bounded, "on_bound_worlds_s": value}
        rows.append(bound)
    return rows


def draw_ladder(result: Evaluation, path: Path) -> None:
    """Mean cost of each scheme with its interval over all worlds, worst on top; the numbers as CSV beside.

    Bounds are drawn on the worlds that they were computed on. Where these are not all worlds, a second panel
    has what each scheme cost there, as a multiple of the least bound, on a logarithmic axis.
    """
    plt, bounds = pyplot(), bounds_of(result)
    apart = bool(bounds) and result.bounds["worlds"] != result.settings["worlds"]
    names, size = ladder_order(result), font_pt(path)
    with plt.rc_context({"font.size": size}):
        height = (1.3 + 0.13 * len(names)) * (1.0 if path.suffix == ".pdf" else 1.9)
        shape = {"figsize": (width_in(path, 2 if apart else 1), height), "layout": "constrained"}
        fig, axes = plt.subplots(1, 2 if apart else 1, sharey=True, squeeze=False, **shape)
        left, right = axes[0][0], axes[0][-1]
        _draw_all_worlds(left, result, names, size)
        if apart:
            _draw_bound_worlds(right, result, names, size)
        least = min(bounds.values()) if apart else 1.0
        for (label, value), style in zip(bounds.items(), BOUND_STYLES, strict=False):
            right.axvline(value / least, color=RED, ls=style, lw=1, label=f"{label}: {value:.2f} s")
        fig.legend(loc="outside lower center", ncols=2 if apart else 1, fontsize=size - 0.5)
        save_figure(fig, path, ladder_rows(result))


def _draw_bound_worlds(ax: Any, result: Evaluation, names: list[str], size: float) -> None:  # noqa: ANN401
    """What the schemes cost on the worlds of the bounds, as multiples of the least of these."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    least = min(bounds_of(result).values())
    there = [result.on_bound_worlds[name] / least for name in names]
    ax.scatter(there, range(len(names)), c=[COLOURS[_kind(name)] for name in names], s=14, marker="D")
    at = {"textcoords": "offset points", "va": "center", "fontsize": size - 1}
    for row, ratio in enumerate(there):
        ax.annotate(f"{ratio:.2f}", (ratio, row), xytext=(5, 0), **at)
    ax.set_xscale("log")
    ax.set_xlim(0.96, 1.25 * max(there))
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(f"the first {result.bounds['worlds']} worlds, beside their bounds", fontsize=size)
    ax.set_xlabel("times the least bound")
    clean_axes(ax, "both")


def _draw_all_worlds(ax: Any, result: Evaluation, names: list[str], size: float) -> None:  # noqa: ANN401
    """Dots and whiskers, each with its number."""
    for row, name in enumerate(names):
        summary = result.schemes[name]
        mean, (low, high) = summary.mean_delay_s, summary.mean_ci95
        kind = _kind(name)
        first = kind not in map(_kind, names[:row])
        spread = [[mean - low], [high - mean]]
        ax.errorbar(mean, row, xerr=spread, fmt="o", ms=3.5, capsize=1.5, lw=1, color=COLOURS[kind])
        if first:
            ax.plot([], [], "o", ms=3.5, color=COLOURS[kind], label=kind)
        at = {"xy": (high, row), "xytext": (3, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(f"{mean:.2f}", fontsize=size - 1, **at)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.margins(x=0.12)
    ax.set_xlabel("delay per slot, updates included (s); whiskers: 95 % of the mean")
    ax.set_title(_title(result.settings), fontsize=size)
    clean_axes(ax, "both")


def _title(settings: Mapping[str, Any]) -> str:
    worlds = f"{settings['scenario']['name']}: {settings['worlds']} {settings['split']} worlds"
    return f"{worlds}, {settings['catalog']['models']} models, {settings['catalog']['blocks']} blocks"


def _kind(name: str) -> str:
    base, plus, _ = name.partition("+")
    if base.partition(":")[0] not in OURS:
        return "others"
    return "ours, with something switched off" if plus else "ours"


def capacity_rows(sweep: Mapping[float, Evaluation]) -> list[dict[str, object]]:
    """What the sweep shows, s per slot."""
    return [
        {
            "scheme": name,
            "room_share": share,
            "mean_s": row.mean_delay_s,
            "ci95_low_s": row.mean_ci95[0],
            "ci95_high_s": row.mean_ci95[1],
            "worlds": result.settings["worlds"],
        }
        for share, result in sweep.items()
        for name, row in result.schemes.items()
    ]


def draw_capacities(sweep: Mapping[float, Evaluation], path: Path) -> None:
    """Cost of each scheme over the room of a node, with the interval of its mean over worlds; CSV beside."""
    plt, size = pyplot(), font_pt(path)
    with plt.rc_context({"font.size": size}):
        wide, flat = width_in(path), 0.95 if path.suffix == ".pdf" else 0.5
        fig, ax = plt.subplots(figsize=(wide, wide * flat), layout="constrained")
        shares = [100 * share for share in sweep]
        for name, marker in zip(ladder_order(next(iter(sweep.values()))), cycle(MARKERS), strict=False):
            rows = [result.schemes[name] for result in sweep.values()]
            costs = [row.mean_delay_s for row in rows]
            (line,) = ax.plot(shares, costs, marker=marker, mfc="none", ms=4, lw=1.2, label=name)
            low, high = zip(*(row.mean_ci95 for row in rows), strict=True)
            ax.vlines(shares, low, high, color=line.get_color(), lw=1)
        first = next(iter(sweep.values())).settings
        ax.set_xlabel("room of a node (% of the catalog's deduplicated bytes)")
        ax.set_ylabel("delay per slot, updates included (s)")
        ax.set_ylim(bottom=0)
        text = f"{first['scenario']['name']}: {first['worlds']} {first['split']} worlds, the same for all"
        ax.set_title(text, fontsize=size)
        clean_axes(ax, "y")
        where = "outside lower center" if path.suffix == ".pdf" else "outside right center"
        fig.legend(loc=where, fontsize=size, ncols=2 if path.suffix == ".pdf" else 1)
        save_figure(fig, path, capacity_rows(sweep))
