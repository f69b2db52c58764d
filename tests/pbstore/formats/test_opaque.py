"""Laws of cuts of opaque bytes: they cover all and follow the content, stored tensors are found anywhere."""

import io
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbstore import open_store
from pbstore.formats.chunking import CHUNKED_BYTES, chunk_lengths
from pbstore.formats.known import KnownTensor, KnownTensors
from pbstore.formats.split import split_stream
from pbstore.hashing import hash_block
from tests.pbstore.folders import base_tensors, write_model

SIZE = {"rows": 700, "width": 128}


def lengths(data: bytes) -> list[int]:
    array = np.frombuffer(data, np.uint8)
    return chunk_lengths(lambda begin, end: array[begin:end], len(data))


def chunks(data: bytes) -> list[bytes]:
    ends = np.cumsum([0, *lengths(data)]).tolist()
    return [data[begin:end] for begin, end in pairwise(ends)]


@given(
    seed=st.integers(0, 99),
    size=st.integers(0, 300_000),
    values=st.sampled_from([1, 2, 256]),
)
def test_chunks_cover_all_and_have_bounded_lengths(seed: int, size: int, values: int) -> None:
    data = np.random.default_rng(seed).integers(0, values, size, dtype=np.uint8).tobytes()

    found = chunks(data)

    assert b"".join(found) == data
    if size >= CHUNKED_BYTES:
        assert all(1 << 12 <= len(chunk) <= 1 << 16 for chunk in found[:-1])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("front", [1, 4, 100, 70_001])
def test_what_moved_is_cut_as_before(front: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()

    again = chunks(rng.bytes(front) + data)

    assert len(set(again) & set(chunks(data))) > len(chunks(data)) - 4


@given(seed=st.integers(0, 30))
def test_stored_tensors_are_found_at_any_offset(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = [rng.normal(size=int(rng.integers(600, 3000))).astype(np.float32).tobytes() for _ in range(9)]
    known = KnownTensors([KnownTensor(one[:8], hash_block(one), len(one)) for one in tensors])
    data, expected = b"", []
    for one in tensors[:6]:
        data += rng.bytes(int(rng.integers(0, 50)))
        expected.append((len(data), len(one)))
        data += one
    data += tensors[7][:-4]  # not whole
    array = np.frombuffer(data, np.uint8)

    assert known.find(lambda begin, end: array[begin:end], len(data)) == expected


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def onnx(tensors: dict[str, np.ndarray], producer: bytes = b"test") -> bytes:
    """A model of nothing but float32 initializers."""
    graph = b""
    for name, array in tensors.items():
        dims = b"".join(b"\x08" + varint(size) for size in array.shape)
        graph += message(5, dims + b"\x10\x01" + message(8, name.encode()) + message(9, array.tobytes()))
    return b"\x08\x08" + message(2, producer) + message(7, graph)


def numpy_file(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(tensors: dict[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in tensors.items():
            archive.writestr(f"{name}.npy", numpy_file(array))
    return out.getvalue()


TENSORS = base_tensors(**SIZE)
FILES = {
    "model.onnx": onnx(TENSORS),
    "weights.npz": npz(TENSORS),
    "weights.npy": numpy_file(TENSORS["embed.weight"]),
    "model.h5": b"\x89HDF\r\n\x1a\n" + b"head" * 33 + b"gap".join(one.tobytes() for one in TENSORS.values()),
    "flat.bin": np.concatenate([one.ravel() for one in TENSORS.values()]).tobytes(),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", FILES)
def test_tensors_of_a_stored_model_cost_nothing_in_another_format(tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / name).write_bytes(FILES[name])
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", TENSORS), "base")
        report = store.add(other, "other")

        assert report.stored_bytes < 2500
        assert store.add(other, "other").already_there
        store.checkout("other", tmp_path / "out")
        assert (tmp_path / "out" / name).read_bytes() == FILES[name]
        assert store.verify().ok


@pytest.mark.parametrize("name", ["model.onnx", "weights.npz"])
def test_arrays_of_other_formats_have_their_dtype_and_shape(name: str) -> None:
    pieces = split_stream(io.BytesIO(FILES[name]), len(FILES[name]), name)

    found = {(piece.spec.dtype, piece.spec.shape) for piece in pieces if piece.spec is not None}
    assert found >= {("F32", one.shape) for one in TENSORS.values() if one.nbytes >= 4096}


@given(place=st.integers(0, 400), value=st.integers(0, 255), name=st.sampled_from(sorted(FILES)))
def test_damaged_files_are_covered_all_the_same(place: int, value: int, name: str) -> None:
    data = bytearray(FILES[name])
    data[place] = value

    pieces = split_stream(io.BytesIO(bytes(data)), len(data), name, lambda: KnownTensors(()))

    position = 0
    for piece in pieces:
        assert piece.offset == position
        position += piece.length
    assert position == len(data)


def test_a_flat_shard_is_cut_at_its_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("pbstore.formats.known.FLAT_BYTES", 1 << 16)
    other = tmp_path / "other"
    other.mkdir()
    parts = [torch.zeros(77), *(torch.from_numpy(one.ravel()) for one in TENSORS.values())]
    torch.save({"_flat_param": torch.cat(parts)}, other / "shard.pt")
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", TENSORS), "base")

        assert store.add(other, "other").stored_bytes < 8000
        store.checkout("other", tmp_path / "out")
        assert (tmp_path / "out" / "shard.pt").read_bytes() == (other / "shard.pt").read_bytes()


def test_a_changed_word_of_a_long_text_costs_little(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    words = [rng.bytes(3).hex() for _ in range(40_000)]
    with open_store(tmp_path / "store", durable=False) as store:
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "tokenizer.json").write_text(" ".join(words))
            report = store.add(folder, f"model-{number}")
            words.insert(20_000, "new")

        assert report.stored_bytes < 40_000
