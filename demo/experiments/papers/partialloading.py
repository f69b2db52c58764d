"""PartialLoading in its own terms: in which order an edge server loads models that share blocks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from demo.experiments.papers.description import Experiment, Point
from policy.interfaces import BlockCatalog, Float, Int
from policy.scenario import Scenario

BATCH_S = 0.005
"""Inference of one task once its model is loaded, s; ours, small beside loading as the paper has it."""

Times: TypeAlias = Callable[[int | None, int], float]
"""Seconds to load a model after another one (None: after none)."""


def tasks_in_time(scenario: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """Each slot is a batch of tasks for one server; which share is done before the deadline.

    After Qu, Chen, Chen, Huang, Fang (arXiv 2503.22982): what takes time is loading models into the GPU's
    memory; a block that the model loaded before has in common is there already.

    Args:
        scenario: Catalog and requests; every user that asks has one task.
        settings: `deadline_s`, the same for all tasks; `load_byte_s`, rate of loading.
        seed: Of the world.
    """
    requests = scenario.world(seed).trace.requests
    deadline_s, rate = float(settings["deadline_s"]), float(settings["load_byte_s"])
    whole, shared = load_times(scenario.catalog, rate, False), load_times(scenario.catalog, rate, True)
    counts = [np.bincount(asked[asked >= 0], minlength=scenario.catalog.num_models) for asked in requests]
    firsts = [_first_asked(asked) for asked in requests]
    orders = {
        "as asked, whole": [(first, whole) for first in firsts],
        "most tasks a second, whole": [(greedy_order(count, whole, deadline_s), whole) for count in counts],
        "as asked, shared": [(first, shared) for first in firsts],
        "most tasks a second, shared": [
            (greedy_order(count, shared, deadline_s), shared) for count in counts
        ],
    }
    return {name: {"tasks_in_time": _share(counts, plans, deadline_s)} for name, plans in orders.items()}


def load_times(catalog: BlockCatalog, byte_s: float, share: bool) -> Times:
    """Time to load each model: all of it, or what the model before has not brought."""
    members, sizes = catalog.members, catalog.sizes_bytes
    common = (members * sizes) @ members.T if share else np.zeros((catalog.num_models,) * 2, dtype=np.int64)
    total: Int = catalog.model_bytes

    def seconds(before: int | None, model: int) -> float:
        return float(total[model] - (0 if before is None else common[before, model])) / byte_s

    return seconds


def done_in_time(counts: Int, order: Sequence[int], times: Times, deadline_s: float) -> int:
    """Tasks done before the deadline if models are loaded in an order; tasks of a model run one by one."""
    clock, before, done = 0.0, None, 0
    for model in order:
        clock += times(before, model)
        done += min(int(counts[model]), max(0, int((deadline_s - clock) / BATCH_S + 1e-9)))
        clock, before = clock + BATCH_S * int(counts[model]), model
    return done


def greedy_order(counts: Int, times: Times, deadline_s: float) -> list[int]:
    """Always the model with most tasks done in time per second of loading and running."""
    left, order, clock = set(np.flatnonzero(counts).tolist()), list[int](), 0.0
    while left:
        before = order[-1] if order else None
        worth = {}
        for model in sorted(left):
            loaded = clock + times(before, model)
            done = min(int(counts[model]), max(0, int((deadline_s - loaded) / BATCH_S + 1e-9)))
            worth[model] = done / (loaded - clock + BATCH_S * int(counts[model]))
        best = max(worth, key=worth.__getitem__)
        clock += times(before, best) + BATCH_S * int(counts[best])
        order.append(best)
        left.remove(best)
    return order


def _first_asked(asked: Int) -> list[int]:
    return list(dict.fromkeys(asked[asked >= 0].tolist()))


def _share(counts: Sequence[Int], plans: Sequence[tuple[list[int], Times]], deadline_s: float) -> float:
    done = sum(
        done_in_time(count, order, times, deadline_s)
        for count, (order, times) in zip(counts, plans, strict=True)
    )
    asked: Float = np.array([count.sum() for count in counts], dtype=np.float64)
    return done / max(float(asked.sum()), 1.0)


LOADING = Experiment(
    name="loading",
    question="How many tasks are done in time if models are loaded in an order that reuses shared blocks?",
    paper="Qu, Chen, Chen, Huang, Fang: PartialLoading, arXiv 2503.22982",
    axis="deadline of a task (s)",
    points=tuple(
        Point(x=limit, settings={"deadline_s": limit, "load_byte_s": 2e9})
        for limit in (0.25, 0.5, 1.0, 2.0, 4.0)
    ),
    schemes=(
        "as asked, whole",
        "most tasks a second, whole",
        "as asked, shared",
        "most tasks a second, shared",
    ),
    references=("most tasks a second, whole", "as asked, shared"),
    scenario={"base": "p2", "num_users": 40, "num_slots": 24, "requests": {"request_prob": 1.0}},
    measures=("tasks_in_time",),
    log_x=True,
    note="One server, 40 tasks a batch, 27 ResNet and ViT models by exact shape in half precision, loaded at "
    "2 GB/s (ours), 5 ms a task. Only the model loaded before is still there, as in the paper; its "
    "spectrum allocation is left out, for uploads are small beside loading. The order is the paper's "
    "greedy idea in our reading.",
    player=tasks_in_time,
)
