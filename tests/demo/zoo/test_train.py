"""Laws of the training on a tiny random BERT: it repeats, it resumes, it touches only what it should."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from demo.zoo.smollm import language_loss
from demo.zoo.train import (
    Features,
    batches,
    freeze_bottom,
    frozen_features,
    learning_rate_at,
    seeded,
    tail_logits,
    train_tail,
)
from demo.zoo.train_settings import TrainSettings

ROWS = [(" ".join(["word"] * length), length % 2) for length in (3, 9, 4, 8, 5, 7, 6, 2, 11, 10)]
FROZEN = 2
SETTINGS = TrainSettings(seed=5, epochs=3, batch_rows=4, learning_rate=1e-2)


def tiny_model() -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=2,
    )
    with seeded(0):
        return BertForSequenceClassification(config).eval()


def tokenizer(text: str, truncation: bool, max_length: int) -> dict[str, list[int]]:
    """Ids that depend on the number of words."""
    words = text.split()[:max_length]
    return {"input_ids": [(7 * at + len(words)) % 50 for at in range(len(words))]}


def features(model: BertForSequenceClassification) -> Features:
    return frozen_features(model, tokenizer, ROWS, frozen_layers=FROZEN, max_tokens=64)


def trained(
    settings: TrainSettings = SETTINGS, state: Path | None = None, stop_at: int | None = None
) -> dict[str, Tensor]:
    model = tiny_model()
    freeze_bottom(model, FROZEN)

    def stop(step: int, steps: int) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    train_tail(model, features(model), settings, frozen_layers=FROZEN, state_path=state, progress=stop)
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_same_seed_gives_the_same_bits_whatever_torch_drew_before() -> None:
    first = trained()
    torch.rand(17)

    assert equal(first, trained())


def test_another_seed_gives_other_bits() -> None:
    assert not equal(trained(), trained(TrainSettings(seed=6, epochs=3, batch_rows=4, learning_rate=1e-2)))


def test_training_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trained()

    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("stop_at", [1, 4, 8])
def test_an_interrupted_training_resumes_to_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    state = tmp_path / "deep" / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(state=state, stop_at=stop_at)
    assert state.exists() == (stop_at > 3)

    assert equal(trained(state=state), trained())


def test_a_state_of_another_model_is_not_resumed(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    torch.save({"weights": {"other": torch.zeros(1)}, "optimizer": {}, "epochs": 3}, state)

    assert equal(trained(state=state), trained())


def test_frozen_parts_keep_their_bits_and_the_rest_moves() -> None:
    before, after = tiny_model().state_dict(), trained()
    frozen = ("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1.")

    moved = {name for name in before if not torch.equal(before[name], after[name])}

    assert not [name for name in moved if name.startswith(frozen)]
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= moved


def test_cached_features_give_the_whole_models_logits() -> None:
    model = tiny_model()
    cached = features(model)
    hidden, mask, labels = cached.batch(range(len(ROWS)))

    with torch.no_grad():
        got = tail_logits(model, hidden, mask, frozen_layers=FROZEN)
        ids = [torch.tensor(tokenizer(text, True, 64)["input_ids"]) for text, _ in ROWS]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        expected = model(input_ids=padded, attention_mask=mask.long()).logits

    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert labels.tolist() == [label for _, label in ROWS]


def test_a_separable_task_is_learnt() -> None:
    model = tiny_model()
    freeze_bottom(model, FROZEN)
    known = features(model)

    train_tail(
        model, known, TrainSettings(seed=1, epochs=60, batch_rows=5, learning_rate=5e-3), frozen_layers=FROZEN
    )

    with torch.no_grad():
        hidden, mask, labels = known.batch(range(len(ROWS)))
        guess = tail_logits(model, hidden, mask, frozen_layers=FROZEN).argmax(-1)
    assert (guess == labels).double().mean() >= 0.9


@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=100),
    size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_row_is_in_one_batch_of_an_epoch(lengths: list[int], size: int, seed: int) -> None:
    made = batches(lengths, size, torch.Generator().manual_seed(seed))

    assert sorted(row for batch in made for row in batch) == list(range(len(lengths)))
    assert max(map(len, made)) <= size
    assert len(made) == len(batches(lengths, size, torch.Generator().manual_seed(seed + 1)))


@given(steps=st.integers(1, 500))
def test_the_rate_rises_to_its_peak_and_falls_towards_zero(steps: int) -> None:
    rates = [learning_rate_at(step, steps, SETTINGS) for step in range(steps)]

    peak = rates.index(max(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert 0 < min(rates) <= max(rates) <= SETTINGS.learning_rate


def test_the_loss_of_a_language_model_counts_no_padding() -> None:
    seen = {}

    def model(**given: Tensor) -> SimpleNamespace:
        seen.update(given)
        return SimpleNamespace(loss=torch.tensor(0.0))

    language_loss(model, [torch.tensor([5, 6, 7]), torch.tensor([8])])

    assert seen["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert seen["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert seen["labels"].tolist() == [[5, 6, 7], [8, -100, -100]]


def test_bad_settings_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        TrainSettings(seed=1, epochs=0)
