"""An evaluation as a table and as a picture."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from demo.figures import pyplot
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


def evaluation_table(result: Evaluation) -> Table:
    """One row a scheme, worst first."""
    settings = result.settings
    title = (
        f"scenario {settings['scenario']['name']}, {settings['worlds']} {settings['split']} worlds, "
        f"{settings['seeds']} seed(s); means a slot\n"
        "± half a 95 % interval; moved, cloud, cache updates: MB; ms to decide"
    )
    table = Table(title=title, box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("scheme", overflow="fold")  # a narrow screen folds names, never cuts numbers
    for column in ("delay s", "±", "user s", "P95 s", "hits", "moved", "cloud", "upd.", "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in ladder_order(result):
        row = result.schemes[name]
        low, high = row.mean_ci95
        table.add_row(
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


def steps_table(result: Evaluation) -> Table:
    """Each scheme against the next worse one."""
    columns = ("better", "than", "less delay", "95 % interval", "better in")
    table = Table(*columns, title="the ladder, step by step", box=SIMPLE, pad_edge=False)
    names = ladder_order(result)
    for worse, better in pairwise(names):
        step = result.paired[f"{better}|{worse}"]
        low, high = step.ci95
        table.add_row(
            better,
            worse,
            f"{step.reduction:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{step.improvement_probability:.0%}",
        )
    return table


def print_evaluation(result: Evaluation) -> None:
    """Print both tables."""
    console = Console()
    console.print(evaluation_table(result))
    for label, value in bound_lines(result):
        console.print(f"{label}: {value:.2f} s", highlight=False)
    if len(result.schemes) > 1:
        console.print(steps_table(result))


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


def draw_capacities(sweep: Mapping[float, Evaluation], path: Path) -> None:
    """Cost of each scheme over the room of a node."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    shares = [100 * share for share in sweep]
    for name in ladder_order(next(iter(sweep.values()))):
        rows = [result.schemes[name] for result in sweep.values()]
        ax.plot(shares, [row.mean_delay_s for row in rows], marker="o", ms=4, lw=1.5, label=name)
        ax.fill_between(shares, *zip(*(row.mean_ci95 for row in rows), strict=True), alpha=0.15)
    first = next(iter(sweep.values())).settings
    ax.set_xlabel("room of a node, per cent of the catalogue's deduplicated bytes")
    ax.set_ylabel("seconds of delay a slot")
    ax.set_ylim(bottom=0)
    ax.set_title(f"{first['scenario']['name']}: {first['worlds']} {first['split']} worlds", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _scale(result: Evaluation) -> float:
    """From the bounded worlds to all: how much the best scheme costs more on all of them."""
    best = min(result.on_bound_worlds, key=result.on_bound_worlds.__getitem__)
    return result.schemes[best].mean_delay_s / result.on_bound_worlds[best]


def draw_ladder(result: Evaluation, path: Path) -> None:
    """Mean cost of each scheme with its interval, worst on top; bounds as lines.

    Bounds of fewer worlds are drawn where they would be if all worlds were as hard as those.
    """
    plt = pyplot()
    names = ladder_order(result)
    fig, ax = plt.subplots(figsize=(9, 1.6 + 0.34 * len(names)), layout="constrained")
    for row, name in enumerate(names):
        summary = result.schemes[name]
        mean, (low, high) = summary.mean_delay_s, summary.mean_ci95
        ours = name.split("+")[0].split(":")[0] in ("ewma-greedy", "planner", "price", "learned")
        ax.barh(row, mean, color="#1b6ca8" if ours else "#b8b8b8", height=0.7)
        ax.errorbar(mean, row, xerr=[[mean - low], [high - mean]], color="#333333", capsize=2, lw=1)
        ax.annotate(
            f"{mean:.2f}", (high, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
        )
    for (label, value), style in zip(bound_lines(result), ("-", "--", "-.", ":", ""), strict=False):
        if style:
            ax.axvline(
                value * _scale(result), color="#c8553d", ls=style, lw=1, label=f"{label} ({value:.2f})"
            )
    settings = result.settings
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("seconds of delay a slot, cache updates included")
    ax.set_title(
        f"{settings['scenario']['name']}: {settings['catalog']['models']} models, "
        f"{settings['catalog']['blocks']} blocks, {settings['worlds']} {settings['split']} worlds",
        fontsize=10,
    )
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    plt.close(fig)
