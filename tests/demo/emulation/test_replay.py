"""Replayed slots: what the plan says is what real stores hold, move and give back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.bridge.store_catalog import StoreCatalog, catalog_from_store
from demo.emulation import Device, Network
from demo.emulation.device import file_hashes
from demo.emulation.replay import EmulationError, replay_slot
from demo.parts import Part, alone_form, cut, join, parts_of
from pbstore import BlockCorruptError, BlockMissingError, CapacityError, DiskBlockStore, open_store
from policy.config import ScenarioConfig
from policy.play.rollout import play
from policy.scenario import Scenario, World
from policy.schemes import find_scheme
from policy.world.forms import FormChoice
from policy.world.trace import generate
from tests.fakes import CountDelay

NAMES = ("org/base", "org/child", "org/half", "org/other", "org/tuned")
OFFERS = {"whole": {}, "ranges": {"room_bytes": 1.0}, "as kept": {"room_bytes": 1.0, "forms": False}}
"""How the catalog is made: whole blocks, byte ranges of 64 KiB, and ranges in the form that is kept."""


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A base, a child that shares most of it and is close to it in the rest, a copy in half precision, a full
    fine-tune, and a stranger."""
    rng = np.random.default_rng(5)
    shared = {f"layer.{i}": rng.normal(size=(64, 512)).astype(np.float32) for i in range(3)}
    head = rng.normal(size=(64, 512)).astype(np.float32)
    base = {**shared, "head": head}
    noise = {name: 1e-5 * rng.normal(size=value.shape).astype(np.float32) for name, value in base.items()}
    weights = {
        "org/base": base,
        "org/half": {name: value.astype(np.float16) for name, value in base.items()},
        "org/tuned": {name: value + noise[name] for name, value in base.items()},
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
            base = "org/base" if name in ("org/half", "org/tuned") else None
            store.add(folder, name=name, base=base, thorough=True)
        yield store


@pytest.fixture
def offer(cloud: DiskBlockStore) -> StoreCatalog:
    return catalog_from_store(cloud)


def parts(store: DiskBlockStore, name: str) -> frozenset[Part]:
    """All blocks of a model, whole."""
    return frozenset(map(Part, store.blocks(name)))


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


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("scheme", "made", "seed"),
    [
        ("ewma-greedy", "whole", 7),
        ("popularity", "whole", 11),
        ("ewma-greedy+no-comp+no-migration", "whole", 2),
        ("ewma-greedy", "ranges", 3),
        ("popularity", "ranges", 12),
        ("ewma-greedy", "as kept", 5),
    ],
)
def test_every_delivered_model_equals_its_source(
    cloud: DiskBlockStore, folders: dict[str, Path], tmp_path: Path, scheme: str, made: str, seed: int
) -> None:
    offer = catalog_from_store(cloud, **OFFERS[made])
    world = make_world(offer, seed)
    network = make_network(cloud, world, tmp_path / "network")
    sources = {name: file_hashes(folder) for name, folder in folders.items()}
    delivered = alone = 0
    for step in play(world, find_scheme(scheme), np.random.default_rng(0)):
        slot = step.outcome.slot
        replay_slot(network, offer, step.placement, step.outcome, world.devices(slot))
        for node, edge in enumerate(network.nodes):
            held = step.placement[node]
            assert edge.cache.parts() == {b for j in np.flatnonzero(held) for b in offer.units[j]}
            assert edge.cache.used_bytes <= world.scenario.capacity_bytes[node]
        for user in np.flatnonzero(step.outcome.asked):
            name = offer.catalog.model_names[world.trace.requests[slot, user]]
            assert network.devices[user].reassemble(cloud.manifest(name), sources[name]).sha256_ok
            delivered += 1
        assert step.outcome.alone is not None
        alone += int(step.outcome.alone.sum())
    assert delivered > 5
    assert (alone > 0) == (made != "as kept"), "no block was ever sent alone: that path is not tested"
    assert (max(part.count for unit in offer.units for part in unit) > 1) == (made != "whole")


def test_a_plan_that_hides_bytes_is_found_out(
    cloud: DiskBlockStore, offer: StoreCatalog, tmp_path: Path
) -> None:
    world = make_world(offer)
    network = make_network(cloud, world, tmp_path / "network")
    step = next(play(world, find_scheme("popularity"), np.random.default_rng(0)))
    lie = replace(step.outcome, sent_bytes=step.outcome.sent_bytes - 1)
    with pytest.raises(EmulationError, match="the plan said"):
        replay_slot(network, offer, step.placement, lie, world.devices(0))


def test_a_node_keeps_to_its_capacity(cloud: DiskBlockStore, offer: StoreCatalog, tmp_path: Path) -> None:
    network = Network(cloud, tmp_path / "network", [1000], 1)
    with pytest.raises(CapacityError):
        network.place(0, parts(cloud, "org/base"))


def test_only_a_holder_can_send(cloud: DiskBlockStore, tmp_path: Path) -> None:
    network = Network(cloud, tmp_path / "network", [10**9, 10**9], 1)
    blocks = sorted(parts(cloud, "org/base"))
    network.place(0, frozenset(blocks))
    with pytest.raises(BlockMissingError):
        network.broadcast(blocks, holders=[0, 1], users=[0])
    with pytest.raises(BlockMissingError):
        network.broadcast(blocks, holders=[], users=[0])
    network.transfer(blocks, source=0, target=1)
    sent = network.broadcast(blocks, holders=[0, 1], users=[0])
    assert sent.payload_bytes == network.traffic.broadcast_bytes > 0


def test_a_block_that_rots_in_a_cache_is_not_sent(cloud: DiskBlockStore, tmp_path: Path) -> None:
    network = Network(cloud, tmp_path / "network", [10**9], 1)
    blocks = sorted(parts(cloud, "org/base"))
    network.place(0, frozenset(blocks))
    for pack in (tmp_path / "network" / "node0" / "cache").rglob("*"):
        if pack.is_file() and pack.stat().st_size > 100_000 and "pack" in str(pack):
            data = bytearray(pack.read_bytes())
            middle = len(data) // 2
            data[middle : middle + 4096] = bytes(x ^ 255 for x in data[middle : middle + 4096])
            pack.write_bytes(bytes(data))
    with pytest.raises(BlockCorruptError):
        network.broadcast(blocks, holders=[0], users=[0])


@pytest.mark.parametrize("made", OFFERS)
def test_the_catalog_says_what_the_store_holds(cloud: DiskBlockStore, made: str) -> None:
    offer = catalog_from_store(cloud, **OFFERS[made])
    catalog = offer.catalog
    assert catalog.model_names == NAMES
    listed = [part for unit in offer.units for part in unit]
    assert len(listed) == len(set(listed))
    assert sum(1 / part.count for part in listed) == pytest.approx(
        len({b for name in NAMES for b in cloud.blocks(name)})
    )
    for row, name in enumerate(NAMES):
        blocks = cloud.blocks(name)
        assert catalog.model_bytes[row] == sum(cloud.info(block_id).stored_bytes for block_id in blocks)
        members = {part.block_id for j in np.flatnonzero(catalog.members[row]) for part in offer.units[j]}
        assert members == set(blocks)
        if catalog.forms is not None:
            own = {p.block_id for j in np.flatnonzero(catalog.forms.content[row]) for p in offer.units[j]}
            assert own == set(cloud.manifest(name).block_ids())
    assert catalog.sharing > 1.2
    assert catalog.requires.size, "no block is stored as a delta: the delta path is not tested"
    assert catalog.dedup_bytes == sum(cloud.info(b).stored_bytes for b in {part.block_id for part in listed})
    if made != "whole":
        most = (
            catalog.sizes_bytes
            if catalog.forms is None
            else np.maximum(catalog.sizes_bytes, catalog.forms.alone_bytes)
        )
        assert most.max() <= 64 << 10


def test_a_copy_in_half_precision_is_never_dearer_than_on_its_own(cloud: DiskBlockStore) -> None:
    catalog = catalog_from_store(cloud).catalog
    assert catalog.forms is not None
    half = NAMES.index("org/half")
    alone = catalog.forms.alone_bytes[catalog.forms.content[half]].sum()
    assert alone < 0.6 * catalog.model_bytes[half]  # as kept it drags its base along
    choice = FormChoice(catalog)
    wanted = choice.content[half][None]
    fresh, _ = choice.choose(wanted, np.zeros_like(wanted))
    with_base, sent_alone = choice.choose(wanted, choice.content[NAMES.index("org/base")][None])
    assert choice.alone_bytes[fresh[0]].sum() == alone
    assert choice.air_bytes(~sent_alone, with_base) < 0.1 * alone


def test_parts_that_do_not_fit_together_are_found_out(cloud: DiskBlockStore) -> None:
    block_id = max(cloud.blocks("org/tuned"), key=lambda b: len(cloud.info(b).needs))
    coded, alone = cloud.export_block(block_id), alone_form(cloud, block_id)
    pieces = [cut(coded, part) for part in parts_of(block_id, 3)]
    assert join(pieces[::-1]) == coded
    for wrong in (
        pieces[:2],
        [*pieces[:2], pieces[1]],
        [*pieces[:2], cut(alone, Part(block_id, 2, 3))],
        [*pieces[:2], replace(pieces[2], payload=pieces[2].payload[:-1])],
    ):
        with pytest.raises(BlockCorruptError):
            join(wrong)


def test_a_device_keeps_ranges_of_a_block(cloud: DiskBlockStore, tmp_path: Path) -> None:
    device = Device(tmp_path / "device")
    block_id = max(cloud.blocks("org/base"), key=lambda b: cloud.info(b).stored_bytes)
    pieces = [cut(cloud.export_block(block_id), part) for part in parts_of(block_id, 3)]
    for piece in pieces:
        device.receive(piece)
    device.keep(frozenset(piece.part for piece in pieces[:2]))
    assert not device.store.has(block_id)
    device.receive(pieces[2])
    assert device.store.get(block_id) == cloud.get(block_id)
    device.keep(frozenset(piece.part for piece in pieces[1:]))
    with pytest.raises(BlockCorruptError):
        device.receive(replace(pieces[0], payload=bytes(len(pieces[0].payload))))


def test_a_store_without_models_or_without_a_base_is_refused(cloud: DiskBlockStore, tmp_path: Path) -> None:
    with open_store(tmp_path / "empty") as store, pytest.raises(ValueError, match="holds no model"):
        catalog_from_store(store)
    with pytest.raises(ValueError, match="does not hold"):
        catalog_from_store(cloud, {"org/other": "org/gone"})


def test_an_adapter_needs_its_base(cloud: DiskBlockStore) -> None:
    catalog = catalog_from_store(cloud, {"org/other": "org/base"}).catalog
    base, other = (catalog.members[NAMES.index(name)] for name in ("org/base", "org/other"))
    assert other[base].all()
