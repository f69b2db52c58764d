"""An evaluation as tables."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from rich.box import SIMPLE

from demo.console import Sheet, say
from demo.show.ladder import BOUND_LABELS, ladder_order
from demo.show.load import DEFINITIONS, lever_lines, load_lines, load_table
from policy.evaluation import Evaluation, SchemeSummary


def bound_lines(result: Evaluation) -> list[tuple[str, float]]:
    """Each bound and its cost, s; where not all worlds were bounded, the best scheme on those, too."""
    lines = [
        (label, value) for key, label in BOUND_LABELS.items() if (value := result.bounds.get(key)) is not None
    ]
    count = result.bounds["worlds"]
    if lines and count and count < result.settings["worlds"]:
        best = min(result.on_bound_worlds, key=result.on_bound_worlds.__getitem__)
        lines = [(f"{label}, first {count} worlds", value) for label, value in lines]
        lines.append((f"{best}, first {count} worlds", result.on_bound_worlds[best]))
    return lines


def evaluation_table(result: Evaluation) -> Sheet:
    """One row a scheme, worst first."""
    settings = result.settings
    title = (
        f"scenario {settings['scenario']['name']}, {settings['worlds']} {settings['split']} worlds, "
        f"{settings['seeds']} seed(s); means per slot\n"
        f"delay: {_objective(settings['scenario'])}\n"
        "± half a 95 % interval; user, P95: request to last block;\n"
        "moved, cloud, upd.: MB between nodes, from the cloud, into caches"
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


def _objective(scenario: Mapping[str, Any]) -> str:
    """What the scenario minimises, in words."""
    delay = "mean over a slot's users" if scenario["objective"] == "mean-user" else "sum over a slot's blocks"
    if scenario["timing"] == "additive":
        return f"{delay} plus {scenario['update_weight']:g} x time of cache updates"
    return delay


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


def trace_line(trace: Mapping[str, int]) -> str:
    """What became of the requests of a trace's file."""
    return (
        f"trace of {trace['requests']} requests: {trace['kept']} kept ({trace['delayed']} of them delayed), "
        f"{trace['dropped']} dropped, {trace['foreign']} for what is no model; {trace['slots']} slots"
    )


def print_evaluation(result: Evaluation) -> None:
    """Print both tables."""
    if "trace" in result.settings:
        say(trace_line(result.settings["trace"]))
    evaluation_table(result).print()
    say(*(f"{label}: {value:.2f} s" for label, value in bound_lines(result)))
    load_table(result, ladder_order(result)).print()
    say(*load_lines(result), *lever_lines(result))
    if len(result.schemes) > 1:
        steps_table(result).print()


def markdown_table(result: Evaluation) -> str:
    """The ladder as a Markdown table."""
    lines = [
        f"s per slot: {_objective(result.settings['scenario'])}; {' '.join(DEFINITIONS)}.",
        *load_lines(result),
        "",
        "| scheme | s per slot | 95 % interval | IQM | user mean s | P95 s | hits | decide ms "
        "| band | link | left s | upd. MB |",
        "|---" * 12 + "|",
    ]
    for name in ladder_order(result):
        row = result.schemes[name]
        low, high = row.mean_ci95
        lines.append(
            f"| {name} | {row.mean_delay_s:.2f} | {low:.2f} to {high:.2f} | {row.iqm_delay_s:.2f} | "
            f"{row.user_delay_s:.2f} | {row.p95_delay_s:.2f} | {row.hit_ratio:.3f} | {row.decision_ms:.2f} "
            f"| {_load_cells(row)} |"
        )
    lines += [f"| *{label}* | {value:.2f} |" + " |" * 10 for label, value in bound_lines(result)]
    return "\n".join(lines) + "\n"


def _load_cells(row: SchemeSummary) -> str:
    """Band, busiest link, backlog and updates of one scheme; empty where they were not measured."""
    if row.load is None:
        return " | | | "
    left_s = max(row.load.band_backlog_s, row.load.link_backlog_s)
    shares = f"{row.load.band:.0%} | {row.load.busiest_link:.0%}"
    return f"{shares} | {left_s:.1f} | {row.cache_update_bytes / 1e6:.0f}"


def markdown_rungs(result: Evaluation, rungs: Mapping[str, str]) -> str:
    """Single steps from the first scheme to the bounds: what each adds, and what it gains, as Markdown."""
    lines = [
        "| step | scheme | s per slot | less than the step before | 95 % interval |",
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
    lines = [f"| scheme, s per slot, by room of a node | {head} |", "|---" * (len(sweep) + 1) + "|"]
    for name in names:
        cells = " | ".join(f"{result.schemes[name].mean_delay_s:.2f}" for result in sweep.values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"
