"""An evaluation as a table and as a picture."""

from collections.abc import Mapping
from itertools import cycle, pairwise
from pathlib import Path

from rich.box import SIMPLE

from demo.console import Sheet, say
from demo.figures import clean_axes, pyplot
from policy.evaluation import Evaluation

BOUND_LABELS = {
    "one_step_clairvoyant_s": "one-step clairvoyant",
    "true_planner_s": "planner with true dynamics",
    "hindsight_upper_s": "hindsight optimum, at most",
    "hindsight_lower_s": "hindsight optimum, at least",
}


def bound_lines(result: Evaluation) -> list[tuple[str, float]]:
    """Each bound and its cost, s; where not all worlds were bounded, the best scheme on those, too."""
    made = [
        (label, value) for key, label in BOUND_LABELS.items() if (value := result.bounds[key]) is not None
    ]
    count = result.bounds["worlds"]
    if made and count and count < result.settings["worlds"]:
        best = min(result.on_bound_worlds, key=result.on_bound_worlds.__getitem__)
        made = [(f"{label}, first {count} worlds", value) for label, value in made]
        made.append((f"{best}, first {count} worlds", result.on_bound_worlds[best]))
    return made


def ladder_order(result: Evaluation) -> list[str]:
    """Schemes from the worst to the best."""
    return sorted(result.schemes, key=lambda name: -result.schemes[name].mean_delay_s)


def evaluation_table(result: Evaluation) -> Sheet:
    """One row a scheme, worst first."""
    settings = result.settings
    title = (
        f"scenario {settings['scenario']['name']}, {settings['worlds']} {settings['split']} worlds, "
        f"{settings['seeds']} seed(s); means a slot\n"
        "± half a 95 % interval; moved, cloud, cache updates: MB; ms to decide"
    )
    numbers = ("delay s", "±", "user s", "P95 s", "hits", "moved", "cloud", "upd.", "ms")
    style = {"box": SIMPLE, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Sheet("scheme", *(f"#{column}" for column in numbers), title=title, **style)
    for name in ladder_order(result):
        row = result.schemes[name]
        low, high = row.mean_ci95
        table.row(
            name,
            f"{row.mean_delay_s:.2f}",
            f"{(high - low) / 2:.2f}",
            f"{row.user_delay_s:.2f}",
            f"{row.p95_delay_s:.2f}",
            f"{row.hit_ratio:.2f}",
            *(f"{size / 1e6:.0f}" for size in (row.migrated_bytes, row.cloud_bytes, row.cache_update_bytes)),
            f"{row.decision_ms:.1f}",
        )
    return table


def steps_table(result: Evaluation) -> Sheet:
    """Each scheme against the next worse one."""
    columns = ("better", "than", "#less delay", "#95 % interval", "#better in")
    table = Sheet(*columns, title="the ladder, step by step", box=SIMPLE, pad_edge=False)
    names = ladder_order(result)
    for worse, better in pairwise(names):
        step = result.paired[f"{better}|{worse}"]
        low, high = step.ci95
        table.row(
            better,
            worse,
            f"{step.reduction:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{step.improvement_probability:.0%}",
        )
    return table


def print_evaluation(result: Evaluation) -> None:
    """Print both tables."""
    evaluation_table(result).print()
    say(*(f"{label}: {value:.2f} s" for label, value in bound_lines(result)))
    if len(result.schemes) > 1:
        steps_table(result).print()


def markdown_table(result: Evaluation) -> str:
    """The ladder as a Markdown table."""
    lines = [
        "| scheme | s a slot | 95 % interval | IQM | user mean s | P95 s | hits | decide ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ladder_order(result):
        row = result.schemes[name]
        low, high = row.mean_ci95
        lines.append(
            f"| {name} | {row.mean_delay_s:.2f} | {low:.2f} to {high:.2f} | {row.iqm_delay_s:.2f} | "
            f"{row.user_delay_s:.2f} | {row.p95_delay_s:.2f} | {row.hit_ratio:.3f} | {row.decision_ms:.2f} |"
        )
    lines += [f"| *{label}* | {value:.2f} |" + " |" * 6 for label, value in bound_lines(result)]
    return "\n".join(lines) + "\n"


def markdown_rungs(result: Evaluation, rungs: Mapping[str, str]) -> str:
    """Single steps from the first scheme to the bounds: what each adds, and what it gains, as Markdown."""
    lines = [
        "| step | scheme | s a slot | less than the step before | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    before = None
    for name, text in rungs.items():
        cost = result.schemes[name].mean_delay_s
        if before is None:
            lines.append(f"| {text} | {name} | {cost:.2f} | | |")
        else:
            step = result.paired[f"{name}|{before}"]
            low, high = step.ci95
            lines.append(f"| {text} | {name} | {cost:.2f} | {step.reduction:.1%} | {low:.1%} to {high:.1%} |")
        before = name
    lines += [f"| *{label}* | | {value:.2f} | | |" for label, value in bound_lines(result)]
    return "\n".join(lines) + "\n"


def markdown_capacities(sweep: Mapping[float, Evaluation]) -> str:
    """Cost of each scheme over the room of a node, as Markdown."""
    names = ladder_order(next(iter(sweep.values())))
    head = " | ".join(f"{share:.0%}" for share in sweep)
    lines = [f"| scheme, s a slot, by room of a node | {head} |", "|---" * (len(sweep) + 1) + "|"]
    for name in names:
        cells = " | ".join(f"{result.schemes[name].mean_delay_s:.2f}" for result in sweep.values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


MARKERS = "osD^vPX"


def draw_capacities(sweep: Mapping[float, Evaluation], path: Path) -> None:
    """Cost of each scheme over the room of a node, with the interval of its mean over worlds."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    shares = [100 * share for share in sweep]
    for name, marker in zip(ladder_order(next(iter(sweep.values()))), cycle(MARKERS)):
        rows = [result.schemes[name] for result in sweep.values()]
        costs = [row.mean_delay_s for row in rows]
        ax.plot(shares, costs, marker=marker, mfc="none", ms=6, lw=1.5, label=name)
        ax.fill_between(shares, *zip(*(row.mean_ci95 for row in rows), strict=True), alpha=0.12, lw=0)
    first = next(iter(sweep.values())).settings
    ax.set_xlabel("room of a node (% of the catalogue's deduplicated bytes)")
    ax.set_ylabel("delay a slot, cache updates included (s)")
    ax.set_ylim(bottom=0)
    ax.set_title(f"{first['scenario']['name']}: {first['worlds']} {first['split']} worlds", fontsize=10)
    bands = "bands: 95 % interval of the mean over worlds; all schemes play the same worlds"
    fig.supxlabel(bands, fontsize=8)
    clean_axes(ax, "y")
    fig.legend(loc="outside right center", frameon=False, fontsize=8)
    fig.savefig(path, dpi=150)
    plt.close(fig)


OURS = ("ewma-greedy", "ewma-local", "price", "planner", "learned")
COLOURS = {"ours": "#1b6ca8", "ours, with something switched off": "#7fb2d9", "others": "#b8b8b8"}


def draw_ladder(result: Evaluation, path: Path) -> None:
    """Mean cost of each scheme with its interval, worst on top; bounds as lines.

    Bounds of fewer worlds are drawn where they would be if all worlds were as hard as those, and the legend
    says so.
    """
    plt = pyplot()
    names = ladder_order(result)
    fig, ax = plt.subplots(figsize=(9, 2.2 + 0.3 * len(names)), layout="constrained")
    for row, name in enumerate(names):
        summary = result.schemes[name]
        mean, (low, high) = summary.mean_delay_s, summary.mean_ci95
        kind = _kind(name)
        first = kind not in map(_kind, names[:row])
        ax.barh(row, mean, color=COLOURS[kind], height=0.7, label=kind if first else None)
        ax.errorbar(mean, row, xerr=[[mean - low], [high - mean]], color="#333333", capsize=2, lw=1)
        ax.annotate(
            f"{mean:.2f}", (high, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
        )
    for (at, label), style in zip(_drawn_bounds(result), ("-", "--", "-.", ":"), strict=False):
        ax.axvline(at, color="#c8553d", ls=style, lw=1, label=label)
    settings = result.settings
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("delay a slot, cache updates included (s); whiskers: 95 % interval of the mean over worlds")
    ax.set_title(
        f"{settings['scenario']['name']}: {settings['catalog']['models']} models, "
        f"{settings['catalog']['blocks']} blocks, {settings['worlds']} {settings['split']} worlds",
        fontsize=10,
    )
    ax.spines[["top", "right"]].set_visible(False)
    fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _kind(name: str) -> str:
    base, plus, _ = name.partition("+")
    if base.partition(":")[0] not in OURS:
        return "others"
    return "ours, with something switched off" if plus else "ours"


def _drawn_bounds(result: Evaluation) -> list[tuple[float, str]]:
    """Where each bound is drawn, s, and what the legend says."""
    bounds = {
        label: value for key, label in BOUND_LABELS.items() if (value := result.bounds[key]) is not None
    }
    count = result.bounds["worlds"]
    if not bounds or count == result.settings["worlds"]:
        return [(value, f"{label}: {value:.2f}") for label, value in bounds.items()]
    best = min(result.on_bound_worlds, key=result.on_bound_worlds.__getitem__)
    there = result.on_bound_worlds[best]
    scale = result.schemes[best].mean_delay_s / there
    return [
        (value * scale, f"{label}: {value:.2f} on {count} worlds, {value / there:.1%} of {best} there")
        for label, value in bounds.items()
    ]
