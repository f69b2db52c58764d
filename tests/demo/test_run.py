"""The main job on tiny random models: everything real but the size of the weights."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

import demo.jobs.run
from demo.bridge.store_catalog import catalog_from_store
from demo.cli import main
from demo.jobs.config import RunConfig, replayable, row_names
from demo.jobs.report import RunReport, SchemeReport
from demo.jobs.run import run_end_to_end
from demo.jobs.simulate import simulate
from demo.zoo import ZooModel
from demo.zoo.train import seeded
from pbstore import open_store

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


def in_one_process(*arguments: Any, workers: int, **settings: Any) -> dict[str, SchemeReport]:  # noqa: ANN401
    return simulate(*arguments, workers=1, **settings)


@pytest.fixture(scope="module", autouse=True)
def tiny_zoo(zoo: list[ZooModel]) -> Iterator[None]:
    """The zoo, and one process: another one would have neither this zoo nor what a test patches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo.jobs.run, "simulate", in_one_process)
        patch.setattr(demo.jobs.run, "build_zoo", lambda size, progress: zoo)
        yield


CONFIG = RunConfig(num_slots=2, emulated_slots=2, worlds=1, capacity_models=1.1)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def report(out: Path) -> RunReport:
    return run_end_to_end(CONFIG, out, progress=False)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's first and last rows only."""
    monkeypatch.setattr("demo.jobs.run.row_names", lambda: ("whole-model", "learned", "learned+raw-form"))


def test_every_delivery_is_the_original(report: RunReport, out: Path) -> None:
    assert len(report.deliveries) > 5
    assert {row.model for row in report.deliveries} == {"zoo/base", "zoo/child", "zoo/adapter"}
    for row in report.deliveries:
        assert row.sha256_ok
        assert row.inference_equal
        assert 0 < row.delay_s < 60
        assert row.bytes_sent > 0
        assert "%" in row.sample_output
    assert set(report.schemes) == set(row_names())
    assert RunReport.read(out) == report


def test_reported_disk_bytes_are_what_the_disk_says(report: RunReport, out: Path) -> None:
    occupied = sum(path.stat().st_blocks * 512 for path in (out / "cloud").rglob("*") if path.is_file())

    assert report.catalog.disk_bytes == pytest.approx(occupied, rel=0.01)
    assert report.catalog.block_dedup_bytes < 0.7 * report.catalog.raw_bytes


def test_an_adapter_is_delivered_with_its_base(report: RunReport) -> None:
    sent = {row.model: row.bytes_sent for row in report.deliveries}

    assert sent["zoo/adapter"] > sent["zoo/base"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(
    report: RunReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.jobs.run.row_names", lambda: ("whole-model", "learned", "learned+raw-form"))
    again = run_end_to_end(CONFIG, tmp_path, keep_stores=True, progress=False)
    assert (tmp_path / "network" / "device0" / "store" / "STORE.json").exists()
    other = run_end_to_end(replace(CONFIG, seed=1, num_slots=1, emulated_slots=1), tmp_path, progress=False)

    assert not (tmp_path / "network").exists()
    assert again.schemes == {name: report.schemes[name] for name in again.schemes}
    assert again.deliveries == report.deliveries
    assert other.deliveries[0] not in report.deliveries


@pytest.mark.slow
def test_a_second_run_reads_what_the_first_found(
    report: RunReport, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a finished scheme was simulated again")

    monkeypatch.setattr("demo.jobs.simulate.summarise", never)

    assert run_end_to_end(CONFIG, out, progress=False).schemes == report.schemes


@pytest.mark.slow
@pytest.mark.usefixtures("few_rows")
def test_a_changed_answer_is_reported_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("demo.zoo.inference.Inference.equals", lambda self, other: False)

    code = main(["run", "--out", str(tmp_path), "--slots", "1", "--worlds", "1", "--json"])

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
def test_two_processes_find_the_same(report: RunReport, out: Path, tmp_path: Path) -> None:
    with open_store(out / "cloud") as cloud:
        offer = catalog_from_store(cloud, {"zoo/adapter": "zoo/base"})
        offer = catalog_from_store(cloud, {"zoo/adapter": "zoo/base"}, room_bytes=_room(report))
    rows = ("whole-model", "learned+raw-form")

    found = simulate(CONFIG, offer, rows, tmp_path, workers=2)

    assert found == {name: report.schemes[name] for name in rows}


def _room(report: RunReport) -> float:
    return float(min(report.settings["capacity_bytes"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", replayable())
def test_every_scheme_but_the_coarse_ones_can_be_replayed(name: str, tmp_path: Path) -> None:
    config = replace(CONFIG, num_slots=2, emulated_slots=2, emulated_scheme=name, device_models=1.5)

    found = run_end_to_end(config, tmp_path, progress=False)

    assert all(row.sha256_ok and row.inference_equal for row in found.deliveries)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--size", "huge"], 2),
        (["--slots", "0"], 2),
        (["--scheme", "nobody"], 1),
        (["--scheme", "whole-model"], 1),
        (["--capacity-models", "inf"], 1),
        (["--capacity-models", "0.01", "--slots", "1", "--worlds", "1"], 0),
        (["--capacity", "0.3", "--capacity-models", "1"], 1),
        (["--capacity", "much"], 1),
        (["--capacity", "0"], 1),
        (["--backhaul", "10", "--cloud", "20"], 1),
        (["--cloud", "-1"], 1),
        (["--bandwidth", "0"], 1),
        (["--nodes", "0"], 2),
        (["--csi-error", "1.5"], 1),
        (["--csi-design", "hopeful"], 2),
        (["--scenario", "nowhere"], 1),
        (["--store", "no/store"], 1),
        (["--trace", "no/trace.csv"], 1),
        (["--request-prob", "2"], 1),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--out", str(tmp_path), *arguments]) == code
    if code == 1:
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.usefixtures("few_rows")
def test_options_change_the_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nbase = "default"\nnum_users = 4\nnum_slots = 1\n')
    options = ["--nodes", "2", "--backhaul", "500", "--cloud", "50", "--bandwidth", "20", "--antennas", "2"]
    options += ["--capacity", "60%", "--csi-error", "0.1", "--csi-design", "nominal", "--worlds", "2"]

    code = main(
        ["run", "--out", str(tmp_path / "out"), "--scenario", str(tmp_path / "mine.toml"), *options, "--json"]
    )

    found = json.loads(capsys.readouterr().out)
    scenario, played = found["settings"]["scenario"], found["settings"]["run"]
    assert code == 0
    assert (scenario["num_nodes"], scenario["num_users"], scenario["num_slots"]) == (2, 4, 1)
    assert scenario["links"] == {"backhaul_bit_s": 500e6, "cloud_bit_s": 50e6}
    assert scenario["radio"]["bandwidth_hz"] == 20e6
    assert found["settings"]["capacity_share"] == pytest.approx(0.6)
    assert (played["antennas"], played["csi"]["size"], played["csi"]["design"]) == (2, 0.1, "nominal")
    assert len(found["schemes"]["learned"]["world_delays_s"]) == 2
    assert any(row["lost_ratio"] > 0 for row in found["schemes"].values())


@pytest.mark.slow
@pytest.mark.usefixtures("few_rows")
def test_requests_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{10 * slot + 1},{user},zoo/child" for slot in range(2) for user in range(12)]
    (tmp_path / "trace.csv").write_text("\n".join(["time_s,user,model", *rows]) + "\n")
    options = ["--trace", str(tmp_path / "trace.csv"), "--slots", "1", "--capacity-models", "1.1"]

    assert main(["run", "--out", str(tmp_path / "out"), *options, "--worlds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in found["deliveries"]} == {"zoo/child"}

    assert main(["run", "--out", str(tmp_path / "out"), *options, "--worlds", "3"]) == 1
    assert "which are 2 worlds of 1" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.usefixtures("few_rows")
def test_a_store_of_ones_own_needs_no_zoo(
    zoo: list[ZooModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a run on one's own models built the zoo")

    monkeypatch.setattr(demo.jobs.run, "build_zoo", never)
    opaque, lone = tmp_path / "opaque", tmp_path / "lone"
    opaque.mkdir()
    (opaque / "weights.bin").write_bytes(RANDOM[: 1 << 20])
    shutil.copytree(zoo[2].folder, lone)
    config = json.loads((lone / "adapter_config.json").read_text())
    (lone / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "me/gone"}))
    adapter = tmp_path / "adapter"
    shutil.copytree(zoo[2].folder, adapter)
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "me/base"}))
    folders = {"me/base": zoo[0].folder, "me/child": zoo[1].folder, "me/adapter": adapter}
    store = tmp_path / "store"
    for name, folder in {**folders, "me/opaque": opaque, "me/lone": lone}.items():
        assert main(["store", "add", str(folder), "--name", name, "--store", str(store)]) == 0
    capsys.readouterr()

    options = ["--store", str(store), "--slots", "2", "--worlds", "1", "--capacity", "0.5", "--json"]
    code = main(["run", "--out", str(tmp_path / "out"), "--emulated-slots", "2", *options])

    output = capsys.readouterr()
    found = json.loads(output.out)
    rows = {row["model"]: row for row in found["deliveries"]}
    assert code == 0
    assert set(rows) == {*folders, "me/opaque", "me/lone"}
    assert all(row["sha256_ok"] for row in found["deliveries"])
    assert all(rows[name]["inference_equal"] for name in folders)
    assert rows["me/opaque"]["inference_equal"] is None
    assert "no config.json" in rows["me/opaque"]["sample_output"]
    assert rows["me/lone"]["inference_equal"] is None
    assert "its base is not in the store" in rows["me/lone"]["sample_output"]
    assert rows["me/adapter"]["bytes_sent"] > rows["me/lone"]["bytes_sent"]


def test_an_empty_store_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(tmp_path / "store").close()

    assert main(["run", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]) == 1
    assert "holds no model" in capsys.readouterr().err


def test_the_help_is_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    for group in ("Models", "Network", "Requests", "Radio", "What is played", "Options"):
        assert group in text
