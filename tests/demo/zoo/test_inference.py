"""Inference repeats bit for bit on a tiny random BERT, tells copies from changes, and reads well."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from demo.zoo import ZooModel
from demo.zoo.answer import Inference
from demo.zoo.inference import infer, pools_first_token
from demo.zoo.measure import nearest_centroid
from demo.zoo.train import seeded

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]
TEXTS = ("one two", "three", "two two one")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
    )
    with seeded(0):
        BertForSequenceClassification(config).save_pretrained(out)
    BertTokenizer(vocab={word: at for at, word in enumerate(WORDS)}).save_pretrained(out)
    return out


def as_model(folder: Path, task: str) -> ZooModel:
    return ZooModel(
        name="zoo/tiny",
        folder=folder,
        base=None,
        kind="pretrained",
        task=task,
        raw_bytes=0,
        license="MIT",
        origin="random",
        labels=("no", "yes"),
        sample_inputs=TEXTS,
    )


@pytest.mark.parametrize(
    ("task", "width", "says"), [("classification", 2, "%"), ("embedding", 16, "cosine(")]
)
def test_two_copies_answer_the_same_bits(folder: Path, task: str, width: int, says: str) -> None:
    model = as_model(folder, task)

    first, again = infer(folder, model), infer(folder, model)

    (values,) = first.arrays.values()
    assert values.shape == (3, width)
    assert first.equals(again)
    assert first.line == again.line
    assert says in first.line


def test_one_changed_weight_is_told_apart(folder: Path) -> None:
    model = as_model(folder, "classification")
    net = BertForSequenceClassification.from_pretrained(folder).eval()
    same = infer(net, model)
    with torch.no_grad():
        net.classifier.bias[0] = 1e-6

    assert infer(folder, model).equals(same)
    assert not infer(net, model).equals(same)


def test_equality_is_of_bytes_dtypes_and_shapes() -> None:
    zero = Inference({"x": np.zeros(2, np.float32)}, "")
    others = [np.zeros(2, np.float64), np.zeros((1, 2), np.float32), np.array([0.0, -0.0], np.float32)]

    assert zero.equals(Inference({"x": np.zeros(2, np.float32)}, "other words"))
    assert not any(zero.equals(Inference({"x": other}, "")) for other in others)
    assert not zero.equals(Inference({"y": np.zeros(2, np.float32)}, ""))


def test_no_input_and_an_adapter_without_its_base_are_one_clear_line(folder: Path) -> None:
    model = as_model(folder, "classification")
    with pytest.raises(ValueError, match="at least one input"):
        infer(folder, model, [])
    adapter = ZooModel.from_json({**model.as_json(), "kind": "adapter", "base": "zoo/base"})
    with pytest.raises(ValueError, match="folder of zoo/base"):
        infer(folder, adapter)


def test_pooling_follows_the_folder(tmp_path: Path) -> None:
    assert not pools_first_token(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert pools_first_token(tmp_path)


def test_a_point_belongs_to_the_class_whose_mean_it_is_nearest_to() -> None:
    train = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0]]), dim=-1)

    got = nearest_centroid(train, torch.tensor([0, 0, 1]), torch.tensor([[0.9, 0.2], [0.1, 0.9]]), 2)

    assert got.tolist() == [0, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_number_of_threads_changes_nothing(folder: Path, threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = infer(folder, as_model(folder, "classification"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

    assert got.equals(infer(folder, as_model(folder, "classification")))
