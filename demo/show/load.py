"""How busy band and links were, and what each lever of a scheme is worth, as tables and lines."""

from collections.abc import Mapping

from rich.box import SIMPLE

from demo.console import Sheet
from policy.evaluation import Evaluation, Load

DEFINITIONS = (
    "band, link: work given to them over the time there was (link: busiest node);",
    "backhaul, cloud: link time for copies from nodes and from the cloud, mean of",
    "nodes; updates are in all; left: work undone at the end; upd., cut: MB a slot",
    "brought into caches, and wanted there but not brought",
)
"""What the columns mean, in lines."""
LOST = "lost: broadcasts that the true channel did not carry (outage), sent again"
"""The same of a column that is there where channels are known only up to an error."""
LEVERS = {
    "no-comp": "CoMP",
    "no-air-sharing": "sharing on the air",
    "no-store-sharing": "sharing in stores",
    "whole-models": "blocks instead of whole models",
}
"""What an ablation switches off, in words."""
UNSEEN = 0.005
"""A lever that changes less than this share shows nothing."""


def load_table(result: Evaluation, names: list[str]) -> Sheet:
    """Utilisation, backlog and update traffic of each scheme, after what the columns mean."""
    deadline = result.settings["scenario"].get("deadline_s", 1.0)
    lossy = any(row.lost_ratio is not None for row in result.schemes.values())
    numbers = (*LOAD_COLUMNS, "max s", f"in {deadline:g} s", *(("lost",) if lossy else ()))
    title = "\n".join((*DEFINITIONS, LOST) if lossy else DEFINITIONS)
    style = {"box": SIMPLE, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Sheet("scheme", *(f"#{n}" for n in numbers), title=title, **style)
    for name in names:
        row = result.schemes[name]
        load = row.load
        if load is None or row.max_delay_s is None or row.in_time is None:
            continue
        cells = load_cells(load, row.cache_update_bytes)
        lost = [] if row.lost_ratio is None else [f"{row.lost_ratio:.1%}"]
        table.row(name, *cells, f"{row.max_delay_s:.1f}", f"{row.in_time:.0%}", *lost)
    return table


LOAD_COLUMNS = ("band", "link", "backhaul", "cloud", "left s", "upd.", "cut")
"""Columns of `load_cells`."""


def load_cells(load: Load, update_bytes: float) -> list[str]:
    """Utilisation, backlog at the end, and MB a slot of updates brought and cut."""
    shares = (load.band, load.busiest_link, load.backhaul, load.cloud)
    return [
        *(f"{share:.0%}" for share in shares),
        f"{max(load.band_backlog_s, load.link_backlog_s):.1f}",
        *(f"{size / 1e6:.0f}" for size in (update_bytes, load.update_cut_bytes)),
    ]


def overload_lines(loads: Mapping[str, Load], *, carried: bool) -> list[str]:
    """A warning where band or a link was given more work than it can do; `carried`: whether that waits."""
    busy = {name: max(load.band, load.busiest_link) for name, load in loads.items() if load.overloaded}
    if not busy:
        return []
    worst = max(busy, key=busy.__getitem__)
    names = f"{len(busy)} of {len(loads)} schemes, at most {busy[worst]:.0%} ({worst})"
    then = (
        "work left undone delays the slots after, and delays grow with the length of the episode"
        if carried
        else "slots of this scenario carry nothing over, as in a laboratory: users would wait longer"
    )
    return [f"WARNING: more work than band or a link can do in {names}: {then}"]


def load_lines(result: Evaluation) -> list[str]:
    """The warning of an evaluation."""
    scenario = result.settings["scenario"]
    carried = scenario.get("backlog", False) and scenario["timing"] != "additive"
    loads = {name: row.load for name, row in result.schemes.items() if row.load is not None}
    return overload_lines(loads, carried=carried)


def lever_lines(result: Evaluation) -> list[str]:
    """What each part that some scheme was also played without takes off its delay.

    Where that is nothing: how much anybody could take off at all, by a bound.
    """
    lines = []
    for name in result.schemes:
        whole, _, switch = name.rpartition("+")
        if whole in result.schemes:
            lines.append(_lever_line(result, whole, name, LEVERS.get(switch, switch.removeprefix("no-"))))
    return lines


def _lever_line(result: Evaluation, whole: str, without: str, lever: str) -> str:
    """One lever of one scheme."""
    step = result.paired[f"{whole}|{without}"]
    low, high = step.ci95
    told = f"({low:.1%} to {high:.1%})"
    if low > 0 and step.reduction >= UNSEEN:
        return f"{lever} takes {step.reduction:.1%} {told} off {without}"
    if high < 0 and step.reduction <= -UNSEEN:
        return f"{lever} adds {-step.reduction:.1%} ({-high:.1%} to {-low:.1%}) to {without}"
    bound, cost = result.bounds.get("hindsight_lower_s"), result.on_bound_worlds.get(without)
    if bound is None or not cost:
        return (
            f"{lever} shows nothing in {whole}: {step.reduction:.1%} {told}; there is no bound to tell more"
        )
    left = max(1.0 - bound / cost, 0.0)
    return (
        f"{lever} shows nothing in {whole}: {step.reduction:.1%} {told}; "
        f"nobody can take more than {left:.1%} off {without} (hindsight optimum, at least: {bound:.2f} s)"
    )
