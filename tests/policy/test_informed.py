"""Augur's planner on an oracle's forecasts: seeded, within the rules, and better the more it is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from demo.experiments import augur as report
from demo.experiments import worth_of_knowledge as gap
from policy.bounds.informed import Knowledge, ToldDemand, ToldProcess, ToldState, informed_entry
from policy.config import FINDINGS
from policy.errors import PolicyError
from policy.evaluation.lookup import play_by_tables
from policy.learn.motion import place_draws
from policy.play.rollout import rollout
from policy.play.scheme import History
from policy.scenario import Scenario
from policy.schemes.learned import model_from
from policy.slot.tables import ServiceRules
from policy.world.synthetic import synthetic_catalog

CATALOG = synthetic_catalog(
    np.random.default_rng(0), models=6, blocks_per_model=3, families=2, shared=0.5, mean_block_bytes=30e6
)
SMALL = Scenario(
    replace(FINDINGS, num_nodes=2, num_users=6, num_slots=8, capacity_bytes=(), update_weight=1.0), CATALOG
)
ALL = get_args(Knowledge)


def _cost_s(knowledge: Knowledge, seed: int, rng_seed: int = 0) -> float:
    world = SMALL.world(seed)
    return play_by_tables(world, informed_entry(world, knowledge), np.random.default_rng(rng_seed)).cost_s


def test_knowing_more_is_not_worse() -> None:
    process, demand, state = (np.mean([_cost_s(k, seed) for seed in range(4)]) for k in ALL)

    assert demand < 1.01 * process
    assert state < 1.01 * process


@pytest.mark.parametrize("knowledge", ALL)
def test_same_seed_same_episode(knowledge: Knowledge) -> None:
    assert _cost_s(knowledge, 1, 5) == _cost_s(knowledge, 1, 5)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("knowledge", ALL)
def test_placements_are_those_of_a_scheme(knowledge: Knowledge) -> None:
    world = SMALL.world(2)
    played = rollout(world, informed_entry(world, knowledge), np.random.default_rng(0))  # checks capacities

    assert played.mean_cost_s == pytest.approx(_cost_s(knowledge, 2))


@pytest.mark.parametrize("told", [ToldProcess, ToldDemand, ToldState])
def test_forecasts_sum_to_the_chance_of_asking(told: type[ToldProcess]) -> None:
    world, rng = SMALL.world(3), np.random.default_rng(0)
    hidden = () if told is ToldProcess else (world.hidden,)
    forecaster = told(SMALL, model_from(), rng, *hidden)
    for slot in range(4):
        chance = forecaster.chance(History(world, slot, ServiceRules()), slot)

        assert chance.sum(axis=-1) == pytest.approx(SMALL.config.requests.request_prob)
        for user, last in enumerate(world.hidden[slot].demand.last[:, 0]):
            assert last < 0 or chance[0, user, last] == 0  # nobody repeats


def test_true_motion_is_sampled_around_where_users_will_be() -> None:
    world, rng = SMALL.world(4), np.random.default_rng(0)
    told = ToldState(SMALL, model_from(), rng, world.hidden)
    draws = place_draws(rng, 400, SMALL.config.num_users)
    for slot in range(3):
        told.chance(History(world, slot, ServiceRules()), slot)
    places, true = told.places(draws), world.trace.user_xy[2]

    assert (places == told.places(draws)).all()
    assert ((places >= 0) & (places <= SMALL.config.area_m)).all()
    nearest_m = np.linalg.norm(places - true, axis=-1).min(axis=0)
    assert (nearest_m < 25).all()  # of 400 samples one is always close


def test_what_an_oracle_cannot_know_is_refused() -> None:
    world = SMALL.world(0)
    replayed = SMALL.world_of(world.trace)
    drifting = replace(SMALL.config, requests=replace(SMALL.config.requests, drift_prob=0.1))

    assert informed_entry(replayed, "process").random
    with pytest.raises(PolicyError, match="hidden state"):
        informed_entry(replayed, "state")
    with pytest.raises(PolicyError, match="drift_prob"):
        informed_entry(Scenario(drifting, CATALOG).world(0), "demand")
    with pytest.raises(ValueError, match="knowledge"):
        informed_entry(world, "everything")  # type: ignore[arg-type]


def test_the_command_goes_on_and_sums_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "shifted_scenarios", lambda: {"dear updates": SMALL})
    report.scenario_of.cache_clear()
    out, play = tmp_path / "gap.json", gap.play_item
    size = ["--worlds", "2", "--futures", "2", "--workers", "1", "--out", str(out)]

    def interrupted(item: gap.Item) -> object:
        if item.world % 2:
            raise KeyboardInterrupt
        return play(item)

    monkeypatch.setattr(gap, "play_item", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gap.main(size)
    assert len(json.loads(out.read_text())["worlds"]) == 1
    monkeypatch.setattr(gap, "play_item", play)
    assert gap.main(size) == 0
    report.scenario_of.cache_clear()
    made = json.loads(out.read_text())

    rows = made["scenarios"]["dear updates"]
    assert set(rows) == {"ewma", "augur", "bound", *ALL}
    assert not made["worlds"]
    assert rows["bound"]["below_ewma"]["worlds"] == 2
    assert rows["state"]["cost_s"] == pytest.approx(np.mean(rows["state"]["slots_s"]), abs=1e-4)
    gain = rows["demand"]["gain_in_first_slots"]
    assert gain["all_s"] == pytest.approx(8 * (rows["augur"]["cost_s"] - rows["demand"]["cost_s"]))
    assert "| process |" in out.with_suffix(".md").read_text()
