"""In which order a server loads models that share blocks: as fast as can be by a rule, and the best there is.

After Qu, Chen, Chen, Huang, Fang (arXiv 2503.22982). A server loads one model after another and then runs its
tasks; a block that the model loaded before has in common is there already. All tasks have one deadline.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np
from scipy.sparse.csgraph import connected_components

from policy.interfaces import BlockCatalog, Int

BATCH_S = 0.005
"""Inference of one task once its model is loaded, s; ours, small beside loading as the paper has it."""
MOST_RELATED = 12
"""Models that share blocks, directly or through others, for which `best_order` goes through all sets."""

Times: TypeAlias = Callable[[int | None, int], float]
"""Seconds to load a model after another one (None: after none)."""
Plan: TypeAlias = tuple[float, tuple[int, ...]]
"""Seconds of loading, and the models in order."""


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
        done += min(int(counts[model]), _runs(deadline_s - clock))
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
            done = min(int(counts[model]), _runs(deadline_s - loaded))
            worth[model] = done / (loaded - clock + BATCH_S * int(counts[model]))
        best = max(worth, key=worth.__getitem__)
        clock += times(before, best) + BATCH_S * int(counts[best])
        order.append(best)
        left.remove(best)
    return order


def best_order(counts: Int, times: Times, deadline_s: float) -> list[int]:
    """The order that has most tasks done in time: no order does more.

    A dynamic programme over the number of tasks, as in the paper's case of shared bottom layers. Models of
    different families share nothing, so each family's best order is found by itself (Held and Karp, 1962),
    and the least loading for each number of tasks is combined family by family. To run fewer tasks of a
    loaded model never helps: a task takes the same time whichever it is, and the others would need loading.

    Args:
        counts: Tasks of each model, (models,).
        times: Reuse must be the same in either order, and never more than a model's own load.
        deadline_s: Of all tasks.

    Raises:
        ValueError: If more than `MOST_RELATED` of the models hang together.
    """
    least: dict[int, Plan] = {0: (0.0, ())}
    for family in families(np.flatnonzero(counts).tolist(), times):
        plans = list(_family_plans(family, counts, times))
        joined = dict(least)
        for tasks, (loading, order) in least.items():
            for more, (longer, added) in plans:
                plan = (loading + longer, order + added)
                if tasks + more not in joined or plan[0] < joined[tasks + more][0]:
                    joined[tasks + more] = plan
        least = joined
    done = {tasks: min(tasks, _runs(deadline_s - least[tasks][0])) for tasks in sorted(least)}
    return list(least[max(done, key=done.__getitem__)][1])  # the fewest tasks among the best


def families(models: Sequence[int], times: Times) -> list[list[int]]:
    """Models that share something with one another, directly or through others."""
    if not models:
        return []
    alone = np.array([times(None, model) for model in models])
    after = np.array([[times(before, model) for model in models] for before in models])
    count, label = connected_components(after < alone * (1 - 1e-12), directed=False)
    return [[model for model, of in zip(models, label, strict=True) if of == one] for one in range(count)]


def _family_plans(family: Sequence[int], counts: Int, times: Times) -> Iterator[tuple[int, Plan]]:
    """Tasks and the fastest order of each set of a family."""
    if len(family) > MOST_RELATED:
        raise ValueError(f"expected at most {MOST_RELATED} models that hang together, got {len(family)}")
    ends: dict[tuple[frozenset[int], int], Plan] = {
        (frozenset((model,)), model): (times(None, model), (model,)) for model in family
    }
    for size in range(1, len(family) + 1):
        for chosen in combinations(family, size):
            models = frozenset(chosen)
            for last in chosen if size > 1 else ():
                ends[models, last] = min(
                    (before[0] + times(one, last), (*before[1], last))
                    for one in chosen
                    if one != last
                    for before in [ends[models - {last}, one]]
                )
            yield int(counts[list(chosen)].sum()), min(ends[models, last] for last in chosen)


def _runs(left_s: float) -> int:
    """Tasks that run one by one in the time that is left."""
    return max(0, int(left_s / BATCH_S + 1e-9))
