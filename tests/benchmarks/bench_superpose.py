"""What blocks on the air at once can bring to slots of the real chain, and what knowing it costs.

    python tests/benchmarks/bench_superpose.py [--quick]

Slots as `pooled` meets them in turn, on training worlds 100 and 101: each is served again from the same
caches and backlog with the plan for sending in turn played at once, with a plan that is searched for it, and
in turn on a band that is twice as fast (no two at once can do more). Then what sets of single users have.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

import policy.play.migration as migration
from demo.bridge.beamformed import beamformed_world
from policy.config import load_config
from policy.interfaces import Bool, Float
from policy.play.rollout import rollout
from policy.scenario import Scenario, shipped_catalog
from policy.schemes import find_scheme
from policy.serving.freight import freight_of
from policy.serving.joint import timeline_together, total_delay_s, usual_shares
from policy.serving.search import best_plan
from policy.serving.serve import plan_in_full, serve_planned
from policy.slot.dynamics import SlotOutcome
from policy.slot.problem import SlotProblem
from policy.slot.rates import AirTimes
from policy.slot.timeline import Plan, run
from policy.world.splits import world_seed
from radio import RadioConfig, draw_channel, draw_deployment, draw_users, solve_broadcast, solve_together

WORLDS = (100, 101)
AT_ONCE = (2, 3, 4)


@dataclass(frozen=True)
class TwiceAsFast(AirTimes):
    """A band of twice the rate."""

    def _look_up(self, holders: Bool, users: Bool) -> Float:
        seconds = super()._look_up(holders, users)
        return np.concatenate([seconds[:2] / 2.0, seconds[2:]])


@dataclass
class Tally:
    """Sums over the slots of a scenario."""

    delay_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    slots: int = 0
    asked: int = 0
    pairs: int = 0
    apart: int = 0

    def add(self, name: str, delay_s: float) -> None:
        self.delay_s[name] = self.delay_s.get(name, 0.0) + delay_s


def slots_of(name: str, slots: int) -> Iterator[tuple[SlotProblem, AirTimes]]:
    """Slots that somebody waits in, served in turn."""
    config = replace(load_config(name), num_slots=slots)
    scenario = Scenario(config, shipped_catalog(config.catalog))
    for number in WORLDS:
        seen: list[tuple[SlotProblem, AirTimes]] = []

        def served(problem: SlotProblem, air: AirTimes, seen: list = seen) -> SlotOutcome:
            seen.append((problem, air))
            return serve_planned(problem, air)

        migration.serve_planned = served
        world = beamformed_world(scenario, world_seed("train", number))
        rollout(world, find_scheme("pooled"), np.random.default_rng(0))
        yield from (pair for pair in seen if pair[0].wanted.size)


def timed(problem: SlotProblem, air: AirTimes) -> tuple[float, float]:
    """Sum of delays, and CPU time once the radio's answers are known."""
    serve_planned(problem, air)
    start = time.process_time()
    outcome = serve_planned(problem, air)
    return float(outcome.user_delay_s.sum()), time.process_time() - start


def count_pairs(plan: Plan, tally: Tally) -> None:
    """Pairs of distinct senders and users of a plan, and those whose users differ."""
    parties = list(dict.fromkeys((cast.holders, cast.users) for cast in plan.casts))
    for (_, one), (_, other) in itertools.combinations(parties, 2):
        tally.pairs += 1
        tally.apart += not set(one) & set(other)


def measure(name: str, slots: int) -> Tally:
    tally = Tally()
    for problem, air in slots_of(name, slots):
        freight = freight_of(problem, air)
        plan = plan_in_full(problem, freight, best_plan(problem, freight).plan, air)
        count_pairs(plan, tally)
        tally.slots, tally.asked = tally.slots + 1, tally.asked + int(problem.asked.sum())
        line = run(plan, problem.links_free.tolist(), problem.band_free_s, problem.timing)
        tally.add("in turn", total_delay_s(line))
        for most in AT_ONCE:
            wide = replace(problem, at_once=most)
            tally.add(
                f"its plan, {most} at once",
                total_delay_s(timeline_together(wide, plan, air, usual_shares(wide, air))),
            )
        for most in (1, *AT_ONCE):
            delay_s, cpu_s = timed(replace(problem, at_once=most), air)
            tally.add(f"searched, {most} at once", delay_s)
            tally.cpu_s[str(most)] = tally.cpu_s.get(str(most), 0.0) + cpu_s
        twice = TwiceAsFast(delay=air.delay, slot=air.slot)
        tally.add("band twice as fast", float(serve_planned(problem, twice).user_delay_s.sum()))
    return tally


def beams(seeds: int) -> None:
    """Sum of the shares of single users that are served at once, and time of a set in a batch."""
    config = RadioConfig(num_users=12)
    for size, rounds in itertools.product((2, 3, 4), (5, 20, 150)):
        sums, spent = list[float](), 0.0
        for seed in range(seeds):
            rng = np.random.default_rng([seed, 21])
            h = draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)
            alone = solve_broadcast(h, config.power_w, config.noise_w, users=np.eye(12, dtype=bool))
            users = np.stack([np.eye(12, dtype=bool)[rng.permutation(12)[:size]] for _ in range(24)])
            rates = np.array([[alone.rate_bit_s_hz[one.argmax()] for one in each] for each in users])
            start = time.process_time()
            result = solve_together(
                h,
                config.power_w,
                config.noise_w,
                np.ones((24, size, config.num_nodes), dtype=bool),
                users,
                rates,
                num_iterations=rounds,
            )
            spent += time.process_time() - start
            got = np.log2(1.0 + np.where(users, result.sinr[:, None], np.inf).min(axis=2))
            sums += (got / rates).sum(axis=1).tolist()
        print(
            f"  {size} users, {rounds:3d} rounds: {np.mean(sums):.2f}, least {min(sums):.2f}, "
            f"{1e3 * spent / len(sums):.2f} ms a set",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two slots a world, two seeds of channels")
    options = parser.parse_args()
    for name in ("p2", "v30", "default"):
        tally = measure(name, 2 if options.quick else 6)
        print(
            f"{name}: {tally.slots} slots, {tally.pairs / tally.slots:.0f} pairs of broadcasts a slot, "
            f"{100 * tally.apart / max(tally.pairs, 1):.0f} % with users of their own"
        )
        first = tally.delay_s["in turn"]
        for row, total in tally.delay_s.items():
            print(f"  {row:24s}{total / tally.asked:8.3f} s{100 * (total / first - 1):+7.1f} %")
        spent = ", ".join(f"{most}: {1e3 * s / tally.slots:.0f}" for most, s in tally.cpu_s.items())
        print(f"  CPU of a slot by blocks at once, ms: {spent}", flush=True)
    print("sum of shares of single users at once (all nodes send)")
    beams(2 if options.quick else 20)


if __name__ == "__main__":
    main()
