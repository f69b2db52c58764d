"""Is the clock right about which of two placements is better? Ours and pooled's, each slot served from both.

    python -m demo.experiments.clock_judged --settings p1 --room 0.05 --first-world 300110 --one-order

Pooled plays; in every slot ours is decided, too, and both are served by the real chain from the same caches.
Then the clock (`policy.learn.slot_clock`) is told the true requests and places, so that no forecast is at
fault, and says how much less users wait with ours: in one order of users for all placements, as if all nodes
held all, and in the order that suits each. On training worlds; with `--one-order` ours is planned by the
clock that knows one order only, with `--no-forms` blocks have one form each.
"""

import argparse
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from demo.experiments.ten_settings import SETTINGS, Setting
from policy.interfaces import Bool, Float
from policy.learn.augur_pipelined import AugurPipelined, Draws, Outlook
from policy.learn.slot_clock import ImaginedSlots, alone_of, turns_of
from policy.learn.value import class_times, seconds_per_bit
from policy.play.rollout import Course
from policy.play.scheme import Observation, Placement
from policy.scenario import Scenario, World
from policy.schemes.learned import learned_from
from policy.schemes.pooled import PooledCoverage
from policy.slot.tables import to_masks
from policy.world.splits import world_seed

COLUMNS = ("served", "one order", "order that suits")


class _Knowing(AugurPipelined):
    """Ours without a rival, and its clock on slots that are known."""

    one_order = False
    """Whether it plans as if users were served in one order whatever is held."""

    def _imagine(self, observation: Observation, outlook: Outlook, draws: Draws) -> ImaginedSlots:
        slots = super()._imagine(observation, outlook, draws)
        return replace(slots, misses=None) if self.one_order else slots

    def clock_s(self, course: Course, holds: Sequence[Bool], kept: Bool | None) -> list[tuple[float, float]]:
        """Mean delay of the coming slot with each placement, in one order and in the one that suits it, s."""
        world, slot, links = course.world, course.slot, self._scenario.config.links
        asked = world.trace.requests[slot][None]
        radio = self._scenario.config.radio
        air = seconds_per_bit(world.trace.node_xy, world.trace.user_xy[slot][None], radio)
        times = class_times(asked, air, self._classes, kept, course.rules)
        sent, weight, misses = turns_of(asked, air[..., -1], self._classes, self._class_bits, kept)
        costs = self._learned.clock.costs(times, links, course.rules.migration)
        alone = alone_of(asked, self._classes)
        slots = ImaginedSlots(cost_s=costs, sent=sent, weight=weight, misses=misses, alone=alone)
        told = []
        for placement in holds:
            held = self._held_bits(to_masks(placement))
            told.append((slots.mean_delay_s(held), slots.in_turn(held).mean_delay_s(held)))
        return told

    def kept(self, course: Course) -> Bool | None:
        """Classes on each device before the coming slot, (users, classes)."""
        devices = course.world.devices(course.slot)
        return None if devices is None else devices[:, self._first]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Delays with ours and with pooled's in each slot, (slots, 2), s."""

    served: Float
    one_order: Float
    suits: Float

    def summary(self) -> list[str]:
        """Mean delays, how much less ours is, and how the clock's difference goes with the served one."""
        real = self.served[:, 1] - self.served[:, 0]
        lines = []
        for name, delay in zip(COLUMNS, (self.served, self.one_order, self.suits), strict=True):
            less = delay[:, 1] - delay[:, 0]
            error = less.std(ddof=1) / np.sqrt(less.size)
            like = np.corrcoef(real, less)[0, 1] if real.std() > 0 and less.std() > 0 else 0.0
            ours, theirs = delay.mean(axis=0)
            lines.append(
                f"{name:17s} ours {ours:.3f} pooled {theirs:.3f} ours less by {less.mean():+.3f} "
                f"(standard error {error:.3f}), correlation with served {like:.2f}"
            )
        return lines


def tried(course: Course, decided: Placement) -> tuple[Bool, float]:
    """What links would bring of a placement, (nodes, blocks), and the delay with it, s; the course stays."""
    twin = copy(course)
    twin.update(decided)
    return twin.placement, twin.serve().mean_delay_s


def judged(world: World, one_order: bool = False) -> Judged:
    """Play pooled through a world; serve ours and its placement in every slot, and ask the clock.

    Args:
        world: The world.
        one_order: Let ours be planned as if users were served in one order whatever is held.
    """
    course, scenario = Course(world), world.scenario
    ours = _Knowing(scenario, np.random.default_rng(0), learned_from())
    ours.one_order = one_order
    pooled = PooledCoverage(scenario, np.random.default_rng(0))
    served, clock = [], []
    for _ in range(world.trace.num_slots):
        seen = course.observation()
        own, other = ours.decide(seen), pooled.decide(seen)
        holds, delay_s = zip(*(tried(course, placement) for placement in (own, other)), strict=True)
        served.append(delay_s)
        clock.append(ours.clock_s(course, holds, ours.kept(course)))
        course.step(other)
    said = np.array(clock)
    return Judged(served=np.array(served), one_order=said[..., 0], suits=said[..., 1])


def scenario_of(setting: Setting, room: float | None, slots: int, forms: bool) -> Scenario:
    """A setting with other room, fewer slots, or blocks of one form."""
    scenario = setting.scenario()
    config = replace(scenario.config, num_slots=slots)
    if room is not None:
        config = replace(config, capacity_share=room)
    return Scenario(config, scenario.catalog if forms else replace(scenario.catalog, forms=None))


def main(argv: Sequence[str] | None = None) -> int:
    """Play, and print a table for each setting."""
    options = _parser().parse_args(argv)
    for setting in SETTINGS:
        if setting.name not in options.settings:
            continue
        scenario = scenario_of(setting, options.room, options.slots, not options.no_forms)
        seeds = [world_seed("train", options.first_world + number) for number in range(options.worlds)]
        parts = [judged(setting.make_world()(scenario, seed), options.one_order) for seed in seeds]
        every = Judged(
            served=np.concatenate([part.served for part in parts]),
            one_order=np.concatenate([part.one_order for part in parts]),
            suits=np.concatenate([part.suits for part in parts]),
        )
        print(f"{setting.name}, {options.worlds} worlds of {options.slots} slots, mean user delay, s:")
        print("\n".join(f"  {line}" for line in every.summary()), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", type=lambda text: text.split(","), required=True, help="names")
    parser.add_argument("--room", type=float, help="share of the catalog that a node holds (the setting's)")
    parser.add_argument("--no-forms", action="store_true", help="blocks have one form each")
    parser.add_argument("--one-order", action="store_true", help="ours is planned as before: in one order")
    parser.add_argument("--first-world", type=int, default=300_000, help="of the training worlds")
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
