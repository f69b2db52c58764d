"""Archives of torch and GGUF files are cut at their tensors; whatever a file holds, its pieces tile it."""

import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore.codecs.types import TensorSpec
from pbstore.formats.split import Piece, split_file, split_stream

TENSORS = {
    "a": torch.randn(60, 50, generator=torch.Generator().manual_seed(0)),
    "b": torch.randn(90, 80, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16),
    "c": torch.arange(3000),
    "small": torch.ones(3),
    "d": torch.randn(70, 70, generator=torch.Generator().manual_seed(2)).half(),
}


def saved(**options: bool) -> bytes:
    file = BytesIO()
    torch.save(TENSORS, file, **options)
    return file.getvalue()


def gguf_bytes(tmp_path: Path) -> bytes:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_array("tokens", ["a", "bc", "def"])
    writer.add_array("scores", [1.0, 2.0])
    writer.add_string("note", "text")
    for name, tensor in TENSORS.items():
        if tensor.dtype in (torch.float32, torch.float16):
            writer.add_tensor(name, tensor.numpy())
    rows = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
    quantised = gguf.quants.quantize(rows, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (tmp_path / "x.gguf").read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    legacy = saved(_use_new_zipfile_serialization=False)
    return {"zip": saved(), "legacy": legacy, "gguf": gguf_bytes(tmp_path_factory.mktemp("gguf"))}


def split(data: bytes) -> list[Piece]:
    return split_stream(BytesIO(data), len(data), "x.bin")


def tiles(pieces: list[Piece], length: int) -> bool:
    ends = np.cumsum([0] + [piece.length for piece in pieces]).tolist()
    return [piece.offset for piece in pieces] == ends[:-1] and ends[-1] == length


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_large_storages_of_a_torch_archive_are_pieces_with_their_dtype(
    kind: str, files: dict[str, bytes]
) -> None:
    data = files[kind]
    pieces = split(data)

    found = {data[p.offset : p.offset + p.length]: p.spec for p in pieces if p.spec is not None}

    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64", torch.float16: "F16"}
    assert found == {
        tensor.contiguous().view(torch.uint8).numpy().tobytes(): TensorSpec(
            names[tensor.dtype], (tensor.numel(),)
        )
        for name, tensor in TENSORS.items()
        if name != "small"
    }
    assert tiles(pieces, len(data))


def test_tensors_of_a_gguf_file_are_pieces(files: dict[str, bytes]) -> None:
    data = files["gguf"]
    pieces = {p.name: p for p in split(data) if p.name is not None}

    for name in ("a", "d"):
        piece, tensor = pieces[name], TENSORS[name].numpy()
        assert data[piece.offset : piece.offset + piece.length] == tensor.tobytes()
        assert piece.spec is not None
        assert piece.spec.shape == tensor.shape
    assert pieces["q"].spec == TensorSpec("U8", (pieces["q"].length,))
    assert tiles(split(data), len(data))


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["zip", "legacy", "gguf"]))
def test_pieces_tile_a_damaged_file(data: st.DataObject, kind: str, files: dict[str, bytes]) -> None:
    file = bytearray(files[kind])
    for _ in range(data.draw(st.integers(0, 6))):
        near_end = data.draw(st.booleans())
        reach = min(len(file), 1500)
        place = data.draw(st.integers(0, reach - 1))
        file[-1 - place if near_end else place] = data.draw(st.integers(0, 255))
    cut = bytes(file[: data.draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))])

    assert tiles(split(cut), len(cut))


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "ran"),))  # type: ignore[return-value]

    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    split_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil()))
        archive.writestr("archive/data/0", bytes(9000))
    split_file(path)

    assert not (tmp_path / "ran").exists()


def test_odd_archives_are_one_piece_or_tiled(files: dict[str, bytes]) -> None:
    encrypted = bytearray(files["zip"])
    directory = encrypted.rindex(b"PK\x01\x02", 0, encrypted.index(b"PK\x01\x02") + 4)
    encrypted[directory + 8] |= 1
    odd_escape = bytearray(files["legacy"])
    place = odd_escape.index(b"ctorch._utils\n") + 6
    odd_escape[place : place + 2] = b"\\d"

    assert tiles(split(bytes(encrypted)), len(encrypted))
    assert tiles(split(bytes(odd_escape)), len(odd_escape))


def test_a_compressed_archive_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(100_000))

    assert len(split_file(path)) == 1
