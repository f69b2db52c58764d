from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.evaluation.sources import code_version
from policy.learn.checkpoint import (
    OWN,
    SHIPPED,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    use_weights,
    weights_of,
)
from policy.learn.demand import DemandModel
from policy.learn.network import DemandNet
from policy.learn.request_statistics import LATER
from policy.learn.train import Progress, TrainConfig, Trainer, later_shares, loss_of
from policy.schemes.learned import model_from

TINY = TrainConfig(settings=4, worlds=3, validation_settings=2, validation_worlds=2, steps=30, check_every=10)


def _weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in trainer.net.state_dict().items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(TINY)
    trainer.run(folder)
    return trainer, folder


def test_training_beats_the_plain_mixture(trained: tuple[Trainer, Path]) -> None:
    trainer, _ = trained
    before = DemandNet()
    with torch.no_grad():
        start = np.mean([float(loss_of(before, example)) for example in trainer._checks])

    assert min(item.validation_loss for item in trainer.history) < start


def test_same_seed_same_weights_even_when_interrupted(trained: tuple[Trainer, Path], tmp_path: Path) -> None:
    trainer, _ = trained

    def stop_at_20(progress: Progress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    first = Trainer(TINY)
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path, stop_at_20)
    second = Trainer(TINY)
    second.resume(tmp_path / "last.safetensors")
    second.run(tmp_path)

    assert [replace(item, cpu_s=0) for item in second.history] == [
        replace(item, cpu_s=0) for item in trainer.history
    ]
    for name, value in _weights(trainer).items():
        np.testing.assert_array_equal(value, _weights(second)[name])


def test_resuming_another_config_is_refused(trained: tuple[Trainer, Path]) -> None:
    _, folder = trained
    other = Trainer(replace(TINY, seed=1))
    with pytest.raises(ValueError, match="was made with other"):
        other.resume(folder / "last.safetensors")


def test_a_checkpoint_tells_its_story(trained: tuple[Trainer, Path]) -> None:
    trainer, folder = trained
    made = load_checkpoint(folder / "best.safetensors")

    assert made.about["trace_hash"] == trainer.digest
    assert made.about["seed"] == 0
    assert "torch" in made.about["versions"]
    assert (folder / "log.csv").read_text().count("\n") == 1 + len(trainer.history)


def test_numpy_and_torch_agree(trained: tuple[Trainer, Path]) -> None:
    trainer, folder = trained
    example = trainer._checks[-1]
    model = DemandModel.from_tensors(load_checkpoint(folder / "best.safetensors").tensors)
    with torch.no_grad():
        log_chance, odds = trainer.net(example.base, example.pair, example.ask)
    expected = log_chance.exp() * torch.sigmoid(odds)[..., None]

    ours = model.chances(example.base.numpy(), example.pair.numpy(), example.ask.numpy())

    np.testing.assert_allclose(ours, expected.numpy(), rtol=2e-4, atol=1e-7)


def test_sooner_requests_weigh_more_in_what_comes_later() -> None:
    requests = np.array([[[0], [1], [-1], [1]]])  # one world, four slots, one user
    shares = later_shares(requests, 2)[:, 0, 0]

    assert shares.shape == (4, 2)
    np.testing.assert_allclose(shares[0], [0.0, (1 - LATER) * (1 + LATER**2)], rtol=1e-6)
    np.testing.assert_allclose(shares[1], [0.0, (1 - LATER) * LATER], rtol=1e-6)
    np.testing.assert_allclose(shares[2], [0.0, 1 - LATER], rtol=1e-6)
    np.testing.assert_allclose(shares[3], 0.0)


def test_what_comes_later_is_forecast_less_surely(trained: tuple[Trainer, Path]) -> None:
    example = trained[0]._checks[-1]
    model = DemandModel.from_tensors(load_checkpoint(trained[1] / "best.safetensors").tensors)
    chance = model.chances(example.base.numpy(), example.pair.numpy(), example.ask.numpy())

    assert chance.shape == (2, *example.requests.shape, example.pair.shape[2])
    assert (chance.sum(axis=-1) <= 1 + 1e-6).all()
    assert chance[1].max(axis=-1).mean() < chance[0].max(axis=-1).mean()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(path)
    save_checkpoint(path, {"a": np.ones(3, dtype=np.float32)}, {})
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("field", ["steps", "worlds", "patience", "learning_rate"])
def test_bad_settings_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        replace(TINY, **{field: 0})


def test_own_weights_are_played(trained: tuple[Trainer, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = trained
    shipped, version = model_from(), code_version("learned")
    monkeypatch.setenv(OWN, "")  # undone after the test
    use_weights([folder / "best.safetensors"])

    np.testing.assert_array_equal(
        model_from().weights[0][0], model_from(folder / "best.safetensors").weights[0][0]
    )
    assert (model_from().weights[0][0] != shipped.weights[0][0]).any()
    assert code_version("learned") != version
    assert weights_of("vdn") == SHIPPED / "vdn.safetensors"
    with pytest.raises(CheckpointError, match="no checkpoint"):
        use_weights([folder / "none.safetensors"])
