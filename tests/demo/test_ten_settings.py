"""Ten settings are distinct; the clock that is trained is the one that decides."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from demo.experiments import clock_judged, settings_ten, slot_clock, what_is_left
from demo.experiments.ten_settings import SETTINGS, Setting
from policy.evaluation import draw_world, evaluate
from policy.interfaces import BlockForms, Bool
from policy.learn.augur_pipelined import AugurPipelined, Learned
from policy.learn.single_rates import user_air
from policy.learn.slot_clock import ImaginedSlots, SlotClock, alone_of, turns_of
from policy.learn.value import class_times
from policy.play.rollout import Course
from policy.scenario import Scenario, World, load_scenario
from policy.schemes.pooled import PooledCoverage
from policy.slot.tables import to_masks
from policy.world.looks import LookedAtError
from policy.world.synthetic import synthetic_catalog

SHAPED = [setting for setting in SETTINGS if setting.base != "p1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Small(Setting):
    """A small scenario on the cheap radio."""

    def scenario(self) -> Scenario:
        config = load_scenario("default").config
        requests = replace(config.requests, request_prob=0.95)
        config = replace(config, name=self.name, num_nodes=2, num_users=4, num_slots=3, requests=requests)
        catalog = synthetic_catalog(
            np.random.default_rng(0), models=4, blocks_per_model=4, families=2, shared=0.5
        )
        return Scenario(config, catalog)

    def make_world(self) -> Callable[[Scenario, int], World]:
        return draw_world


class SmallForms(Small):
    """The same, and each model but the first can be sent alone."""

    def scenario(self) -> Scenario:
        scenario = super().scenario()
        catalog = scenario.catalog
        rng, base = np.random.default_rng(1), np.flatnonzero(catalog.members.sum(axis=0) > 1)
        own = np.flatnonzero(catalog.members[1:].sum(axis=0) * (catalog.members.sum(axis=0) == 1))
        pairs = [(j, i) for j in own for i in base if catalog.members[catalog.members[:, j], i].all()]
        tied = sorted({j for j, _ in pairs})
        content, alone = catalog.members.copy(), catalog.sizes_bytes.copy()
        for model in np.flatnonzero(catalog.members[:, tied].any(axis=1)):
            content[model, base] = False
        alone[tied] *= rng.integers(1, 3, len(tied))
        forms = BlockForms(alone_bytes=alone, content=content, together=np.arange(catalog.num_blocks))
        return Scenario(scenario.config, replace(catalog, requires=np.array(pairs), forms=forms))


SMALL = Small(name="small", about="for tests")
FORMS = SmallForms(name="small-forms", about="for tests")


def test_ten_settings_and_most_of_them_scarce() -> None:
    assert len({setting.name for setting in SETTINGS}) == 10
    room = {
        setting.name: setting.scenario().capacity_bytes.sum() / setting.scenario().catalog.dedup_bytes
        for setting in SHAPED
    }
    assert room["v30"] > 1
    assert sum(share < 1 for share in room.values()) >= 6


class _Known(AugurPipelined):
    """Decides by the clock of one slot that is known, at prices of its own."""

    def clock_s(self, world: World, slot: int, placements: list[Bool]) -> list[float]:
        asked, users = world.trace.requests[slot][None], np.arange(world.scenario.config.num_users)
        air = user_air(world, slot, users)[None].astype(np.float32)
        air[..., 0] = 0.0
        links = world.scenario.config.links
        sent, weight, misses = turns_of(asked, air[..., -1], self._classes, self._class_bits, None)
        slots = ImaginedSlots(
            cost_s=self._learned.clock.costs(class_times(asked, air, self._classes), links),
            sent=sent,
            weight=weight,
            misses=misses,
            alone=alone_of(asked, self._classes),
        )
        held = [self._held_bits(to_masks(holds)) for holds in placements]
        return [slots.in_turn(each).mean_delay_s(each) for each in held]


@pytest.mark.parametrize("small", [SMALL, FORMS])
def test_the_trained_clock_is_the_one_that_decides(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Bool] = []
    drawn = slot_clock.placements

    def kept(world: World, asked: Bool, rng: np.random.Generator) -> list[Bool]:
        tried[:] = drawn(world, asked, rng)
        return tried

    monkeypatch.setattr(slot_clock, "placements", kept)
    other = 0
    for number in range(6):
        rng, world = np.random.default_rng(number), small.scenario().world(number)
        slot = slot_clock.served(small, world, 1, rng)
        assert slot is not None
        clock = SlotClock(rng.uniform(0.05, 1.0, (3, 3)))
        learned = replace(Learned.untrained(2), clock=clock)
        mine = _Known(world.scenario, rng, learned).clock_s(world, 1, tried)
        sent = slot_clock.in_turn(clock.prices, slot)
        theirs = slot_clock.estimate(torch.tensor(np.log(clock.prices)), slot, sent).numpy()
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)
        other += int((sent != slot_clock.in_one_order(slot)).any())
    assert other > 0


def test_a_placement_that_is_tried_leaves_the_course_as_it_is_and_is_served_as_if_played() -> None:
    world = SMALL.scenario().world(1)
    one, other = Course(world), Course(world)
    rng = np.random.default_rng(0)
    for _ in range(world.trace.num_slots):
        decided = PooledCoverage(world.scenario, rng).decide(one.observation())
        before = one.placement.copy()
        clock_judged.tried(one, replace(decided, holds=np.zeros_like(decided.holds)))
        holds, delay_s = clock_judged.tried(one, decided)
        np.testing.assert_array_equal(one.placement, before)
        assert other.step(decided).mean_delay_s == delay_s == one.step(decided).mean_delay_s
        np.testing.assert_array_equal(other.placement, holds)


def test_the_clock_is_judged_by_what_was_served() -> None:
    world = SMALL.scenario().world(1)
    told = clock_judged.judged(world)
    assert told.served.shape == told.one_order.shape == told.suits.shape == (world.trace.num_slots, 2)
    assert (told.served > 0).any()
    assert (told.suits > 0).any()
    shifted = replace(told, suits=told.served + np.array([0.5, 1.0]))
    assert "ours less by" in shifted.summary()[0]
    assert "correlation with served 1.00" in shifted.summary()[2]


@pytest.mark.slow
def test_prices_are_fitted_alike_and_served_slots_are_kept(tmp_path: Path) -> None:
    slots = slot_clock.gathered([SMALL], 2, 0, tmp_path)
    again = slot_clock.gathered([SMALL], 2, 0, tmp_path)
    first, second = slot_clock.fit(slots, 0, rounds=4), slot_clock.fit(again, 0, rounds=4)

    np.testing.assert_array_equal(first, second)
    row = slot_clock.report(first, slots)["small"]
    assert 0 <= row["error"] < 1


@pytest.mark.parametrize("step", [0.03, 0.5])
def test_putting_users_in_order_anew_never_ends_at_a_larger_loss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: float
) -> None:
    adam = torch.optim.Adam
    monkeypatch.setattr(slot_clock.torch.optim, "Adam", lambda what, _: adam(what, step))
    slots = slot_clock.gathered([FORMS], 1, 0, tmp_path)
    start = np.array(slot_clock.START) + 0.01
    losses = [slot_clock.loss_of(start, slots)]
    for rounds in (1, 2, 4):  # an order each; each run begins as the one before
        losses.append(slot_clock.loss_of(slot_clock.fit(slots, 0, rounds, rounds), slots))
    assert (np.diff(losses) <= 0).all()


@pytest.mark.slow
def test_the_table_tells_the_best_rival_and_what_training_brings() -> None:
    names = ["rendezvous", "pooled", settings_ten.UNTRAINED, settings_ten.OURS]
    table = settings_ten.Table(setting=SMALL, scenario=SMALL.scenario(), names=tuple(names))
    result = evaluate(table.scenario, names, 2, bound_worlds=0)
    one = settings_ten.summary(table, result)

    assert one["best_rival"] in ("rendezvous", "pooled")
    text = settings_ten.markdown({"small": one}, 2, "validation")
    assert "small: for tests" in text
    assert text.count("\n| learned |") == 1


def test_held_out_worlds_are_put_on_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record, seen = settings_ten.record_look, settings_ten.check_unseen
    looks = tmp_path / "looks.json"
    monkeypatch.setattr(settings_ten, "record_look", lambda look: record(look, looks))
    monkeypatch.setattr(settings_ten, "check_unseen", lambda *where: seen(*where, looks))
    options = settings_ten._parser().parse_args(["--worlds", "2"])
    table = settings_ten.Table(setting=SMALL, scenario=SMALL.scenario(), names=("lru",))
    settings_ten.put_on_record([table], options)

    with pytest.raises(LookedAtError):
        settings_ten.put_on_record([table], options)
    options.seen = True
    settings_ten.put_on_record([table], options)


def test_what_is_left_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = []

    def play(table: settings_ten.Table, split: str, number: int) -> dict[str, float]:
        played.append(number)
        names = (*what_is_left.KNOWN, "told:distribution", "told:future")
        return {name: 2.0 - 0.1 * place + number for place, name in enumerate(names)}

    monkeypatch.setattr(what_is_left, "SETTINGS", (SMALL,))
    monkeypatch.setattr(what_is_left, "play", play)
    common = ["--split", "validation", "--out", str(tmp_path), "--first-world", "5"]
    for worlds in ("1", "3"):
        assert what_is_left.main([*common, "--worlds", worlds]) == 0

    assert played == [5, 6, 7]
    text = (tmp_path / "what-is-left.md").read_text()
    assert "| small | 3 | 8.000 |" in text
    one = what_is_left.summary(what_is_left.Kept.at(tmp_path / "what-is-left.json", "validation").rows)[
        "small"
    ]
    assert one["below"]["told:future|learned"]["reduction"] == pytest.approx(0.2 / 7.8)


def test_what_is_left_is_told_on_worlds_that_are_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what_is_left, "SETTINGS", (SMALL,))

    with pytest.raises(ValueError, match="on record"):
        what_is_left.main(["--worlds", "1", "--out", "unused"])


@pytest.mark.slow
def test_planners_that_are_told_play_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings_ten, "cache_root", lambda: tmp_path)
    table = settings_ten.Table(setting=SMALL, scenario=SMALL.scenario())
    row = what_is_left.play(table, "validation", 3)

    assert set(row) == {*what_is_left.KNOWN, "told:distribution", "told:future"}
    assert row["told:future"] <= 1.05 * min(row.values())
