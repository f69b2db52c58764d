"""Why is this block on this node? The last decision of `policy.learn.augur`, taken apart copy by copy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from policy.interfaces import Bool, Float
from policy.learn.augur import Augur, Reasons
from policy.learn.augur_pipelined import AugurPipelined
from policy.play.rollout import Course
from policy.scenario import Scenario, World
from policy.slot.tables import to_masks


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReason:
    """One block at one node: held, or the best of those that were left out."""

    node: int
    block: int
    name: str
    """Name of the block in the catalog."""
    size_bytes: int
    held: bool
    """Whether the decision caches it there."""
    kept: bool
    """Whether it was there before."""
    other_holders: tuple[int, ...]
    """Other nodes that hold it in the decision."""
    asked_chance: float
    """Forecast chance that somebody asks for a model that contains it."""
    models: tuple[str, ...]
    """The models behind that chance, likeliest first, at most three."""
    saves_next_s: float
    """Seconds that this copy is expected to save in the next slot."""
    saves_s: float
    """The same with the slots after it, less the weighted time to bring it here, s."""
    saves_s_per_gb: float
    """`saves_s` for every 10^9 bytes: what the decision compares."""
    price_s_per_gb: float
    """Price of room at the node: what its least useful cached byte saves, times 10^9."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def explain_world(
    world: World, augur: Augur | AugurPipelined, slot: int, left_out: int = 2
) -> list[CopyReason]:
    """Play a world up to a slot and explain the placement decided for it.

    Args:
        world: The world.
        augur: A fresh policy for its scenario.
        slot: Slot of the trace.
        left_out: Blocks listed for each node that were not cached, best first.

    Raises:
        ValueError: If the world has no such slot.
    """
    if not 0 <= slot < world.trace.num_slots:
        raise ValueError(f"slot must be in 0..{world.trace.num_slots - 1}, got {slot}")
    course = Course(world)
    for _ in range(slot):
        course.step(augur.decide(course.observation()))
    augur.decide(course.observation())
    if augur.reasons is None:
        raise ValueError("the policy has decided nothing")
    return copy_reasons(world.scenario, augur.reasons, left_out)


def copy_reasons(scenario: Scenario, reasons: Reasons, left_out: int = 2) -> list[CopyReason]:
    """All held copies and, for each node, the best ones left out, by seconds saved per byte."""
    sizes = scenario.catalog.sizes_bytes
    bits, rows = 8.0 * sizes, np.arange(sizes.size)
    masks, before = to_masks(reasons.holds), to_masks(reasons.before)
    next_s = reasons.next_s[reasons.class_of_block] * bits[:, None]
    total = (reasons.value_s[reasons.class_of_block] + reasons.update_s[before]) * bits[:, None]
    wanted = 1.0 - np.prod(1.0 - reasons.chance @ scenario.catalog.members, axis=0)
    listed = []
    for node in range(reasons.holds.shape[0]):
        without, with_it = masks & ~(1 << node), masks | 1 << node
        saves = total[rows, without] - total[rows, with_it]
        soon = next_s[rows, without] - next_s[rows, with_it]
        for block in _listed(reasons.holds[node], saves / sizes, left_out):
            listed.append(_reason(scenario, reasons, node, block, wanted[block], soon[block], saves[block]))
    return listed


def _listed(held: Bool, density: Float, left_out: int) -> Sequence[int]:
    """Held blocks, then the best others, each best first."""
    order = np.argsort(-density, kind="stable")
    return [*order[held[order]].tolist(), *order[~held[order]][:left_out].tolist()]


def _reason(
    scenario: Scenario, reasons: Reasons, node: int, block: int, wanted: float, soon: float, saves: float
) -> CopyReason:
    catalog = scenario.catalog
    asked = reasons.chance.sum(axis=0) * catalog.members[:, block]
    likely = [int(model) for model in np.argsort(-asked, kind="stable")[:3] if asked[model] > 0]
    size = int(catalog.sizes_bytes[block])
    return CopyReason(
        node=node,
        block=block,
        name=catalog.block_names[block],
        size_bytes=size,
        held=bool(reasons.holds[node, block]),
        kept=bool(reasons.before[node, block]),
        other_holders=tuple(n for n in np.flatnonzero(reasons.holds[:, block]).tolist() if n != node),
        asked_chance=float(wanted),
        models=tuple(catalog.model_names[model] for model in likely),
        saves_next_s=float(soon),
        saves_s=float(saves),
        saves_s_per_gb=float(saves / size * 1e9),
        price_s_per_gb=float(reasons.prices[node] * 1e9),
    )
