"""Every parser meets damaged bytes: a named error or something right, and no memory for a mere claim."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbstore import Manifest, PBStoreError, StoredBlock, hash_block, open_store
from pbstore.coding import decode_block
from pbstore.disk.files import pack
from pbstore.errors import BlockCorruptError, CheckpointError, ManifestError, NotAStoreError, PackCorruptError
from pbstore.formats.safetensors_header import parse_header
from pbstore.manifest import FileEntry, Piece
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

FOUND = Path(__file__).parent.parent / "golden" / "fuzz"
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
sizes = st.integers(0, 1 << 40)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    files = []
    for number in range(draw(st.integers(0, 4))):
        pieces = [Piece(draw(ids), draw(st.integers(0, 1 << 30))) for _ in range(draw(st.integers(0, 3)))]
        total = sum(piece.raw_bytes for piece in pieces)
        path = f"d{draw(st.integers(0, 2))}/{number}é.bin"
        files.append(FileEntry(path=path, size_bytes=total, sha256=draw(ids), pieces=tuple(pieces)))
    meta = draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
    return Manifest(name="org/model", files=tuple(files), weights=draw(ids | st.just("")), meta=meta)


@quick
@given(manifest=manifests())
def test_manifests_survive_json(manifest: Manifest) -> None:
    text = manifest.to_json()

    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@quick
@given(manifest=manifests(), key=st.integers(0, 6), value=json_values)
def test_manifests_with_a_wrong_field(manifest: Manifest, key: int, value: object) -> None:
    tree = json.loads(manifest.to_json())
    tree[sorted(tree)[key % len(tree)]] = value
    check(lambda: Manifest.from_json(json.dumps(tree)), ManifestError)


@quick
@given(manifest=manifests(), data=st.data())
def test_manifests_with_flipped_bytes(manifest: Manifest, data: st.DataObject) -> None:
    check(lambda: Manifest.from_json(damaged(manifest.to_json().encode(), data)), ManifestError)


@quick
@given(data=st.binary(max_size=300) | json_values.map(json.dumps).map(str.encode))
def test_anything_as_a_safetensors_header(data: bytes) -> None:
    check(lambda: parse_header(data, 1000), CheckpointError)


@quick
@given(
    name=st.text(max_size=4),
    dtype=st.sampled_from(["F32", "F4", "U8", "X", ""]),
    shape=st.lists(st.integers(-2, 1 << 62), max_size=4),
    offsets=st.lists(st.integers(-5, 1 << 63), max_size=3),
)
def test_safetensors_headers_that_claim_too_much(
    name: str, dtype: str, shape: list[int], offsets: list[int]
) -> None:
    text = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    check(lambda: parse_header(text, 1000), CheckpointError)


def record_bytes(needs: int = 2, payload: bytes = b"payload") -> bytes:
    block = StoredBlock(
        block_id=hash_block(b"raw"),
        raw_bytes=3,
        codec="delta",
        payload=payload,
        needs=tuple(hash_block(bytes([n])) for n in range(needs)),
    )
    return pack.encode_header(pack.place(block, 0))


@quick
@given(data=st.data(), needs=st.integers(0, 5))
def test_record_headers_with_flipped_bytes(data: st.DataObject, needs: int) -> None:
    good = record_bytes(needs)
    bad = damaged(good, data)
    if bad[: len(good)] == good:
        assert pack.decode_header(bad, 0).raw_bytes == 3
        return
    with pytest.raises(PackCorruptError):
        pack.decode_header(bad, 0)


@quick
@given(data=st.binary(max_size=400))
def test_anything_as_a_record_header(data: bytes) -> None:
    check(lambda: pack.decode_header(data, 0), PackCorruptError)


@quick
@given(data=st.binary(max_size=2000))
def test_anything_as_a_pack(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "00000001.pack"
    head = pack.PACK_MAGIC.ljust(pack.PACK_HEADER_BYTES, b"\0")
    path.write_bytes(head + data + record_bytes())
    fd = os.open(path, os.O_RDONLY)
    try:
        check(lambda: list(pack.scan(fd, 1, path.stat().st_size)), PackCorruptError)
    finally:
        os.close(fd)


@quick
@given(
    payload=st.binary(max_size=200),
    codec=st.sampled_from(
        ["raw", "zstd", "planes", "delta", "cast", "rows", "lora", "derive1", "derive2", "?"]
    ),
    claim=st.sampled_from([0, 1, 4, 4096, 1 << 20, 1 << 29, 1 << 40, -1]),
    num_bases=st.integers(0, 3),
)
def test_anything_as_a_payload(payload: bytes, codec: str, claim: int, num_bases: int) -> None:
    stored = StoredBlock(block_id=hash_block(b"x"), raw_bytes=claim, codec=codec, payload=payload)
    with pytest.raises(BlockCorruptError):
        decode_block(stored, [bytes(4096)] * num_bases)


def test_a_bomb_is_not_unpacked() -> None:
    import tracemalloc

    import zstandard

    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(256 << 20))
    for codec in ("zstd", "planes", "delta"):
        stored = StoredBlock(block_id=hash_block(b"x"), raw_bytes=1000, codec=codec, payload=bomb)
        tracemalloc.start()
        with pytest.raises(BlockCorruptError):
            decode_block(stored, [bytes(1000)] if codec == "delta" else [])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20


def test_a_pack_that_claims_a_huge_block_takes_no_memory(tmp_path: Path) -> None:
    import tracemalloc

    with open_store(tmp_path / "store") as store:
        block_id = store.put(b"small")
    connection = sqlite3.connect(tmp_path / "store" / "index.sqlite")
    connection.execute("UPDATE blocks SET stored_bytes = 1 << 40, raw_bytes = 1 << 40")
    connection.commit()
    connection.close()
    with open_store(tmp_path / "store") as store:
        tracemalloc.start()
        with pytest.raises(PBStoreError):
            store.get(block_id)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()
        assert not store.verify().ok
        assert store.repair().left == ()
        assert bytes(store.get(block_id)) == b"small"


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    tensors = base_tensors(rows=20, width=16)
    with open_store(root / "store") as store:
        store.add(write_model(root / "base", tensors), "org/base")
        store.add(write_model(root / "child", tuned(tensors, ("layer.weight",))), "org/child")
    return root


@pytest.mark.parametrize("victim", ["index.sqlite", "packs/00000001.pack", "STORE.json", "manifests/*.json"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_store_never_gives_wrong_bytes(
    small_store: Path, tmp_path: Path, victim: str, data: st.DataObject
) -> None:
    path = tmp_path / "copy"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(small_store / "store", path)
    file = sorted(path.glob(victim))[0]
    file.write_bytes(damaged(file.read_bytes(), data))
    assert_right_or_named(path, small_store, tmp_path)


def assert_right_or_named(path: Path, root: Path, tmp_path: Path) -> None:
    """A store gives a model's true bytes, or an error that the command line turns into one line."""
    try:
        with open_store(path) as store:
            store.verify()
            for name in ("org/base", "org/child"):
                target = tmp_path / "out"
                shutil.rmtree(target, ignore_errors=True)
                store.checkout(name, target)
                assert folder_content(target) == folder_content(root / name.removeprefix("org/"))
    except (PBStoreError, NotAStoreError, ValueError, OSError):
        pass


PARSERS: dict[str, tuple[Callable[[bytes], object], type[Exception]]] = {
    "manifest": (Manifest.from_json, ManifestError),
    "header": (lambda data: parse_header(data, 1000), CheckpointError),
    "record": (lambda data: pack.decode_header(data, 0), PackCorruptError),
}


@pytest.mark.parametrize("path", sorted(FOUND.glob("*")), ids=lambda path: path.name)
def test_hostile_inputs_that_are_kept(path: Path) -> None:
    parse, error = PARSERS[path.name.split("-")[0]]
    with pytest.raises(error):
        parse(path.read_bytes())


def damaged(good: bytes, data: st.DataObject) -> bytes:
    """Bytes with some flipped, cut off, doubled or put in."""
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(bad) - 1)))
        action = data.draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
        if action == "flip" and bad:
            bad[place] ^= data.draw(st.integers(1, 255))
        elif action == "cut":
            del bad[place:]
        elif action == "insert":
            bad[place:place] = data.draw(st.binary(max_size=20))
        else:
            bad[place : place + 16] = bytes(len(bad[place : place + 16]))
    return bytes(bad)


def check(parse: Callable[[], object], error: type[Exception]) -> None:
    """Parse; only one kind of error may come, in one short line."""
    text = ""
    try:
        parse()
    except error as found:
        text = str(found)
    assert "\n" not in text
    assert len(text) < 400
