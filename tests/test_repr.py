"""What a public class prints: one short line of sizes, no arrays."""

from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, Manifest, open_store
from policy import evaluate, load_scenario, make_env
from policy.evaluation.harness import Evaluation
from radio import solve_broadcast
from tests.pbstore.folders import base_tensors, write_model

SCENARIO = load_scenario("findings")


@pytest.fixture
def store(tmp_path: Path) -> DiskBlockStore:
    folder = write_model(tmp_path / "model", base_tensors(0, rows=40, width=8))
    store = open_store(tmp_path / "store", 10_000_000, durable=False)
    store.add(folder, name="org/base")
    return store


def one_line(thing: object) -> str:
    text = repr(thing)
    assert len(text) < 200
    assert "\n" not in text
    assert "array(" not in text
    return text


def test_a_scenario_says_its_sizes() -> None:
    assert one_line(SCENARIO).startswith("Scenario('findings', 12 models, 60 blocks")
    assert "4 nodes of 450 MB, 12 users, 24 slots" in repr(SCENARIO)


def test_a_world_and_its_trace_say_which_they_are() -> None:
    world = SCENARIO.world(3)
    assert world.trace.digest[:12] in one_line(world.trace)
    assert repr(world.trace) in one_line(world)


def test_an_evaluation_says_who_did_best() -> None:
    played = evaluate(SCENARIO, ["no-cache", "lru"], worlds=1, bound_worlds=0)
    assert one_line(played).startswith("Evaluation(2 schemes on 1 worlds of 'findings', least ")
    nobody = Evaluation.from_dict({**played.to_dict(), "schemes": {}})
    assert one_line(nobody).startswith("Evaluation(0 schemes")


@pytest.mark.parametrize("batch", [(), (3,), (0,)])
def test_a_broadcast_says_how_good_it_is(batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(size=(*batch, 3, 2, 2)) + 1j * rng.normal(size=(*batch, 3, 2, 2))
    text = one_line(solve_broadcast(h, 1.0, 0.1))
    assert "x 3 users, 2 nodes of 2 antennas, rank 1" in text
    assert text.endswith("ok)") or batch == (0,)


def test_a_manifest_says_its_sizes(store: DiskBlockStore) -> None:
    held = store.manifest("org/base")
    sizes = f"{len(held.files)} files, {len(held.block_ids())} blocks"
    assert one_line(held).startswith(f"Manifest('org/base', {sizes}")
    assert one_line(Manifest(name="org/none", files=())) == "Manifest('org/none', 0 files, 0 blocks, 0.0 MB)"


def test_a_store_says_what_it_holds_also_when_it_is_closed(store: DiskBlockStore) -> None:
    assert "1 models" in one_line(store)
    assert "of 10.0 MB" in repr(store)
    assert "read-only" in one_line(open_store(store.path, read_only=True))
    store.close()
    assert "closed" in one_line(store)


def test_an_environment_says_its_scenario() -> None:
    env = make_env(SCENARIO, observations="flat")
    assert one_line(env).endswith("migration='best', observations='flat')")
