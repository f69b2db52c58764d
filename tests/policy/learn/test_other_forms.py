"""Forms and order of the clock, against the chain's own rules and against every order and form there is."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from policy.interfaces import Float
from policy.learn.other_forms import forms_of
from policy.learn.request_statistics import Single
from policy.learn.slot_clock import ImaginedSlots
from policy.slot.tables import from_masks, to_masks
from policy.world.forms import FormChoice
from policy.world.synthetic import synthetic_catalog
from tests.policy.test_forms import random_catalog

NODES = 3


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_what_can_be_sent_alone_is_what_the_chain_can_send_alone(seed: int, depth: int) -> None:
    rng = np.random.default_rng([seed, depth])
    catalog = random_catalog(rng, depth)
    choice, forms = FormChoice(catalog), forms_of(catalog)
    assert forms is not None
    assert catalog.forms is not None
    holds = rng.random((NODES, catalog.num_blocks)) < 0.8
    masks, count = forms.masks(to_masks(holds)), catalog.num_blocks
    alone = np.zeros(count, dtype=bool)
    alone[forms.tied] = True

    np.testing.assert_array_equal(from_masks(masks[:count], NODES), holds)
    np.testing.assert_array_equal(from_masks(masks[count:], NODES), choice.ready(holds, alone)[:, alone])
    np.testing.assert_array_equal(np.unique(catalog.requires[:, 0]), forms.tied)
    np.testing.assert_array_equal(forms.needs[0, :-1, :count], catalog.members)
    whole = forms.needs[1, :-1, :count].copy()
    whole[:, forms.tied] |= forms.needs[1, :-1, count:]
    np.testing.assert_array_equal(whole, catalog.forms.content)
    assert not forms.needs[:, -1].any()
    assert not forms.needs[0, :, count:].any()
    np.testing.assert_array_equal(forms.sizes_bytes[count:], catalog.forms.alone_bytes[forms.tied])


def test_blocks_that_need_no_other_have_one_form() -> None:
    rng = np.random.default_rng(0)
    assert forms_of(synthetic_catalog(rng, models=4, blocks_per_model=4, families=2, shared=0.5)) is None


def _slots(rng: np.random.Generator, shared: bool, forms: int) -> tuple[ImaginedSlots, Float]:
    """One sampled slot of 3 users, one unit; classes of several users if `shared`."""
    users, classes = 3, 6
    own = np.repeat(np.eye(users, dtype=bool), 2, axis=1)
    misses = [own & (np.arange(classes) % 2 == form) for form in range(2)]
    if shared:
        misses = [part | (rng.random((users, classes)) < 0.3) for part in misses]
    cost = rng.uniform(0.1, 1.0, (1, 2, classes, 1)).astype(np.float32)
    slots = ImaginedSlots(
        cost_s=cost,
        sent=np.maximum.accumulate(misses[0], axis=0)[None].astype(np.float32),
        weight=np.full((1, users), 1 / users, dtype=np.float32),
        misses=misses[0][None].astype(np.float32),
        alone=misses[1][None].astype(np.float32) if forms == 2 else None,
    )
    return slots, rng.uniform(0.5, 2.0, (2, classes))


def _every(slots: ImaginedSlots, held: Float) -> list[float]:
    """Mean delay in every order, every user in every form."""
    assert slots.misses is not None
    forms = [slots.misses[0]] if slots.alone is None else [slots.misses[0], slots.alone[0]]
    users = len(forms[0])
    delays = []
    for order in permutations(range(users)):
        for form in product(range(len(forms)), repeat=users):
            rows: Single = np.stack([forms[form[user]][user] for user in order])
            sent = np.maximum.accumulate(rows, axis=0)[None]
            delays.append(replace(slots, sent=sent).mean_delay_s(held))
    return delays


@pytest.mark.parametrize("forms", [1, 2])
def test_of_users_who_share_nothing_each_goes_in_the_best_order_and_form(forms: int) -> None:
    for seed in range(12):
        slots, held = _slots(np.random.default_rng(seed), shared=False, forms=forms)
        assert slots.in_turn(held).mean_delay_s(held) == pytest.approx(min(_every(slots, held)), rel=1e-5)


@pytest.mark.parametrize("forms", [1, 2])
def test_of_users_who_share_blocks_the_order_is_near_the_best(forms: int) -> None:
    over = []
    for seed in range(40):
        slots, held = _slots(np.random.default_rng(seed), shared=True, forms=forms)
        over.append(slots.in_turn(held).mean_delay_s(held) / min(_every(slots, held)))
    assert min(over) >= 1 - 1e-5
    assert np.mean(over) < 1.03


def test_another_form_never_makes_a_sample_slower() -> None:
    faster = 0
    for seed in range(40):
        slots, held = _slots(np.random.default_rng(seed), shared=True, forms=2)
        with_forms, kept = (each.in_turn(held).delays(held) for each in (slots, replace(slots, alone=None)))
        assert (with_forms <= kept).all()
        faster += int((with_forms < kept).any())
    assert faster > 10
