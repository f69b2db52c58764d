"""Replayed slots: what the plan says is what real stores hold, move and give back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.bridge.store_catalog import StoreCatalog, catalog_from_store
from demo.emulation import Network
from demo.emulation.replay import EmulationError, replay_slot
from pbstore import BlockCorruptError, BlockMissingError, CapacityError, DiskBlockStore, open_store
from policy.config import ScenarioConfig
from policy.play.rollout import play
from policy.scenario import Scenario, World
from policy.schemes import find_scheme
from policy.world.trace import generate
from tests.fakes import CountDelay

NAMES = ("org/base", "org/child", "org/other")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A base, a child that shares most of it and is close to it in the rest, and a stranger."""
    rng = np.random.default_rng(5)
    shared = {f"layer.{i}": rng.normal(size=(64, 512)).astype(np.float32) for i in range(3)}
    head = rng.normal(size=(64, 512)).astype(np.float32)
    weights = {
        "org/base": {**shared, "head": head},
        "org/child": {**shared, "head": head * np.float32(1 + 1e-6), "bias": head[:, 0].copy()},
        "org/other": {"w": rng.normal(size=(32, 512)).astype(np.float32)},
    }
    made = {}
    for name, tensors in weights.items():
        made[name] = tmp_path / "zoo" / name
        made[name].mkdir(parents=True)
        save_file(tensors, made[name] / "model.safetensors")
        (made[name] / "config.json").write_text(f'{{"model": "{name}"}}')
    return made


@pytest.fixture
def cloud(folders: dict[str, Path], tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "cloud") as store:
        for name, folder in folders.items():
            store.add(folder, name=name)
        yield store


@pytest.fixture
def offer(cloud: DiskBlockStore) -> StoreCatalog:
    return catalog_from_store(cloud)


def make_world(offer: StoreCatalog, seed: int = 0) -> World:
    config = ScenarioConfig(num_nodes=2, num_users=3, num_slots=6, capacity_share=0.6)
    keep = replace(config.requests, keep_downloads=True, device_bytes=float(offer.catalog.model_bytes.max()))
    scenario = Scenario(replace(config, requests=keep), offer.catalog)
    trace, hidden = generate(np.random.default_rng(seed), scenario.config, scenario.families)
    return scenario.world_of(trace, CountDelay(1e6), hidden)


def make_network(cloud: DiskBlockStore, world: World, folder: Path) -> Network:
    return Network(
        cloud, folder, [int(size) for size in world.scenario.capacity_bytes], world.trace.num_users
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scheme", ["ewma-greedy", "popularity", "ewma-greedy+no-comp+no-migration"])
def test_every_delivered_model_equals_its_source(
    cloud: DiskBlockStore,
    offer: StoreCatalog,
    folders: dict[str, Path],
    tmp_path: Path,
    scheme: str,
    seed: int,
) -> None:
    world = make_world(offer, seed)
    network = make_network(cloud, world, tmp_path / "network")
    delivered = 0
    for step in play(world, find_scheme(scheme), np.random.default_rng(0)):
        slot = step.outcome.slot
        replay_slot(network, offer.units, step.placement, step.outcome, world.devices(slot))
        for node, edge in enumerate(network.nodes):
            held = step.placement[node]
            assert edge.cache.block_ids() == {b for j in np.flatnonzero(held) for b in offer.units[j]}
            assert edge.cache.used_bytes <= world.scenario.capacity_bytes[node]
        for user in np.flatnonzero(step.outcome.asked):
            name = offer.catalog.model_names[world.trace.requests[slot, user]]
            assert network.devices[user].reassemble(cloud.manifest(name), folders[name]).sha256_ok
            delivered += 1
    assert delivered > 5


def test_a_plan_that_hides_bytes_is_found_out(
    cloud: DiskBlockStore, offer: StoreCatalog, tmp_path: Path
) -> None:
    world = make_world(offer)
    network = make_network(cloud, world, tmp_path / "network")
    step = next(play(world, find_scheme("popularity"), np.random.default_rng(0)))
    lie = replace(step.outcome, sent_bytes=step.outcome.sent_bytes - 1)
    with pytest.raises(EmulationError, match="the plan said"):
        replay_slot(network, offer.units, step.placement, lie, world.devices(0))


def test_a_node_keeps_to_its_capacity(cloud: DiskBlockStore, offer: StoreCatalog, tmp_path: Path) -> None:
    network = Network(cloud, tmp_path / "network", [1000], 1)
    with pytest.raises(CapacityError):
        network.place(0, frozenset(cloud.blocks("org/base")))


def test_only_a_holder_can_send(cloud: DiskBlockStore, tmp_path: Path) -> None:
    network = Network(cloud, tmp_path / "network", [10**9, 10**9], 1)
    blocks = cloud.blocks("org/base")
    network.place(0, frozenset(blocks))
    with pytest.raises(BlockMissingError):
        network.broadcast(blocks, holders=[0, 1], users=[0])
    with pytest.raises(BlockMissingError):
        network.broadcast(blocks, holders=[], users=[0])
    network.transfer(blocks, source=0, target=1)
    assert network.broadcast(blocks, holders=[0, 1], users=[0]) == network.traffic.broadcast_bytes > 0


def test_a_block_that_rots_in_a_cache_is_not_sent(cloud: DiskBlockStore, tmp_path: Path) -> None:
    network = Network(cloud, tmp_path / "network", [10**9], 1)
    blocks = cloud.blocks("org/base")
    network.place(0, frozenset(blocks))
    for pack in (tmp_path / "network" / "node0" / "cache").rglob("*"):
        if pack.is_file() and pack.stat().st_size > 100_000 and "pack" in str(pack):
            data = bytearray(pack.read_bytes())
            middle = len(data) // 2
            data[middle : middle + 4096] = bytes(x ^ 255 for x in data[middle : middle + 4096])
            pack.write_bytes(bytes(data))
    with pytest.raises(BlockCorruptError):
        network.broadcast(blocks, holders=[0], users=[0])


def test_the_catalog_says_what_the_store_holds(cloud: DiskBlockStore, offer: StoreCatalog) -> None:
    catalog = offer.catalog
    assert catalog.model_names == NAMES
    listed = [block_id for unit in offer.units for block_id in unit]
    assert len(listed) == len(set(listed)) == len({b for name in NAMES for b in cloud.blocks(name)})
    for row, name in enumerate(NAMES):
        blocks = cloud.blocks(name)
        expected = sum(cloud.info(block_id).stored_bytes for block_id in blocks)
        assert catalog.model_bytes[row] == expected
        members = {b for j in np.flatnonzero(catalog.members[row]) for b in offer.units[j]}
        assert members == set(blocks)
    assert catalog.sharing > 1.2
    assert catalog.requires.size, "no block is stored as a delta: the delta path is not tested"
    assert catalog.dedup_bytes == sum(cloud.info(block_id).stored_bytes for block_id in listed)


def test_an_adapter_needs_its_base(cloud: DiskBlockStore) -> None:
    catalog = catalog_from_store(cloud, {"org/other": "org/base"}).catalog
    base, other = (catalog.members[NAMES.index(name)] for name in ("org/base", "org/other"))
    assert other[base].all()
