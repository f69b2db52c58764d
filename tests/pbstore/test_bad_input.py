"""Bad input to a real process: one clear line, a non-zero exit code, and a store that still verifies."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pbstore import Manifest, PBStoreError, open_store
from pbstore.errors import ManifestError
from tests.pbstore.folders import base_tensors, folder_content, safetensors_bytes, write_model

PBCAST = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())", "store"]


def pbcast(store: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PBCAST_STORE": str(store)}
    command = [*PBCAST, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def assert_one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert lines[0].startswith("pbcast: ")
    return lines[0]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with open_store(path) as opened:
        opened.add(write_model(tmp_path / "good", base_tensors()), "org/good")
    return path


def assert_intact(store: Path, tmp_path: Path) -> None:
    with open_store(store) as opened:
        assert opened.verify().ok
        assert opened.models() == ("org/good",)
        opened.checkout("org/good", tmp_path / "again")
    assert folder_content(tmp_path / "again") == folder_content(tmp_path / "good")


def test_missing_folder(store: Path, tmp_path: Path) -> None:
    line = assert_one_line(pbcast(store, "add", tmp_path / "nowhere", "--name", "a/b"), 1)

    assert "nowhere" in line
    assert_intact(store, tmp_path)


def bad_header(length: int, text: bytes = b"{}") -> bytes:
    return struct.pack("<Q", length) + text


def overlapping(shift: int) -> bytes:
    entries = {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [16 + shift, 32 + shift]},
    }
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(32 + shift)


BAD_FILES = {
    "truncated": safetensors_bytes(base_tensors())[:-1000],
    "truncated header": safetensors_bytes(base_tensors())[:50],
    "2^60 bytes of header": bad_header(1 << 60),
    "no length": b"\x01",
    "overlap": overlapping(-8),
    "gap": overlapping(8),
    "not JSON": bad_header(4, b"nope"),
}


def bad_folder(tmp_path: Path, data: bytes) -> Path:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.txt").write_text("a file that is fine")
    (folder / "model.safetensors").write_bytes(data)
    return folder


@pytest.mark.sampled(3)
@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_safetensors_file(store: Path, tmp_path: Path, data: bytes) -> None:
    with open_store(store) as opened, pytest.raises(PBStoreError, match=r"model\.safetensors"):
        opened.add(bad_folder(tmp_path, data), "a/b")
    assert_intact(store, tmp_path)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["truncated", "2^60 bytes of header"])
def test_bad_safetensors_file_is_one_line(store: Path, tmp_path: Path, kind: str) -> None:
    folder = bad_folder(tmp_path, BAD_FILES[kind])

    assert "model.safetensors" in assert_one_line(pbcast(store, "add", folder, "--name", "a/b"), 1)
    assert_intact(store, tmp_path)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "path", ["../evil", "a/../../evil", "/etc/evil", "a//b", ".", "a\\..\\b", "a\0b", ""]
)
def test_manifest_with_a_path_that_escapes(store: Path, tmp_path: Path, path: str) -> None:
    with open_store(store) as opened:
        text = opened.manifest("org/good").to_json()
    tree = json.loads(text)
    tree["files"][0]["path"] = path

    with pytest.raises(ManifestError, match="path"):
        Manifest.from_json(json.dumps(tree))


@pytest.mark.slow
def test_manifest_file_that_was_given_an_escaping_path(store: Path, tmp_path: Path) -> None:
    (file,) = (store / "manifests").glob("*.json")
    good = file.read_bytes()
    file.write_bytes(good.replace(b"config.json", b"../evil.txt"))

    assert_one_line(pbcast(store, "checkout", "org/good", tmp_path / "target" / "deep"), 3)
    assert_one_line(pbcast(store, "verify"), 3)
    assert not list(tmp_path.rglob("evil.txt"))

    file.write_bytes(good)
    assert_intact(store, tmp_path)


def test_flipped_block(store: Path, tmp_path: Path) -> None:
    (pack,) = (store / "packs").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)

    assert "corrupt" in assert_one_line(pbcast(store, "verify"), 3)
    assert_one_line(pbcast(store, "checkout", "org/good", tmp_path / "target"), 3)
    assert not (tmp_path / "target" / "model.safetensors").exists()

    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    assert_intact(store, tmp_path)


@pytest.mark.slow
def test_store_over_its_capacity(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "good", base_tensors())
    store = tmp_path / "store"
    with open_store(store, capacity_bytes=200_000) as opened:
        opened.add(folder, "org/good")
    big = write_model(tmp_path / "big", base_tensors(seed=7))

    line = assert_one_line(pbcast(store, "add", big, "--name", "a/b"), 1)

    assert "full" in line
    assert_intact(store, tmp_path)
    with open_store(store) as opened:
        assert opened.savings().orphan_bytes == 0


def test_folder_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    assert "not a block store" in assert_one_line(pbcast(tmp_path, "add", tmp_path, "--name", "a/b"), 1)
    assert folder_content(tmp_path) == {"thesis.txt": b"mine"}


def test_bad_model_name(store: Path, tmp_path: Path) -> None:
    for name in ("a//b", "", "a b", "x" * 300, "/a", "a/..", "a\n"):
        with pytest.raises(ManifestError), open_store(store) as opened:
            opened.add(tmp_path / "good", name)
    assert_one_line(pbcast(store, "add", tmp_path / "good", "--name", "../x"), 1)
    assert_intact(store, tmp_path)


HELD = """
import os, sys, time
from pathlib import Path
from demo.cli import main
from pbstore.folders import source

def hold(step):
    enough = Path(os.environ["PACK"]).stat().st_size >= int(os.environ["PACK_BYTES"])
    while enough and not Path(os.environ["GO"]).exists():
        time.sleep(0.01)

source.on_step(hold)
sys.exit(main())
"""
"""A command that, once a pack is so large, reads no file until it may go on; some are read in threads."""


@pytest.mark.slow
def test_interrupt_in_the_middle_of_add(store: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "large"
    for shard in range(8):
        array = rng.integers(0, 255, (40 << 20,), dtype=np.uint8)
        write_model(folder / str(shard), {"w": array})
    pack = store / "packs" / "00000001.pack"
    enough = pack.stat().st_size + (40 << 20)
    about = {
        "PBCAST_STORE": str(store),
        "PACK": str(pack),
        "PACK_BYTES": str(enough),
        "GO": str(tmp_path / "go"),
    }
    command = [sys.executable, "-c", HELD, "store", "add", str(folder), "--name", "org/large"]
    process = subprocess.Popen(command, env={**os.environ, **about}, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and pack.stat().st_size < enough:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=600)

    assert process.returncode == 130
    assert len(errors.strip().splitlines()) == 1
    assert_intact(store, tmp_path)


def test_a_folder_that_cannot_be_stored_is_one_line_and_makes_no_store(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", base_tensors(rows=8))
    os.mkfifo(folder / "adapter_config.json")  # whoever opens it waits for ever

    line = assert_one_line(pbcast(tmp_path / "new", "add", folder, "--name", "a/b"), 1)

    assert f"{folder}/adapter_config.json: expected a file or a folder, got a pipe" in line
    assert not (tmp_path / "new").exists()


def test_what_is_left_out_or_kept_damaged_is_said_once(tmp_path: Path) -> None:
    folder = bad_folder(tmp_path, BAD_FILES["truncated"])
    store = folder / "store"

    done = pbcast(store, "add", folder, "--name", "a/b", "--keep-damaged", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["skipped"], report["damaged"]) == (0, ["store"], ["model.safetensors"])
    assert len(done.stderr.strip().splitlines()) == 2
    assert "--force" in pbcast(store, "checkout", "--help").stdout
    assert_one_line(pbcast(store, "checkout", "a/b", folder, "--force"), 1)
