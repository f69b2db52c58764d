"""The content of a file tells what it is, not its name: equal bytes cost nothing under any name."""

import hashlib
import io
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from pbstore import DiskBlockStore, open_store
from pbstore.errors import CheckpointError
from pbstore.formats.split import split_stream

LETTERS = st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("C",))
ENDINGS = st.sampled_from(
    ["", ".bak", ".bin", ".pt", ".gguf", ".safetensors.old", ".json", ".incomplete", ".tmp", ".ckpt", ".1"]
)
NAMES = st.one_of(
    st.text(LETTERS, min_size=1, max_size=20).filter(
        lambda name: name.strip(".") and len(name.encode()) < 200
    ),
    st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest()),
)


@cache
def weights(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    return save({f"layer.{i}.weight": rng.normal(size=(40, 64)).astype(np.float32) for i in range(6)})


@cache
def archive() -> bytes:
    out = BytesIO()
    generator = torch.Generator().manual_seed(0)
    torch.save({str(i): torch.randn(40, 64, generator=generator) for i in range(6)}, out)
    return out.getvalue()


def spans(data: bytes, name: str) -> list[tuple[int, int]]:
    return [(piece.offset, piece.length) for piece in split_stream(BytesIO(data), len(data), name)]


@given(name=NAMES, ending=ENDINGS, data=st.sampled_from([weights, archive]))
def test_a_file_is_cut_by_its_content_whatever_its_name(
    name: str, ending: str, data: Callable[[], bytes]
) -> None:
    usual = {weights: "model.safetensors", archive: "pytorch_model.bin"}[data]

    assert spans(data(), name + ending) == spans(data(), usual)
    assert len(spans(data(), usual)) > 6


@settings(max_examples=10, deadline=None)
@given(names=st.lists(st.tuples(NAMES, ENDINGS), min_size=1, max_size=3))
def test_the_same_bytes_cost_nothing_under_any_name(names: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as root, open_store(Path(root, "store")) as store:
        for number, name in enumerate(["model.safetensors", *(name + ending for name, ending in names)]):
            folder = Path(root, str(number), "blobs")
            folder.mkdir(parents=True)
            (folder / name).write_bytes(weights())
            report = store.add(folder.parent, f"m{number}")

            assert report.new_blocks == (0 if number else 7)
            assert report.stored_bytes == 0 or not number


@given(cut=st.integers(10, len(weights()) - 1), more=st.binary(max_size=40))
def test_a_part_of_a_file_shares_its_tensors_with_the_whole(cut: int, more: bytes) -> None:
    whole = spans(weights(), "model.safetensors")
    data = weights()[:cut] + more

    pieces = spans(data, "model.safetensors.incomplete")

    assert sum(length for _, length in pieces) == len(data)
    there = [span for span in whole if sum(span) <= cut]
    assert not there or pieces[: len(there)] == there


def store_with_parts(store: DiskBlockStore, tmp_path: Path, name: str, data: bytes) -> float:
    """Share of a file that is new to a store that has the weights."""
    for folder, file, content in (("a", "model.safetensors", weights()), ("b", name, data)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(content)
    store.add(tmp_path / "a", "a")
    return store.add(tmp_path / "b", "b").new_bytes / len(data)


@given(
    name=st.sampled_from(["m.tar", "m.zip", "m.nemo"]),
    flips=st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), max_size=4),
    kind=st.sampled_from(["zip", "gnu", "pax"]),
    end=st.integers(0, 1 << 30),
)
def test_a_damaged_archive_is_cut_all_the_same(
    name: str, flips: list[tuple[int, int]], kind: str, end: int
) -> None:
    data = bytearray(zipped() if kind == "zip" else tarred(kind))
    for position, value in flips:
        data[position % 3000] = value
    del data[max(1, end % (2 * len(data))) :]

    pieces = split_stream(BytesIO(data), len(data), name)

    assert [p.offset for p in pieces] == np.cumsum([0] + [p.length for p in pieces])[:-1].tolist()
    assert sum(p.length for p in pieces) == len(data)


@cache
def tarred(kind: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format={"pax": tarfile.PAX_FORMAT}.get(kind, tarfile.GNU_FORMAT)
    ) as tar:
        for name, content in (("m/" + "x" * 120 + "/model.safetensors", weights()), ("m/config.json", b"{}")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@cache
def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/model.safetensors", weights())
        archive.writestr("m/config.json", "{}")
    return out.getvalue()


@pytest.mark.parametrize("pack", [zipped, lambda: tarred("gnu"), lambda: tarred("pax")])
def test_weights_inside_an_archive_share_their_tensors(
    pack: Callable[[], bytes], store: DiskBlockStore, tmp_path: Path
) -> None:
    assert store_with_parts(store, tmp_path, "model.nemo", pack()) < 0.2


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 268435456\n"
IMPOSTORS = {
    "git-lfs pointer": (POINTER, "a git-lfs pointer of a file of 268435456 bytes"),
    "web page": (b"<!DOCTYPE html>\n<html>" + b" " * 2000, "a web page"),
    "server error": (
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "an error of a server",
    ),
    "text": (b"Entry not found", "text: 'Entry not found'"),
    "json": (b'{"error": "gated"}', "text: "),
    "archive": (archive(), "a zip archive, as torch.save writes"),
    "gguf": (b"GGUF" + bytes(100), "a GGUF file"),
    "empty": (b"", "an empty file"),
    "zeros": (bytes(3000), "zeros only"),
    "gzip": (b"\x1f\x8b\x08" + bytes(range(90)), "compressed by gzip"),
}


@pytest.mark.parametrize("which", IMPOSTORS)
def test_what_is_called_safetensors_and_is_not_is_called_what_it_is(which: str) -> None:
    data, name = IMPOSTORS[which]

    with pytest.raises(
        CheckpointError, match=f"^model.safetensors: expected a safetensors file, got .*{name}"
    ) as e:
        split_stream(BytesIO(data), len(data), "model.safetensors")
    assert "\n" not in str(e.value)


@given(data=st.binary(max_size=700), name=NAMES)
def test_any_bytes_are_cut_or_refused(data: bytes, name: str) -> None:
    assert sum(length for _, length in spans(data, name + "_")) == len(data)
    with suppress(CheckpointError):
        spans(data, "x.safetensors")


@given(text=st.binary(max_size=200), data=st.binary(max_size=50), claim=st.integers(-2, 2))
def test_no_length_is_believed_in_a_lookalike(text: bytes, data: bytes, claim: int) -> None:
    file = struct.pack("<Q", max(0, len(text) + 1 + claim)) + b"{" + text + data

    assert sum(length for _, length in spans(file, "blob")) == len(file)
