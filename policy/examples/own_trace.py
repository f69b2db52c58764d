"""Requests from a log of one's own: read, checked, and played by two schemes."""

import tempfile
from pathlib import Path

import numpy as np

from policy import find_scheme, load_scenario
from policy.play.rollout import rollout
from policy.world.replay import replay
from policy.world.request_files import FileFormat


def main(folder: Path) -> None:
    """Write a log as a web server would, and replay it; users and places come from the columns, if there."""
    rng = np.random.default_rng(0)
    rows = [f"{1_000 * i},{rng.integers(12)},{rng.zipf(1.5) % 50}" for i in range(0, 240, 3)]
    log = folder / "requests.csv"
    log.write_text("\n".join(["ms,who,object", *rows]) + "\n")

    scenario = load_scenario("findings")
    how = FileFormat(time_unit="ms", columns={"time": "ms", "user": "who", "model": "object"})
    replayed = replay(log, scenario.config, scenario.catalog, rng, how=how, objects="rank")
    print(f"{replayed.requests} requests: {replayed.kept} kept, {replayed.delayed} delayed, {replayed.trace}")

    world = scenario.world_of(replayed.trace)
    for name in ("lru", "ewma-greedy"):
        episode = rollout(world, find_scheme(name), np.random.default_rng(0))
        print(f"{name}: {episode.mean_cost_s:.2f} s per slot")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
