"""The form of each delivery: never more bytes than one form throughout, and as few as brute force finds."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from policy.bounds.unlimited import unlimited_costs
from policy.config import LinkConfig, ScenarioConfig
from policy.interfaces import BlockCatalog, BlockForms, Bool
from policy.play.migration import serve_best
from policy.scenario import Scenario, World
from policy.serving import serve_planned
from policy.slot.tables import ServiceRules
from policy.world.forms import Delivery, FormChoice, always_alone
from tests.fakes import CountDelay


def random_catalog(rng: np.random.Generator, depth: int = 1) -> BlockCatalog:
    """Bases, and models with deltas on them (and deltas on these, at depth 2); some blocks in two ranges."""
    bases, deltas, top = 2, 3, 2 if depth == 2 else 0
    count = bases + deltas + top
    required = np.zeros((count, count), dtype=bool)
    for j in range(bases, bases + deltas):
        required[j, rng.choice(bases, rng.integers(1, 3), replace=False)] = True
    for j in range(bases + deltas, count):
        required[j, rng.integers(bases, bases + deltas)] = True
    content = rng.random((4, count)) < 0.4
    content[np.arange(4), rng.integers(0, count, 4)] = True
    content[0] |= ~content.any(axis=0)
    members = content.copy()
    for _ in range(depth):
        members |= (members.astype(int) @ required.astype(int)) > 0
    parts = rng.integers(1, 3, count)
    block = np.repeat(np.arange(count), parts)
    sizes = rng.integers(1, 50, count)
    alone = np.where(required.any(axis=1), sizes + rng.integers(-5, 60, count), sizes).clip(1)
    pairs = [(j, i) for j, i in product(range(block.size), repeat=2) if required[block[j], block[i]]]
    return BlockCatalog(
        sizes_bytes=sizes[block],
        members=members[:, block],
        requires=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        forms=BlockForms(alone_bytes=alone[block], content=content[:, block], together=block),
    )


def draw(rng: np.random.Generator, choice: FormChoice, users: int) -> tuple[Bool, Bool]:
    """Groups wanted and groups held, (users, groups)."""
    wanted = choice.content[rng.integers(0, choice.content.shape[0], users)]
    return wanted, rng.random(wanted.shape) < rng.choice([0.0, 0.3, 0.7])


@pytest.mark.parametrize(("depth", "users"), [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_the_choice_against_every_other(depth: int, users: int) -> None:
    tied = cheaper = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, depth, users])
        choice = FormChoice(random_catalog(rng, depth))
        wanted, has = draw(rng, choice, users)
        needs, alone = choice.choose(wanted, has)
        found = choice.air_bytes(~alone, needs)
        free = choice.requires.any(axis=1)
        every = []
        for picks in product([False, True], repeat=int(free.sum())):
            kept = ~free
            kept[free] = picks
            every.append(choice.air_bytes(kept, choice.resolve(kept, wanted, has)))
        assert found <= min(every[0], every[-1])  # always alone, always as kept
        if depth == 1 or users == 1:
            assert found == min(every)
        assert found >= min(every)
        assert (needs >= (wanted & ~has)).all()
        assert not (needs & has).any()
        received = needs | has  # whoever receives a block in its kept form can decode it
        for group in np.flatnonzero(needs.any(axis=0) & ~alone):
            assert received[needs[:, group]][:, choice.requires[group]].all()
        tied += bool(free.any())
        cheaper += found < min(every[0], every[-1])
    assert tied > 30
    assert cheaper > 0 or (depth, users) == (1, 1)


def world_of(catalog: BlockCatalog, seed: int, **requests: float | bool) -> World:
    config = ScenarioConfig(num_nodes=2, num_users=3, num_slots=6, capacity_share=0.9)
    wires = LinkConfig(backhaul_bit_s=4e3, cloud_bit_s=2e2)  # slow beside the fake radio
    config = replace(config, links=wires, requests=replace(config.requests, **requests))
    scenario = Scenario(config, catalog)
    drawn = scenario.world(seed)
    return scenario.world_of(drawn.trace, CountDelay(1e3))


def test_a_device_gets_no_more_than_in_either_single_form() -> None:
    for seed in range(12):
        catalog = random_catalog(np.random.default_rng(seed))
        worlds = [
            world_of(form, seed) for form in (catalog, replace(catalog, forms=None), always_alone(catalog))
        ]
        for slot in range(6):
            sent = [int(w.sizes(slot)[w.needs(slot).any(axis=0)].sum()) for w in worlds]
            assert sent[0] <= min(sent[1:])


def test_a_node_sends_alone_only_what_it_can_decode() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        catalog = random_catalog(rng, 2)
        world = world_of(catalog, seed)
        assert catalog.forms is not None
        together = catalog.forms.together
        placement = rng.random((2, catalog.num_blocks)) < 0.7
        for slot in range(6):
            ready, alone = world.problem(slot, placement).cached, world.alone(slot)
            assert (ready[:, ~alone] == placement[:, ~alone]).all()
            assert not (ready & ~placement).any()
            for node, block in zip(*np.nonzero(ready[:, alone]), strict=True):
                column = np.flatnonzero(alone)[block]
                assert placement[node, together == together[column]].all()
                bases = catalog.requires[catalog.requires[:, 0] == column, 1]
                assert placement[node, bases].all()


def test_slots_are_served_in_the_chosen_forms() -> None:
    catalog = random_catalog(np.random.default_rng(3))
    world = world_of(catalog, 3, keep_downloads=True)
    placement = np.zeros((2, catalog.num_blocks), dtype=bool)
    for slot in range(6):
        outcome = serve_best(world, slot, placement, ServiceRules())
        assert outcome.sent_bytes == world.sizes(slot)[world.needs(slot).any(axis=0)].sum()
        assert outcome.cloud_bytes == outcome.sent_bytes


@pytest.mark.sampled(2)
@pytest.mark.parametrize("rules", [ServiceRules(), ServiceRules(comp=False, share_air=False)])
def test_no_form_throughout_would_have_been_faster(rules: ServiceRules) -> None:
    quicker = 0
    for seed in range(10):
        rng = np.random.default_rng([seed, 9])
        catalog = random_catalog(rng, depth=1 + seed % 2)
        assert catalog.forms is not None
        world, kept = (
            world_of(form, seed, request_prob=1.0) for form in (catalog, replace(catalog, forms=None))
        )
        one = rng.integers(0, 2, catalog.num_blocks)  # the base here, its delta there: neither can decode
        placement = (one == np.arange(2)[:, None]) & (rng.random(catalog.num_blocks) < 0.9)
        chosen = serve_best(world, 0, placement, rules)
        wanted = catalog.forms.content[world.trace.requests[0]]
        everything = np.ones(catalog.num_blocks, dtype=bool)
        delays = [serve_best(kept, 0, placement, rules).mean_delay_s]
        for way in (Delivery(world.needs(0), world.alone(0)), Delivery(wanted, everything)):
            problem = world.problem(0, placement, rules, delivery=way)
            delays.append(serve_planned(problem, world.air_times(0)).mean_delay_s)
        assert chosen.mean_delay_s <= min(delays)
        assert unlimited_costs(world)[0] <= chosen.mean_delay_s * (1 + 1e-9)
        sizes = world.sizes(0, chosen.alone)
        assert chosen.sent_bytes == sizes[[cast.block for cast in chosen.broadcasts]].sum()
        quicker += chosen.mean_delay_s < delays[1] - 1e-9
    assert quicker > 1, "the forms with the fewest bytes were never slower: nothing is tested"


def test_devices_hold_what_they_were_sent_in_the_form_they_were_sent() -> None:
    catalog = random_catalog(np.random.default_rng(5))
    room = 60.0
    world = world_of(catalog, 5, keep_downloads=True, device_bytes=room, request_prob=1.0)
    assert catalog.forms is not None
    least = np.minimum(catalog.sizes_bytes, catalog.forms.alone_bytes)
    before = np.zeros((3, catalog.num_blocks), dtype=bool)
    for slot in range(6):
        kept = world.devices(slot)
        assert kept is not None
        assert not (kept & ~before).any()
        assert (kept @ least <= room).all()
        before = kept | world.needs(slot)


def test_a_catalog_keeps_its_forms_in_a_file(tmp_path: Path) -> None:
    catalog = random_catalog(np.random.default_rng(0))
    catalog.save(tmp_path / "forms.npz")
    replace(catalog, forms=None).save(tmp_path / "plain.npz")
    again = BlockCatalog.load(tmp_path / "forms.npz")
    assert again.forms is not None
    assert catalog.forms is not None
    assert (again.forms.alone_bytes == catalog.forms.alone_bytes).all()
    assert (again.forms.together == catalog.forms.together).all()
    assert (again.forms.content == catalog.forms.content).all()
    assert BlockCatalog.load(tmp_path / "plain.npz").forms is None
    with pytest.raises(ValueError, match="nothing to choose"):
        FormChoice(BlockCatalog.load(tmp_path / "plain.npz"))


def test_forms_that_are_not_a_catalogs_are_refused() -> None:
    catalog = random_catalog(np.random.default_rng(0))
    forms = catalog.forms
    assert forms is not None
    for wrong, text in (
        (lambda: replace(forms, alone_bytes=forms.alone_bytes * 0), "must be > 0"),
        (lambda: replace(forms, together=forms.together[1:]), "forms need"),
        (lambda: replace(catalog, forms=replace(forms, content=~catalog.members)), "among its members"),
    ):
        with pytest.raises(ValueError, match=text):
            wrong()
