"""PartialLoading in its own terms: in which order an edge server loads models that share blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from demo.experiments.papers.description import Experiment, Point
from demo.experiments.papers.load_orders import Times, best_order, done_in_time, greedy_order, load_times
from policy.interfaces import Float, Int
from policy.scenario import Scenario


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
        "the best order, shared": [(best_order(count, shared, deadline_s), shared) for count in counts],
    }
    return {name: {"tasks_in_time": _share(counts, plans, deadline_s)} for name, plans in orders.items()}


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
        "the best order, shared",
    ),
    references=("most tasks a second, whole", "as asked, shared", "most tasks a second, shared"),
    scenario={"base": "p2", "num_users": 40, "num_slots": 24, "requests": {"request_prob": 1.0}},
    measures=("tasks_in_time",),
    log_x=True,
    note="One server, 40 tasks a batch, 27 ResNet and ViT models by exact shape in half precision, loaded at "
    "2 GB/s (ours), 5 ms a task. Only the model loaded before is still there, as in the paper; its "
    "spectrum allocation is left out, for uploads are small beside loading. The order by tasks a second is "
    "the paper's greedy idea in our reading; the best order is found by a dynamic programme, tested by brute "
    "force, and no order does more.",
    player=tasks_in_time,
)
