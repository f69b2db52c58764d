"""The environment in a loop of one's own: one policy acts at random, one shares the blocks out."""

from pathlib import Path
from typing import Any

import numpy as np

from policy import load_scenario, make_env


def play(env: Any, seed: int, act: Any) -> float:  # noqa: ANN401 - PettingZoo's environments are untyped
    """Delay of a whole episode, s; `act(agent, observation)` gives scores in [-1, 1], (blocks,)."""
    seen, _ = env.reset(seed)
    total = 0.0
    while env.agents:  # empty when the horizon has truncated the episode
        seen, rewards, _, _, _ = env.step({agent: act(agent, seen[agent]) for agent in env.agents})
        total -= rewards[env.possible_agents[0]]  # the reward is shared
    return total


def main(folder: Path) -> None:
    """Compare both on the same world."""
    env = make_env(load_scenario("findings"))
    catalog, draws = env.scenario.catalog, np.random.default_rng(0)
    whose = np.arange(catalog.num_blocks) % len(env.possible_agents)  # each block has one node

    def share_out(agent: str, seen: Any) -> Any:  # noqa: ANN401
        mine = whose == env.possible_agents.index(agent)
        return 0.7 * mine + 0.3 * catalog.members.mean(axis=0)  # own blocks first, then what most models need

    print(repr(env))
    print(f"at random: {play(env, 7, lambda agent, seen: draws.uniform(-1, 1, catalog.num_blocks)):.1f} s")
    print(f"each node its share: {play(env, 7, share_out):.1f} s")


if __name__ == "__main__":
    main(Path())
