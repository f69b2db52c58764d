"""Where archives (torch, zip, tar), GGUF and other files can be cut: at tensors and members, running nothing.

All stay byte-exact opaque files. A cut at a tensor lets it be one block with an equal tensor of another
file, and a known dtype lets it be stored as the difference to one. A file that is not what it seems to be has
no cuts.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from typing import IO, BinaryIO, cast

from pbstore.formats.arrays import NUMPY_MAGIC, may_be_onnx, numpy_cuts, onnx_cuts
from pbstore.formats.cuts import MIN_CUT_BYTES, Cut, NotSoError
from pbstore.formats.members import is_tar, tar_members
from pbstore.spec import TensorSpec

_MAX_DIRECTORY_BYTES = 32 << 20
_MAX_PICKLE_BYTES = 32 << 20
_MAX_COUNT = 1 << 20
_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "UNICODE"})
_GGML = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_GGUF_STRING, _GGUF_ARRAY = 8, 9


_BAD_FILE = (
    NotSoError,
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    OverflowError,
    NotImplementedError,
    KeyError,
    EOFError,
    RuntimeError,  # an encrypted member
)


def find_cuts(file: BinaryIO, file_bytes: int) -> list[Cut]:
    """Cuts of an open file, ascending and apart; none for other formats and damaged files."""
    file.seek(0)
    magic = file.read(8)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools warns of odd escapes
            found = list(_cuts(magic, file, file_bytes))
    except _BAD_FILE:
        return []
    found.sort(key=lambda cut: cut.offset)
    ends = [0, *(cut.offset + cut.length for cut in found)]
    apart = all(cut.offset >= end for cut, end in zip(found, ends, strict=False))
    return found if apart and ends[-1] <= file_bytes else []


def _cuts(magic: bytes, file: BinaryIO, file_bytes: int) -> Iterator[Cut]:
    if magic[:4] == b"PK\x03\x04":
        return _zip_cuts(file, file_bytes)
    if magic[:4] == _LEGACY_MAGIC[:4]:
        return _legacy_cuts(file, file_bytes)
    if magic[:4] == b"GGUF":
        return _gguf_cuts(file, file_bytes)
    if magic[:6] == NUMPY_MAGIC:
        return numpy_cuts(file, file_bytes)
    if may_be_onnx(magic):
        return onnx_cuts(file, file_bytes)
    return _tar_cuts(file, file_bytes) if is_tar(file) else iter(())


def _tar_cuts(file: BinaryIO, file_bytes: int) -> Iterator[Cut]:
    return (Cut(*span) for span in tar_members(file, file_bytes) if span[1] >= MIN_CUT_BYTES)


def _zip_cuts(file: BinaryIO, file_bytes: int) -> Iterator[Cut]:
    """Members of a zip archive that are stored uncompressed, as torch.save writes them."""
    _check_directory(file, file_bytes)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        dtypes = _storage_dtypes(archive, members)
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size < MIN_CUT_BYTES:
                continue
            file.seek(member.header_offset)
            head = file.read(30)
            if len(head) < 30 or head[:4] != b"PK\x03\x04" or member.file_size != member.compress_size:
                raise NotSoError
            name_bytes, extra_bytes = struct.unpack_from("<HH", head, 26)
            offset = member.header_offset + 30 + name_bytes + extra_bytes
            yield Cut(offset, member.file_size, _flat(dtypes.get(member.filename), member.file_size))


def _check_directory(file: BinaryIO, file_bytes: int) -> None:
    """Refuse a directory so long that reading it would fill the memory."""
    tail_bytes = min(file_bytes, (1 << 16) + 22)
    file.seek(file_bytes - tail_bytes)
    tail = file.read(tail_bytes)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + 22 > len(tail):
        raise NotSoError
    (directory_bytes,) = struct.unpack_from("<I", tail, end + 12)
    if directory_bytes == 0xFFFFFFFF or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise NotSoError


def _storage_dtypes(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo]) -> dict[str, str]:
    """Dtype of each storage member, read from the pickle's opcodes; nothing of it is run."""
    for member in members:
        stem, slash, name = member.filename.rpartition("/")
        plain = member.compress_type == zipfile.ZIP_STORED and member.file_size <= _MAX_PICKLE_BYTES
        if slash and name == "data.pkl" and plain:
            return {f"{stem}/data/{key}": dtype for key, dtype in _storages(archive.read(member))}
    return {}


def _legacy_cuts(file: BinaryIO, file_bytes: int) -> Iterator[Cut]:
    """Storages of the format before torch 1.6: five pickles, then a length and the bytes of each."""
    if file.read(len(_LEGACY_MAGIC)) != _LEGACY_MAGIC:
        raise NotSoError
    for _ in range(2):  # version, system
        _skip_pickle(file)
    dtypes = dict(_storages(_limited(file)))
    keys = [argument for op, argument, _ in pickletools.genops(_limited(file)) if op.name in _TEXTS]
    for key in keys:
        dtype = dtypes[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        spec = TensorSpec(dtype, (count,))
        if spec.num_bytes > file_bytes - file.tell():
            raise NotSoError
        if spec.num_bytes >= MIN_CUT_BYTES:
            yield Cut(file.tell(), spec.num_bytes, spec)
        file.seek(spec.num_bytes, 1)


def _skip_pickle(file: BinaryIO) -> None:
    for _ in pickletools.genops(_limited(file)):
        pass


def _limited(file: BinaryIO) -> IO[bytes]:
    return cast("IO[bytes]", _LimitedPickle(file))


class _LimitedPickle(BufferedIOBase):
    """A file that refuses to give one pickle more than `_MAX_PICKLE_BYTES`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, _MAX_PICKLE_BYTES

    def read(self, length: int | None = -1, /) -> bytes:
        """At most `length` bytes."""
        length = self._left if length is None or length < 0 else length
        self._take(length)
        return self._file.read(length)

    def readline(self, limit: int | None = -1, /) -> bytes:
        """One line."""
        line = self._file.readline(self._left)
        self._take(len(line))
        return line

    def tell(self) -> int:
        """Position in the file."""
        return self._file.tell()

    def _take(self, length: int) -> None:
        self._left -= length
        if self._left <= 0:
            raise NotSoError


def _storages(pickled: bytes | IO[bytes]) -> Iterator[tuple[str, str]]:
    """Keys and dtypes in persistent ids ("storage", torch.XStorage, key, device, size)."""
    dtype = None
    memo: dict[int, str] = {}
    last: str | None = None
    for op, argument, _ in pickletools.genops(pickled):
        if op.name in ("GLOBAL", "STACK_GLOBAL"):
            last = str(argument).replace(" ", ".") if op.name == "GLOBAL" else last
            dtype = _STORAGES.get((last or "").rpartition(".")[2])
        elif op.name in ("BINPUT", "LONG_BINPUT", "PUT") and last is not None:
            memo[int(argument or 0)] = last
        elif op.name in ("BINGET", "LONG_BINGET", "GET"):
            last = memo.get(int(argument or 0))
            dtype = _STORAGES.get((last or "").rpartition(".")[2], dtype)
        elif op.name in _TEXTS:
            last = str(argument)
            if dtype is not None and last.isdigit():
                yield last, dtype
                dtype = None


def _flat(dtype: str | None, length: int) -> TensorSpec | None:
    if dtype is None:
        return None
    item = TensorSpec(dtype, (1,)).num_bytes
    return TensorSpec(dtype, (length // item,)) if length % item == 0 else None


def _gguf_cuts(file: BinaryIO, file_bytes: int) -> Iterator[Cut]:
    """Tensors of a GGUF file; quantised ones are bytes."""
    reader = _GgufReader(file, file_bytes)
    version, tensors, values = reader.numbers("<4xIQQ")
    if version not in (2, 3) or max(tensors, values) > _MAX_COUNT:
        raise NotSoError
    alignment = 32
    for _ in range(values):
        key = reader.text()
        (kind,) = reader.numbers("<I")
        if key == b"general.alignment" and kind == 4:
            (alignment,) = reader.numbers("<I")
        else:
            reader.skip_value(kind)
    infos = sorted((reader.tensor_info() for _ in range(tensors)), key=lambda info: info[2])
    if not alignment or alignment > 1 << 20:
        raise NotSoError
    start = -(-file.tell() // alignment) * alignment
    ends = [*(info[2] for info in infos[1:]), file_bytes - start]
    for (name, spec, offset), end in zip(infos, ends, strict=True):
        if end - offset >= MIN_CUT_BYTES:
            fits = spec is not None and spec.num_bytes <= end - offset
            length = spec.num_bytes if spec is not None and fits else end - offset
            yield Cut(start + offset, length, spec if fits else TensorSpec("U8", (length,)), name)


class _GgufReader:
    """Reads forward through a GGUF header and never past the file's end."""

    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        self._file, self._file_bytes = file, file_bytes

    def numbers(self, form: str) -> tuple[int, ...]:
        """Numbers of a struct format."""
        return struct.unpack(form, self._file.read(struct.calcsize(form)))

    def text(self) -> bytes:
        """A length and as many bytes."""
        (length,) = self.numbers("<Q")
        if length > self._file_bytes - self._file.tell():
            raise NotSoError
        return self._file.read(length)

    def skip_value(self, kind: int) -> None:
        """Pass over a value; arrays hold no arrays."""
        if kind == _GGUF_STRING:
            self.text()
        elif kind == _GGUF_ARRAY:
            inner, count = self.numbers("<IQ")
            if inner == _GGUF_STRING:
                if count > self._file_bytes // 8:
                    raise NotSoError
                for _ in range(count):
                    self.text()
            else:
                self._skip(_GGUF_SIZES[inner] * count)
        else:
            self._skip(_GGUF_SIZES[kind])

    def tensor_info(self) -> tuple[str, TensorSpec | None, int]:
        """Name, dtype and shape if plain, and offset in the data of the next tensor."""
        name = self.text().decode("utf-8", "replace")
        (dims,) = self.numbers("<I")
        if dims > 16:
            raise NotSoError
        *shape, kind, offset = self.numbers(f"<{dims}QIQ")
        plain = _GGML.get(kind)
        return name, None if plain is None else TensorSpec(plain, tuple(reversed(shape))), offset

    def _skip(self, length: int) -> None:
        if length > self._file_bytes - self._file.tell():
            raise NotSoError
        self._file.seek(length, 1)
