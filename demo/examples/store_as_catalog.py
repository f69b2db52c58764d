"""All three libraries: models in a store, what to cache of them, and real beamformers for the rates."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from demo.bridge.beamformed import beamformed_world
from demo.bridge.store_catalog import catalog_from_store
from demo.console import say
from pbstore import open_store
from pbstore.examples.two_relatives import write_models
from policy import Scenario, find_scheme, load_scenario
from policy.play.rollout import rollout


def main(folder: Path) -> None:
    """Store two relatives, take their blocks as what is offered, and broadcast them for a few slots."""
    base, tuned = write_models(folder)
    with open_store(folder / "store") as store:
        store.add(base, name="me/base")
        store.add(tuned, name="me/tuned", base="me/base")
        catalog = catalog_from_store(store, bundle_bytes=0).catalog
    config = replace(
        load_scenario("default").config, num_slots=3, num_users=3, capacity_bytes=(), capacity_share=0.6
    )
    world = beamformed_world(Scenario(config, catalog), seed=0)
    say(str(world))
    for name in ("lru", "ewma-greedy"):
        episode = rollout(world, find_scheme(name), np.random.default_rng(0))
        sent = sum(len(outcome.broadcasts) for outcome in episode.outcomes)
        say(f"{name}: {1e3 * episode.mean_cost_s:.2f} ms per slot, {sent} broadcasts")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
