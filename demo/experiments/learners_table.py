"""What `demo.experiments.learners` found, as tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from policy.evaluation.few_worlds import reduction
from policy.interfaces import Float

NARROW = ", narrow links"
"""End of the names of rows that were trained and played in `trio-narrow`."""
BEST_UNLEARNED = "pooled"
"""What learners are compared with on the real chain."""

Value = TypeVar("Value")
Curve = Sequence[Mapping[str, float]]
RealCosts = Mapping[str, Mapping[str, Sequence[float]]]
"""Of each row and training seed: mean user delay in each test world, s."""


def lowest(curve: Curve) -> float:
    """Lowest cost of a curve after its start, s."""
    return min(point["cost_s"] for point in curve[1:])


def markdown(
    curves: Mapping[str, Mapping[str, Curve]], real_s: RealCosts, references_s: Mapping[str, float]
) -> str:
    """Learners as tables, one a scenario: cost on validation worlds and on the real chain."""
    text = (
        "By the clock on validation worlds, s per slot, mean and range over training seeds; real: mean user "
        "delay on test worlds, real beams and serving, s; above: than pooled coverage on the same worlds, "
        "95 % interval over worlds.\n\n"
    )
    for title, suffix in (("`trio`", ""), ("`trio-narrow`", NARROW)):
        lines = list(_table(_of(curves, suffix), _of(real_s, suffix), _of(references_s, suffix)))
        if len(lines) > 2:
            text += f"{title}\n\n" + "\n".join(lines) + "\n\n"
    return text.rstrip("\n") + "\n"


def _of(rows: Mapping[str, Value], suffix: str) -> dict[str, Value]:
    """Rows of one scenario, without what their names end with."""
    inside = [name for name in rows if name.endswith(NARROW) == bool(suffix)]
    return {name.removesuffix(suffix): rows[name] for name in inside}


def _table(
    curves: Mapping[str, Mapping[str, Curve]], real_s: RealCosts, references_s: Mapping[str, float]
) -> Iterator[str]:
    yield (
        "| learner | seeds | env steps | CPU s | at half | last | lowest | range "
        "| real | range of seeds | above pooled |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    done = {name: list(by_seed.values()) for name, by_seed in curves.items() if by_seed}
    for name, runs in sorted(done.items(), key=lambda item: np.mean([lowest(curve) for curve in item[1]])):
        best, half = [lowest(curve) for curve in runs], [_at_half(curve) for curve in runs]
        steps, cpu_s, last = (
            float(np.mean([curve[-1][key] for curve in runs])) for key in ("env_steps", "cpu_s", "cost_s")
        )
        yield (
            f"| {name} | {len(runs)} | {steps:,.0f} | {cpu_s:.0f} | {np.mean(half):.3f} | {last:.3f} "
            f"| {np.mean(best):.3f} | {min(best):.3f} to {max(best):.3f} | {_real(name, real_s)} |"
        )
    for name in real_s:
        if name not in curves:
            clock = f"{references_s[name]:.3f}" if name in references_s else ""
            yield f"| {name} | | | | | | {clock} | | {_real(name, real_s)} |"


def _real(name: str, real_s: RealCosts) -> str:
    """Mean over worlds and seeds, range of seeds, and how much above the best unlearned scheme."""
    if not real_s.get(name):
        return " | | "
    costs, base = _array(real_s[name]), _array(real_s.get(BEST_UNLEARNED, {}))
    seeds = costs.mean(axis=0)
    spread = f"{seeds.min():.3f} to {seeds.max():.3f}" if seeds.size > 1 else ""
    if name == BEST_UNLEARNED or not base.size:
        return f"{costs.mean():.3f} | {spread} | "
    gap = reduction(costs, base)
    return f"{costs.mean():.3f} | {spread} | {-gap.value:.1%} ({-gap.high:.1%} to {-gap.low:.1%})"


def _array(by_seed: Mapping[str, Sequence[float]]) -> Float:
    """(worlds, seeds)."""
    return np.array(list(by_seed.values()), dtype=np.float64).T


def _at_half(curve: Curve) -> float:
    """Lowest cost within the first half of training, s."""
    return min(point["cost_s"] for point in curve if point["env_steps"] <= curve[-1]["env_steps"] / 2)
