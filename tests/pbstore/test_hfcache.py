"""Laws of taking a Hugging Face cache in: bad items are named and the others go on; a dry run is the run."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.cli import main
from pbstore import open_store
from pbstore.disk.files.lock import exclusive
from pbstore.disk.trial import PREFIX, trial
from pbstore.hfcache import default_cache, import_cache, look_into
from tests.pbstore.folders import base_tensors, folder_content, safetensors_bytes, tuned

Files = dict[str, bytes]


def snapshot(hub: Path, model: str, revision: str, files: Files, main: str | None = "") -> Path:
    """A revision as huggingface_hub keeps it: links to blobs, weights under their SHA-256."""
    repo = hub / f"models--{model.replace('/', '--')}"
    folder = repo / "snapshots" / revision
    for name, data in files.items():
        large = name.endswith((".safetensors", ".bin"))
        blob = repo / "blobs" / (hashlib.sha256 if large else hashlib.sha1)(data).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(os.path.relpath(blob, (folder / name).parent))
    if main is not None:
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / "main").write_text(main or revision)
    return folder


def files_of(tensors: dict[str, np.ndarray], **more: bytes) -> Files:
    named = {name.replace("__", "."): data for name, data in more.items()}
    return {"model.safetensors": safetensors_bytes(tensors), "config.json": b"{}", **named}


def blob_of(path: Path) -> Path:
    return path.resolve()


GOOD = ["org/base", "org/child", "org/copy", "org/copy", "org/moved", "org/tail"]


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Models that share, and one of everything that can be wrong between them."""
    hub = tmp_path / "hub"
    base = base_tensors()
    snapshot(hub, "org/base", "main", files_of(base))
    snapshot(hub, "org/child", "main", files_of(tuned(base, ("layer.weight",)), sub=b"x"))
    snapshot(hub, "org/copy", "main", files_of(base, other__txt=b"2"))
    snapshot(hub, "org/copy", "old", files_of(base), main=None)
    snapshot(hub, "org/tail", "main", files_of(base_tensors(seed=9)))
    blob_of(snapshot(hub, "org/dangling", "main", files_of(base, gone__txt=b"gone")) / "gone.txt").unlink()
    os.truncate(blob_of(snapshot(hub, "org/cut", "main", files_of(base)) / "model.safetensors"), 5000)
    pickled = snapshot(hub, "org/pickle", "main", {"pytorch_model.bin": b"0" * 90_000}) / "pytorch_model.bin"
    os.truncate(blob_of(pickled), 80_000)
    snapshot(hub, "org/moved", "here", files_of(base_tensors(seed=3)), main="elsewhere")
    snapshot(hub, "org/a b", "main", files_of(base))
    os.mkfifo(snapshot(hub, "org/pipe", "main", files_of(base)) / "pipe")
    (hub / "models--org--file").write_bytes(b"no folder")
    (hub / "models--org--empty" / "snapshots" / "main").mkdir(parents=True)
    (hub / "datasets--org--data").mkdir()
    return hub


BAD = {
    "org/dangling": "gone.txt",
    "org/cut": "model.safetensors",
    "org/pickle": "pytorch_model.bin",
    "org/moved": "refs/main",
    "models--org--a b": "models--org--a b",
    "org/pipe": "pipe",
    "models--org--file": "expected a folder",
}


def du(store: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], list[str]]:
    capsys.readouterr()
    code = main(["store", "import-hf-cache", *map(str, words), "--json"])
    got = capsys.readouterr()
    return code, json.loads(got.out), got.err.splitlines()


def test_bad_items_are_named_and_the_others_go_on(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBCAST_STORE", str(tmp_path / "store"))
    code, report, lines = run(capsys, hub)

    assert code == 1
    assert [item["name"] for item in report["models"]] == GOOD
    assert {item["model"] for item in report["failed"]} == set(BAD)
    for item in report["failed"]:
        assert BAD[item["model"]] in f"{item['path']} {item['error']}"
    assert len(lines) == len(BAD)
    with open_store(tmp_path / "store") as store:
        assert store.models() == tuple(dict.fromkeys(GOOD))
        assert [item.tags for item in store.history.log("org/copy")] == [(), ("old",)]
        assert store.verify().ok
        assert store.savings().orphan_bytes == 0
        store.checkout("org/child", tmp_path / "out")
    wanted = hub / "models--org--child" / "snapshots" / "main"
    assert folder_content(tmp_path / "out") == {
        str(path.relative_to(wanted)): path.read_bytes() for path in wanted.rglob("*") if path.is_file()
    }


@pytest.mark.sampled(3)
@pytest.mark.parametrize("start", ["no store", "a store", "all there"])
def test_a_dry_run_is_the_run(
    hub: Path,
    tmp_path: Path,
    start: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pbstore.disk.add.adding.COMMIT_BYTES", 50_000)  # some is committed and taken back
    path = tmp_path / "new" / "store"
    monkeypatch.setenv("PBCAST_STORE", str(path))
    if start == "a store":
        with open_store(path) as store:
            store.add(hub / "models--org--base" / "snapshots" / "main", "my/base")
        with (path / "packs" / "00000001.pack").open("ab") as file:
            file.write(os.urandom(300_000))  # what a killed add leaves
    elif start == "all there":
        run(capsys, hub)
    before = {name: data for name, data in folder_content(path).items() if "index" not in name}
    tried = run(capsys, hub, "--dry-run")
    assert {name: data for name, data in folder_content(path).items() if "index" not in name} == before
    assert not list(tmp_path.rglob(f"{PREFIX}*"))
    done = run(capsys, hub)

    assert tried[1].pop("dry_run")
    assert not done[1].pop("dry_run")
    assert (tried[0], tried[2]) == (done[0], done[2])
    tried_bytes, done_bytes = (one[1]["savings"].pop("disk_bytes") for one in (tried, done))
    assert tried[1] == done[1]
    assert done_bytes == du(path)
    # ext4 spends a block on the list of a file's parts where there are many: of the pack's and the index's
    assert abs(tried_bytes - done_bytes) <= 2 * 4096
    assert start == "a store" or {item["already_there"] for item in done[1]["models"]} == {
        start == "all there"
    }


def test_main_that_moves_on_is_a_revision(hub: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", durable=False) as store:
        import_cache(store, look_into(hub))
        snapshot(hub, "org/base", "next", files_of(base_tensors(seed=5)))
        report = import_cache(store, look_into(hub))
        assert not [item for item in report.failed if item.model == "org/base"]
        now, before = store.history.log("org/base")
        assert (now.is_current, before.is_current) == (True, False)
        assert store.manifest("org/base") != store.manifest("org/base@~1")


def test_damaged_items_are_kept_if_that_is_wanted(hub: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", durable=False) as store:
        report = import_cache(store, look_into(hub), keep_damaged=True)

        assert {item.model for item in report.failed} == set(BAD) - {"org/cut", "org/pickle"}
        kept = {item.name: item.damaged for item in report.models if item.damaged}
        assert kept == {"org/cut": ("model.safetensors",), "org/pickle": ("pytorch_model.bin",)}
        assert store.verify().ok


def test_a_store_that_cannot_be_written_to_ends_all_in_a_full_report(hub: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", lock_wait_s=0) as store, exclusive(store.disk.layout.lock, 0):
        report = import_cache(store, look_into(hub))
    assert report.models == ()
    assert {item.model for item in report.failed} == {*BAD, *GOOD}


def test_a_cache_that_is_not_there_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PBCAST_STORE", str(tmp_path / "store"))
    assert main(["store", "import-hf-cache", str(tmp_path / "nowhere")]) == 1
    assert "no Hugging Face cache" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_folder_that_is_no_store_is_none_in_a_dry_run_either(
    hub: Path, tmp_path: Path, dry: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("mine")
    assert main(["store", "import-hf-cache", str(hub), "--store", str(tmp_path / "thesis"), *dry]) == 1
    assert "not a block store" in capsys.readouterr().err
    assert folder_content(tmp_path / "thesis") == {"thesis.txt": b"mine"}


def test_what_a_killed_dry_run_left_goes_with_the_next_one(hub: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        import_cache(store, look_into(hub))
    (tmp_path / f"{PREFIX}dead").mkdir()
    (tmp_path / f"{PREFIX}dead" / "large").write_bytes(b"1")
    with trial(path) as one, trial(path) as two:  # one that runs is left alone
        assert not (tmp_path / f"{PREFIX}dead").exists()
        assert one.models() == two.models() == tuple(dict.fromkeys(GOOD))
        assert asdict(one.savings()) == asdict(two.savings())


CASES: list[dict[str, str]] = [
    {},
    {"HF_HOME": "~/hf"},
    {"HF_HOME": "$PLACE/hf"},
    {"HF_HOME": "${PLACE}/~"},
    {"HF_HOME": "relative"},
    {"HF_HOME": ""},
    {"HF_HUB_CACHE": "~/hub", "HF_HOME": "/other"},
    {"HF_HUB_CACHE": "$PLACE/hub/"},
    {"HF_HUB_CACHE": "$UNKNOWN/hub"},
    {"HF_HUB_CACHE": "~nobodyknows/hub"},
    {"HUGGINGFACE_HUB_CACHE": "~/old"},
    {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"},
    {"XDG_CACHE_HOME": "/xdg"},
    {"XDG_CACHE_HOME": "~/xdg"},
    {"XDG_CACHE_HOME": "$PLACE", "HF_HOME": "/home"},
]


def test_the_cache_is_where_huggingface_hub_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import json, os, sys\n"
        "from importlib import reload\n"
        "import huggingface_hub.constants as constants\n"
        "found = []\n"
        "plain = dict(os.environ)\n"
        "for case in json.load(sys.stdin):\n"
        "    os.environ.clear(); os.environ.update({**plain, **case})\n"
        "    found.append(reload(constants).HF_HUB_CACHE)\n"
        "print(json.dumps(found))\n"
    )
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("PLACE", "/placed")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=json.dumps(CASES), capture_output=True, text=True, check=True)
    for case, wanted in zip(CASES, json.loads(done.stdout), strict=True):
        with monkeypatch.context() as patch:
            for name, value in case.items():
                patch.setenv(name, value)
            assert default_cache() == Path(wanted), case
