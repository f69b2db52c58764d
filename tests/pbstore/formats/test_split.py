"""Laws of cutting files into pieces."""

import json
import struct
from io import BytesIO
from math import lcm
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pbstore.blocks import PAGE_BYTES
from pbstore.codecs.types import TensorSpec
from pbstore.errors import CheckpointError
from pbstore.folders.ingest import cut
from pbstore.formats.safetensors_header import parse_header
from pbstore.formats.split import Piece, split_file, split_stream


def safetensors_bytes(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_pieces_of_a_safetensors_file_are_its_header_and_its_tensors(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(3, np.int64)}
    path = tmp_path / "model.safetensors"
    save_file(arrays, path)
    data = path.read_bytes()

    header, *tensors = split_file(path)

    assert header.spec is None
    assert {p.name: data[p.offset : p.offset + p.length] for p in tensors} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert {p.name: p.spec for p in tensors} == {
        "a": TensorSpec("I64", (3,)),
        "b": TensorSpec("F32", (2, 3)),
    }
    assert sum(p.length for p in [header, *tensors]) == len(data)


@pytest.mark.slow
@given(data=st.binary(max_size=300), name=st.sampled_from(["a.bin", "a.pt", "a.gguf", "a.json"]))
def test_pieces_tile_any_file(data: bytes, name: str) -> None:
    pieces = split_stream(BytesIO(data), len(data), name)

    assert [p.offset for p in pieces] == np.cumsum([0] + [p.length for p in pieces])[: len(pieces)].tolist()
    assert sum(p.length for p in pieces) == len(data)
    assert all(p.length > 0 for p in pieces)


@given(
    shape=st.lists(st.integers(1, 20), min_size=0, max_size=3).map(tuple),
    dtype=st.sampled_from(["F32", "BF16", "U8", "F4", "I64"]),
    limit=st.integers(64, 5000),
)
def test_long_tensors_are_cut_into_tensors(shape: tuple[int, ...], dtype: str, limit: int) -> None:
    spec = TensorSpec(dtype, shape)
    pieces = list(cut([Piece(7, spec.num_bytes, spec, "t")], limit))

    assert [p.offset for p in pieces] == (7 + np.cumsum([0] + [p.length for p in pieces]))[:-1].tolist()
    assert sum(p.length for p in pieces) == spec.num_bytes
    assert all(p.length <= limit for p in pieces)
    assert all(p.spec.num_bytes == p.length for p in pieces if p.spec is not None)
    assert dtype == "F4" or all(p.spec is not None for p in pieces)


@given(columns=st.integers(1, 6000), item=st.sampled_from([("F32", 4), ("BF16", 2), ("U8", 1)]))
def test_long_tensors_are_cut_at_pages_where_rows_allow_it(columns: int, item: tuple[str, int]) -> None:
    spec, limit = TensorSpec(item[0], (1 << 22, columns)), 64 << 20
    row = spec.row_bytes or item[1]
    pieces = list(cut([Piece(0, 5 * limit // row * row, spec, "t")], limit))

    assert all(p.length % row == 0 for p in pieces)
    if lcm(row, PAGE_BYTES) <= limit:
        assert all(p.offset % PAGE_BYTES == 0 for p in pieces)


@given(text=st.binary(max_size=200), data=st.binary(max_size=50))
def test_any_header_is_parsed_or_refused_in_one_line(text: bytes, data: bytes) -> None:
    refusal, tensors = "", ()
    try:
        tensors = parse_header(text, len(text) + 8 + len(data)).tensors
    except CheckpointError as error:
        refusal = str(error)

    assert (refusal and "\n" not in refusal) or sum(e.length for e in tensors) == len(data)


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (b"[1]", b"", "expected an object"),
        (b"{ ", b"", "not JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", b"", "not JSON"),
        (b"\xff\xff", b"", "not JSON"),
        (b"[" * 60_000, b"", "not JSON"),
        ({"a": tensor([2], 0, 8)}, b"1234", "expected .* bytes, got"),
        ({"a": tensor([2], 0, 8)}, b"123456789", "expected .* bytes, got"),
        ({"a": tensor([2], 0, 8), "b": tensor([1], 4, 8)}, b"12345678", "starts at"),
        ({"a": tensor([1], 4, 8)}, b"12345678", "starts at"),
        ({"a": tensor([3], 0, 8)}, b"12345678", "needs 12 bytes"),
        ({"a": tensor([-1], 0, 8)}, b"12345678", "bad shape"),
        ({"a": tensor([True], 0, 4)}, b"1234", "bad shape"),
        ({"a": tensor([1 << 40, 1 << 40], 0, 8)}, b"12345678", "needs"),
        ({"a": tensor([2], 8, 0)}, b"12345678", "needs 8 bytes"),
        ({"a": tensor([1], 0, 4, "FLOAT")}, b"1234", "unknown dtype"),
        ({"a": {"dtype": "F32"}}, b"", "needs dtype"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
        (b'{"a":1,"a":2}', b"", "appears twice"),
    ],
)
def test_hostile_headers_are_refused(header: object, data: bytes, reason: str) -> None:
    file = safetensors_bytes(header, data)

    with pytest.raises(CheckpointError, match=reason):
        split_stream(BytesIO(file), len(file), "x.safetensors")


@pytest.mark.parametrize(
    "file", [b"", b"1234567", struct.pack("<Q", 1 << 62), struct.pack("<Q", 500) + b"{}"]
)
def test_a_header_of_impossible_length_is_refused(file: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"safetensors (header|file)"):
        split_stream(BytesIO(file), len(file), "x.safetensors")
