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
from policy.learn.slot_clock import ImaginedSlots, SlotClock
from policy.play.rollout import Course
from policy.scenario import Scenario, World, load_scenario
from policy.schemes.pooled import PooledCoverage
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


SMALL = Small(name="small", about="for tests")


def test_ten_settings_and_most_of_them_scarce() -> None:
    assert len({setting.name for setting in SETTINGS}) == 10
    room = {
        setting.name: setting.scenario().capacity_bytes.sum() / setting.scenario().catalog.dedup_bytes
        for setting in SHAPED
    }
    assert room["v30"] > 1
    assert sum(share < 1 for share in room.values()) >= 6


def test_the_trained_clock_is_the_one_that_decides() -> None:
    rng = np.random.default_rng(1)
    world = SMALL.scenario().world(1)
    slot = slot_clock.served(SMALL, world, 1, rng)
    assert slot is not None
    clock = SlotClock(rng.uniform(0.05, 1.0, (3, 3)))
    links, bits = world.scenario.config.links, slot.hop_s * world.scenario.config.links.backhaul_bit_s
    air = (slot.air_s / bits[:, None]).T[:, :, None].astype(np.float32)
    turns = int(slot.turn.max()) + 1
    sent = (slot.turn[None, None] <= np.arange(turns)[None, :, None]).astype(np.float32)
    weight = np.full((1, turns), 1 / slot.users, dtype=np.float32)
    slots = ImaginedSlots(cost_s=clock.costs(air, links), sent=sent, weight=weight)
    mine = []
    for masks in slot.masks:
        held = np.zeros((air.shape[0], bits.size))
        held[masks, np.arange(bits.size)] = bits
        mine.append(slots.mean_delay_s(held))

    theirs = slot_clock.estimate(torch.tensor(np.log(clock.prices)), slot).numpy()
    np.testing.assert_allclose(mine, theirs, rtol=1e-4)


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
    first, second = slot_clock.fit(slots, 0, rounds=2), slot_clock.fit(again, 0, rounds=2)

    np.testing.assert_array_equal(first, second)
    row = slot_clock.report(first, slots)["small"]
    assert 0 <= row["error"] < 1


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
