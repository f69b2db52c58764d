"""The clock of a slot: a bound when untrained, convex in what is held, and its marginal is its slope."""

from dataclasses import replace

import numpy as np
import pytest

from policy.config import PRESETS, LinkConfig
from policy.interfaces import Bool, Float
from policy.learn.augur_pipelined import AugurPipelined, Learned, Outlook, PipelinedConfig, clearly_less
from policy.learn.decisions import FEATURES, MOST_PATIENCE, DecisionWeights, Tradeoffs, circumstances
from policy.learn.sampling import as_likely, needed_chance
from policy.learn.slot_clock import ImaginedSlots, SlotClock, turns_of
from policy.learn.value import class_times, classes_of
from policy.play.migration import serve_best
from policy.play.rollout import Course, rollout
from policy.scenario import Scenario
from policy.schemes.learned import ENTRY, learned_from
from policy.schemes.planner_clock import ENTRY as UNTRAINED
from policy.schemes.pooled import PooledCoverage
from policy.slot.tables import ServiceRules, mask_bits, to_masks
from policy.world.synthetic import synthetic_catalog

CONFIG = replace(PRESETS["default"], num_nodes=3, num_users=5, num_slots=4, capacity_share=0.2)
CATALOG = synthetic_catalog(np.random.default_rng(3), models=6, blocks_per_model=5, families=2, shared=0.4)
SCENARIO = Scenario(CONFIG, CATALOG)


def _true_slot(slot: int, clock: SlotClock) -> tuple[ImaginedSlots, Float]:
    """A slot of the world as it will be, priced, and the bits of each block's class."""
    world, classes = SCENARIO.world(1), classes_of(CATALOG.members)
    users, nodes = CONFIG.num_users, CONFIG.num_nodes
    asked = world.trace.requests[slot][None]
    sets: Bool = mask_bits(nodes).astype(bool)
    air = np.zeros((1, users, 2**nodes), dtype=np.float32)
    for user in range(users):
        heard = np.zeros((sets.shape[0] - 1, users), dtype=bool)
        heard[:, user] = True
        air[0, user, 1:] = 1.0 / world.delay.rate_bit_s(slot, sets[1:], heard)
    bits = 8.0 * CATALOG.sizes_bytes
    class_bits = np.bincount(classes.of_block, weights=bits).astype(np.float64)
    sent, weight, misses = turns_of(asked, air[..., -1], classes, class_bits, None)
    costs = clock.costs(class_times(asked, air, classes), CONFIG.links)
    return ImaginedSlots(cost_s=costs, sent=sent, weight=weight, misses=misses), bits


def _held(placement: Bool, bits: Float) -> Float:
    held = np.zeros((2**CONFIG.num_nodes, int(classes_of(CATALOG.members).of_block.max()) + 1))
    np.add.at(held, (to_masks(placement), classes_of(CATALOG.members).of_block), bits)
    return held


def _placement(seed: int) -> Bool:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.random((CONFIG.num_nodes, CATALOG.num_blocks)) < rng.uniform(0.1, 0.9))


@pytest.mark.parametrize("slot", range(4))
def test_untrained_it_never_says_more_for_the_last_user_than_serving_takes(slot: int) -> None:
    slots, bits = _true_slot(slot, SlotClock.bound(CONFIG.num_nodes))
    world = SCENARIO.world(1)
    if not world.needs(slot).any():
        pytest.skip("nobody asks")
    for seed in range(3):
        placement = _placement(seed)
        real = serve_best(world, slot, placement, ServiceRules(groups=False)).user_delay_s.max()
        assert slots.waits(_held(placement, bits)).max() <= real * (1 + 1e-5)


def test_the_marginal_is_a_slope_below_the_clock() -> None:
    slots, bits = _true_slot(1, learned_from().clock)
    here, there = (_held(_placement(seed), bits) for seed in (1, 2))
    slope = slots.marginal(slots.binding(here))

    assert (slope * here).sum() == pytest.approx(slots.mean_delay_s(here), rel=1e-4)
    assert slots.mean_delay_s(there) >= (slope * there).sum() * (1 - 1e-4)
    middle = slots.mean_delay_s((here + there) / 2)
    assert middle <= (slots.mean_delay_s(here) + slots.mean_delay_s(there)) / 2 * (1 + 1e-4)


def test_a_further_copy_and_a_faster_link_never_cost_more() -> None:
    clock = learned_from().clock
    slots, bits = _true_slot(2, clock)
    few = _placement(5)
    more = few | _placement(6)
    assert slots.mean_delay_s(_held(more, bits)) <= slots.mean_delay_s(_held(few, bits)) * (1 + 1e-5)
    air = np.full((8, 2, 1), 1e-8, dtype=np.float32)
    slow = clock.costs(air, LinkConfig(backhaul_bit_s=1e9, cloud_bit_s=1e8))
    fast = clock.costs(air, LinkConfig(backhaul_bit_s=2e9, cloud_bit_s=2e8))
    assert (fast <= slow).all()


def _slot_of(sizes: tuple[float, ...], needs: tuple[tuple[int, ...], ...]) -> ImaginedSlots:
    """Users of one sampled slot; a class costs 1 s a bit if nobody holds it, 0.1 s if node 0 does."""
    misses = np.array([needs], dtype=np.float32)
    users, classes = misses.shape[1:]
    order = np.argsort(misses[0] @ np.array(sizes), kind="stable")
    cost = np.broadcast_to(np.array([1.0, 0.1])[None, :, None, None], (1, 2, classes, 1))
    return ImaginedSlots(
        cost_s=cost.astype(np.float32),
        sent=np.maximum.accumulate(misses[:, order], axis=1),
        weight=np.full((1, users), 1 / users, dtype=np.float32),
        misses=misses,
    )


@pytest.mark.parametrize("holder", [0, 1])
def test_who_finds_all_in_the_caches_does_not_wait_for_who_does_not(holder: int) -> None:
    sizes = (2.0, 3.0)  # user 0 misses the smaller class, user 1 the larger one
    slots, held = _slot_of(sizes, ((1, 0), (0, 1))), np.diag([0.0, 0.0])
    held[0], held[1] = sizes, 0.0
    held[:, holder] = held[::-1, holder]
    cached, fetched = 0.1 * sizes[holder], sizes[1 - holder]

    served = slots.in_turn(held)
    assert served.mean_delay_s(held) == pytest.approx((cached + cached + fetched) / 2, rel=1e-5)


def test_what_others_are_sent_already_takes_nothing_more() -> None:
    # user 0 asks for class 0, user 1 for class 1, user 2 for 0 and 2: after class 0 it misses 1 bit
    slots = _slot_of((4.0, 5.0, 1.0), ((1, 0, 0), (0, 1, 0), (1, 0, 1)))
    held = np.array([[4.0, 5.0, 1.0], np.zeros(3)])
    np.testing.assert_allclose(slots.in_turn(held).waits(held)[0, 0], [4.0, 5.0, 10.0])


@pytest.mark.parametrize(("many", "waits"), [(1, [2.0, 5.0]), (3, [3.0, 3.0, 3.0, 5.0])])
def test_many_who_wait_for_the_same_go_before_few(many: int, waits: list[float]) -> None:
    slots = _slot_of((2.0, 3.0), ((1, 0), *[(0, 1)] * many))  # user 0 alone takes less than the others
    held = np.array([[2.0, 3.0], np.zeros(2)])
    np.testing.assert_allclose(slots.in_turn(held).waits(held)[0, 0], waits)


@pytest.mark.parametrize("slot", range(4))
def test_turns_that_suit_a_placement_send_all_that_is_missed_and_end_alike(slot: int) -> None:
    slots, bits = _true_slot(slot, learned_from().clock)
    for seed in range(6):
        held = _held(_placement(seed), bits)
        served = slots.in_turn(held)
        np.testing.assert_array_equal(served.sent[:, -1], slots.sent[:, -1])
        assert (np.diff(served.sent, axis=1) >= 0).all()
        np.testing.assert_allclose(served.waits(held)[..., -1], slots.waits(held)[..., -1], rtol=1e-5)


def test_samples_are_corrected_to_the_forecast() -> None:
    value, bits = np.array([[4.0, 2.0], [0.0, 0.0]]), np.array([1.0, 1.0])
    likely = as_likely(value, np.array([0.5, 0.0]), np.array([0.5, 0.25]), bits, samples=10**9)
    np.testing.assert_allclose(likely[0], value[0], rtol=1e-6)
    np.testing.assert_allclose(likely[1], [2.0, 1.0], rtol=1e-6)  # as the mean class, a quarter as likely
    chance = needed_chance(np.array([[0.5, 0.0], [0.5, 0.5]]), np.eye(2, dtype=bool), None)
    np.testing.assert_allclose(chance, [0.75, 0.5])


def test_it_decides_alike_with_the_same_seed_and_within_its_room() -> None:
    world = SCENARIO.world(2)
    first, second = (rollout(world, ENTRY, np.random.default_rng(5)) for _ in range(2))

    np.testing.assert_array_equal(first.cost_s, second.cost_s)
    for placement in first.placements:
        assert (placement @ CATALOG.sizes_bytes <= SCENARIO.capacity_bytes).all()


def test_links_bring_all_that_it_decides() -> None:
    course = Course(SCENARIO.world(3))
    augur = AugurPipelined(SCENARIO, np.random.default_rng(0), Learned.untrained(CONFIG.num_nodes))
    for _ in range(CONFIG.num_slots):
        assert course.step(augur.decide(course.observation())).update.cut_bytes == 0


@pytest.mark.parametrize(("sure", "follows"), [(1e9, True), (-1e9, False)])
def test_a_placement_that_is_not_clearly_better_gives_way_to_the_rivals(sure: float, follows: bool) -> None:
    config, world = PipelinedConfig(sure=sure, judges=48), SCENARIO.world(5)
    parts = Learned.untrained(CONFIG.num_nodes)
    rival = PooledCoverage(SCENARIO, np.random.default_rng(0))
    guarded = AugurPipelined(SCENARIO, np.random.default_rng(0), parts, config, rival)
    alone = AugurPipelined(SCENARIO, np.random.default_rng(0), parts, config)
    plain = PooledCoverage(SCENARIO, np.random.default_rng(0))
    course = Course(world)
    for _ in range(CONFIG.num_slots):
        seen = course.observation()
        decided = guarded.decide(seen)
        theirs, own = plain.decide(seen), alone.decide(seen)
        np.testing.assert_array_equal(decided.holds, theirs.holds if follows else own.holds)
        assert guarded.reasons is not None
        np.testing.assert_array_equal(guarded.reasons.holds, decided.holds)
        course.step(decided)


def test_plan_and_judge_let_users_wait_in_the_order_that_suits_each_placement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordered, asked_for = ImaginedSlots.in_turn, []

    def spied(slots: ImaginedSlots, bits: Float) -> ImaginedSlots:
        asked_for.append(bits[0].sum())
        return ordered(slots, bits)

    monkeypatch.setattr(ImaginedSlots, "in_turn", spied)
    rival = PooledCoverage(SCENARIO, np.random.default_rng(0))
    parts, config = Learned.untrained(CONFIG.num_nodes), PipelinedConfig(rounds=3, judges=8)
    AugurPipelined(SCENARIO, np.random.default_rng(0), parts, config, rival).decide(
        Course(SCENARIO.world(4)).observation()
    )
    assert len(asked_for) == 3 + 2  # each round's placement, then ours and the rival's
    assert min(asked_for) < 8.0 * CATALOG.sizes_bytes.sum()  # something is held


def test_less_is_clear_only_beyond_the_noise_of_the_difference() -> None:
    theirs = np.array([1.0, 2.0, 3.0, 4.0])

    assert clearly_less(theirs - 0.1, theirs, 1.0)  # the same in every sample: no noise at all
    assert not clearly_less(theirs - np.array([1.0, -1.0, 1.0, -0.9]), theirs, 1.0)
    assert not clearly_less(theirs, theirs, 1.0)


def test_parts_are_switched_on_one_by_one() -> None:
    bare = UNTRAINED.start(SCENARIO, np.random.default_rng(0))
    part = UNTRAINED.start(SCENARIO, np.random.default_rng(0), clock=1.0)  # type: ignore[call-arg]
    assert isinstance(bare, AugurPipelined)
    assert isinstance(part, AugurPipelined)
    assert (part._learned.clock.prices == learned_from().clock.prices).all()
    assert (part._learned.decisions.weights == DecisionWeights.untrained().weights).all()
    with pytest.raises(ValueError, match="samples"):
        PipelinedConfig(samples=0)


def test_circumstances_are_finite_before_the_first_slot_and_where_nobody_asks() -> None:
    idle = np.full(CONFIG.num_nodes, np.inf)
    for bits in (1e9, 0.0):
        features = circumstances(SCENARIO, idle, bits)
        assert features.shape == (len(FEATURES),)
        assert features[0] == 1.0
        assert features[2] == 0.0
        assert np.isfinite(features).all()


def test_load_is_how_often_links_to_the_cloud_could_bring_what_is_missed() -> None:
    slot_bits = CONFIG.num_nodes * CONFIG.links.cloud_bit_s * CONFIG.slot_s
    idle = np.zeros(CONFIG.num_nodes)
    at = FEATURES.index("load")
    once, twice = (circumstances(SCENARIO, idle, times * slot_bits) for times in (1.0, 2.0))

    assert once[at] == pytest.approx(0.0)
    assert twice[at] == pytest.approx(1.0)
    np.testing.assert_allclose(twice[4:], [once[1] ** 2, once[1]])


def test_weights_of_older_files_are_read_and_decide_as_they_did() -> None:
    old = np.array([[-5.5, 0.0, 1.0], [0.0, 0.0, -2.0], [-0.5, 0.35, 2.0]], dtype=np.float32)
    new = np.vstack([old, [[2.0, -3.0, 0.0]]]).astype(np.float32)
    scarce, ample = np.array([1.0, -0.3, 0.5, 0.2, 0.1, 0.0]), np.array([1.0, 1.3, 0.5, -2.0, 1.7, -2.6])
    before, after = (DecisionWeights.from_tensors({"decisions.weights": each}) for each in (old, new))

    assert before.at(scarce).patience == pytest.approx(0.0, abs=1e-6)
    assert before.at(scarce).work == after.at(scarce).work == pytest.approx(np.exp(-0.5 - 0.105 + 1.0))
    assert before.at(ample).ease == after.at(scarce).ease < 1e-8
    assert before.at(ample).patience < after.at(ample).patience < after.at(scarce).patience < MOST_PATIENCE


def test_ease_lets_the_price_of_work_go() -> None:
    augur = AugurPipelined(SCENARIO, np.random.default_rng(0), Learned.untrained(CONFIG.num_nodes))
    wanted, later = np.random.default_rng(1).uniform(0.1, 0.9, (2, 7))

    def price(ease: float) -> Float:
        trade = Tradeoffs(update=0.1, near=0.5, work=2.0, patience=0.3, ease=ease)
        return augur._work_s(Outlook(np.zeros((1, 1)), None, wanted, later, trade))

    assert (price(0.0) > 0).all()
    np.testing.assert_allclose(price(0.25), 0.75 * price(0.0))
    np.testing.assert_array_equal(price(1.0), 0.0)
