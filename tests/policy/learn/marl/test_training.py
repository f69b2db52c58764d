import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.learn.checkpoint import load_checkpoint
from policy.learn.marl.actor_scheme import load_actor
from policy.learn.marl.base import MarlConfig, play
from policy.learn.marl.maasn_da import MaasnConfig
from policy.learn.marl.setups import LEARNERS, Setup
from policy.learn.marl.training import CurvePoint, MarlTrainConfig, MarlTrainer

SCENARIO = {
    "base": "findings",
    "num_users": 4,
    "num_slots": 4,
    "num_nodes": 2,
}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("scenario") / "tiny.json"
    path.write_text(json.dumps(SCENARIO))
    return str(path)


def _config(name: str, scenario: str) -> MarlTrainConfig:
    own = MaasnConfig(temperature=0.5, units=4) if name == "maasn-da" else None
    config = MarlConfig(worlds=4, batch=4, learning_rate=1e-2, noise=0.3, memory=48, discount=0.5)
    setup = Setup(scheme=name, config=config, own=own)
    return MarlTrainConfig(
        setup=setup, episodes=6, worlds=6, validation_worlds=3, check_every=2, scenario=scenario
    )


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", LEARNERS)
def test_same_seed_same_weights_even_when_interrupted(name: str, scenario: str, tmp_path: Path) -> None:
    config = _config(name, scenario)
    whole = MarlTrainer(config)
    whole.run(tmp_path / "whole")

    def stop(point: CurvePoint) -> None:
        if point.episode == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MarlTrainer(config).run(tmp_path / "cut", stop)
    again = MarlTrainer(config)
    again.resume(tmp_path / "cut" / "last.safetensors")
    again.run(tmp_path / "cut")

    assert [point.cost_s for point in again.history] == [point.cost_s for point in whole.history]
    one, two = whole.learner.state(), again.learner.state()
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


def test_told_nodes_are_trained_and_judged_on_what_they_are_told(scenario: str) -> None:
    config = _config("maasn-da", scenario)
    own = MaasnConfig(temperature=0.5, units=4, told=True)
    trainer = MarlTrainer(replace(config, setup=replace(config.setup, own=own), episodes=2))
    trainer.run()

    assert len(trainer.history) == 2
    assert np.isfinite(trainer.history[-1].cost_s)


def test_it_ends_with_the_best_actor_and_a_story(scenario: str, tmp_path: Path) -> None:
    trainer = MarlTrainer(_config("vdn", scenario))
    trainer.run(tmp_path)
    about = load_checkpoint(tmp_path / "best.safetensors").about

    costs = [point.cost_s for point in trainer.history[1:]]
    assert play(trainer._judge, trainer.learner.actor) == pytest.approx(min(costs))
    assert about["trace_hash"] == trainer.digest
    assert about["seed"] == 0
    assert "torch" in about["versions"]
    assert (tmp_path / "log.csv").read_text().count("\n") == 2 + len(costs)
    actor = load_actor("vdn", tmp_path / "best.safetensors")
    for one, two in zip(actor.parameters(), trainer.learner.actor.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_it_stops_early(scenario: str) -> None:
    config = replace(_config("vdn", scenario), patience=1, episodes=50, check_every=1)
    trainer = MarlTrainer(config)
    trainer.run()

    costs = [point.cost_s for point in trainer.history[1:]]
    assert len(costs) < 50
    assert costs[-1] >= min(costs[:-1])


def test_resuming_another_config_is_refused(scenario: str, tmp_path: Path) -> None:
    config = _config("vdn", scenario)
    MarlTrainer(replace(config, episodes=1, seed=config.seed + 1)).run(tmp_path)
    with pytest.raises(ValueError, match="was made with other"):
        MarlTrainer(config).resume(tmp_path / "last.safetensors")


@pytest.mark.parametrize("field", ["episodes", "worlds", "check_every", "patience"])
def test_bad_settings_are_refused(field: str) -> None:
    setup = Setup(scheme="vdn", config=MarlConfig())
    with pytest.raises(ValueError, match=field):
        MarlTrainConfig(setup=setup, **{field: 0})
