"""The main job on tiny random models: everything real but the size of the weights."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

import demo.jobs.run
from demo.cli import main
from demo.jobs.config import RunConfig, replayable, scheme_names
from demo.jobs.report import RunReport
from demo.jobs.run import run_end_to_end
from demo.zoo import ZooModel
from demo.zoo.train import seeded

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]

RANDOM = np.random.default_rng(0).bytes(8 << 20)
"""Enough that the store's fixed overhead is well under one percent."""


def bert() -> BertForSequenceClassification:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with seeded(0):
        return BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), num_labels=2, **sizes))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> list[ZooModel]:
    """A base, a child with another head, and an adapter."""
    root = tmp_path_factory.mktemp("zoo")
    child = bert()
    with torch.no_grad():
        child.classifier.weight += 0.25
    with seeded(1):
        adapter = get_peft_model(bert(), LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    nets = {"zoo/base": bert(), "zoo/child": child, "zoo/adapter": adapter}
    models = []
    for name, net in nets.items():
        folder = root / name
        net.save_pretrained(folder)
        (folder / "notes.bin").write_bytes(bytes(range(256)) * 4096 if name == "zoo/child" else RANDOM)
        BertTokenizer(vocab={word: at for at, word in enumerate(WORDS)}).save_pretrained(folder)
        models.append(
            ZooModel(
                name=name,
                folder=folder,
                base=None if name == "zoo/base" else "zoo/base",
                kind="adapter" if name == "zoo/adapter" else "pretrained",
                task="classification",
                raw_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
                license="MIT",
                origin="random",
                labels=("no", "yes"),
                sample_inputs=("one two", "three"),
            )
        )
    return models


@pytest.fixture(scope="module", autouse=True)
def tiny_zoo(zoo: list[ZooModel]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo.jobs.run, "build_zoo", lambda size, progress: zoo)
        yield


CONFIG = RunConfig(num_slots=2, emulated_slots=2)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def report(out: Path) -> RunReport:
    return run_end_to_end(CONFIG, out, progress=False)


def test_every_delivery_is_the_original(report: RunReport, out: Path) -> None:
    assert len(report.deliveries) > 5
    assert {row.model for row in report.deliveries} == {"zoo/base", "zoo/child", "zoo/adapter"}
    for row in report.deliveries:
        assert row.sha256_ok
        assert row.inference_equal
        assert 0 < row.delay_s < 60
        assert row.bytes_sent > 0
        assert "%" in row.sample_output
    assert set(report.schemes) == set(scheme_names())
    assert RunReport.read(out) == report


def test_reported_disk_bytes_are_what_the_disk_says(report: RunReport, out: Path) -> None:
    occupied = sum(path.stat().st_blocks * 512 for path in (out / "cloud").rglob("*") if path.is_file())

    assert report.catalog.disk_bytes == pytest.approx(occupied, rel=0.01)
    assert report.catalog.block_dedup_bytes < 0.7 * report.catalog.raw_bytes


def test_an_adapter_is_delivered_with_its_base(report: RunReport) -> None:
    sent = {row.model: row.bytes_sent for row in report.deliveries}

    assert sent["zoo/adapter"] > sent["zoo/base"]


def test_the_same_seed_gives_the_same_run(report: RunReport, tmp_path: Path) -> None:
    again = run_end_to_end(CONFIG, tmp_path, keep_stores=True, progress=False)
    assert (tmp_path / "network" / "device0" / "store" / "STORE.json").exists()
    other = run_end_to_end(replace(CONFIG, seed=1, num_slots=1, emulated_slots=1), tmp_path, progress=False)

    assert not (tmp_path / "network").exists()
    assert again.schemes == report.schemes
    assert again.deliveries == report.deliveries
    assert other.deliveries[0] not in report.deliveries


def test_a_second_run_reads_what_the_first_found(
    report: RunReport, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a finished scheme was simulated again")

    monkeypatch.setattr("demo.jobs.simulate.summarise", never)

    assert run_end_to_end(CONFIG, out, progress=False).schemes == report.schemes


def test_a_changed_answer_is_reported_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("demo.zoo.inference.Inference.equals", lambda self, other: False)

    code = main(["run", "--out", str(tmp_path), "--slots", "1", "--emulated-slots", "1", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 3
    assert not any(row["inference_equal"] for row in found["deliveries"])
    assert all(row["sha256_ok"] for row in found["deliveries"])


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "notes.txt").write_text("mine")

    with pytest.raises(ValueError, match="was not made by a run"):
        run_end_to_end(CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match="is a file"):
        run_end_to_end(CONFIG, tmp_path / "network" / "notes.txt", progress=False)

    assert (tmp_path / "network" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("name", replayable())
def test_every_scheme_but_the_coarse_ones_can_be_replayed(name: str, tmp_path: Path) -> None:
    config = replace(CONFIG, num_slots=2, emulated_slots=2, emulated_scheme=name, device_models=1.5)

    found = run_end_to_end(config, tmp_path, progress=False)

    assert all(row.sha256_ok and row.inference_equal for row in found.deliveries)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--size", "huge"], 2),
        (["--slots", "0"], 2),
        (["--scheme", "nobody"], 1),
        (["--scheme", "whole-model"], 1),
        (["--capacity-models", "inf"], 1),
        (["--capacity-models", "0.01", "--slots", "1"], 0),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--out", str(tmp_path), *arguments]) == code
    if code == 1:
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
