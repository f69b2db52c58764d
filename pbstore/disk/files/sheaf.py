"""Sheaves: files that hold the manifests of many models each, for a file takes a block of the disk at least.

A sheaf is a list of members: a file's name as in `manifests/`, and its text. Each member is compressed and
checked by itself, so that damage costs no other one. A sheaf is never written to: what leaves it is cut
out of a copy, which takes its place. See `FORMAT.md` for the layout.
"""

import os
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import zstandard
from blake3 import blake3

from pbstore.disk.files.pack import read_exact

SHEAF_SUFFIX = ".sheaf"
MAX_TEXT_BYTES = 64 << 10
"""A longer text stays in a file of its own."""
_MAGIC, _MEMBER_MAGIC = b"PBSHEAF1", b"PBM1"
_HEAD = struct.Struct("<8sQ")
_MEMBER = struct.Struct("<4sHHI16s")
_MEMBER_NAME = re.compile(r"[0-9a-f]{40}(\.[0-9]{1,18}){0,2}\.(json|past|trash)")
_SHEAF_NAME = re.compile(r"[0-9]{8,12}\.sheaf")
_LEVEL = 9
_KEPT = 16
"""Sheaves that are kept in memory."""
DICTIONARY = (
    b'"sha256":"","path":"merges.txt","vocab.txt","vocab.json","tokenizer.model","README.md",".gitattributes",'
    b'"special_tokens_map.json","tokenizer_config.json","tokenizer.json","generation_config.json",'
    b'"pytorch_model.bin","model.safetensors.index.json","model-00001-of-00002.safetensors","executable":true,'
    b'{"base":{"name":"","weights":""},"files":[{"blocks":[["",1],["",64]],"bytes":1024,"path":"config.json",'
    b'"sha256":""},{"blocks":[["",384],["",512],["",768],["",1024],["",1536],["",4096]],"bytes":2048,"path":'
    b'"model.safetensors","sha256":""},{"blocks":[[""]],"path":"adapter_config.json"},{"blocks":[[""]],"path":'
    b'"adapter_model.safetensors","sha256":""}],"format":"pbstore-manifest","meta":{},"name":"","version":1,'
    b'"weights":""}'
)
"""What a member's text is compressed against: a part of the format, never changed."""
_WORDS = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


class Member(NamedTuple):
    """Where a member lies in its sheaf."""

    name: str
    start: int
    """First byte of its header."""
    frame: int
    """First byte of its compressed text."""
    end: int
    check: bytes


class Sheaf:
    """The members of a sheaf, as far as they can be read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @cached_property
    def _members(self) -> dict[str, Member]:
        return {member.name: member for member in _scan(self._data)}

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def hash(self) -> str:
        """BLAKE3 of the file, 64 hex digits."""
        return blake3(self._data).hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether every byte is of a member that can be read."""
        length = sum(member.end - member.start for member in self._members.values())
        return (
            self._data[:8] == _MAGIC
            and length + _HEAD.size == len(self._data)
            and all(self.text(name) is not None for name in self)
        )

    def text(self, name: str) -> bytes | None:
        """A member's text; None if there is no such member, or it is damaged."""
        member = self._find(name)
        if member is None:
            return None
        frame = self._data[member.frame : member.end]
        if _check(name, frame) != member.check:
            return None
        try:
            if zstandard.get_frame_parameters(frame).content_size > MAX_TEXT_BYTES:
                return None
            return _decoder().decompress(frame)
        except zstandard.ZstdError:
            return None

    def _find(self, name: str) -> Member | None:
        """A member; the others are not looked at."""
        position = self._data.find(name.encode())
        while position >= 0:
            start = position - _MEMBER.size
            if self._data[start : start + 4] == _MEMBER_MAGIC:
                member = _member_at(self._data, start)
                if member is not None and member.name == name:
                    return member
            position = self._data.find(name.encode(), position + 1)
        return None

    def without(self, names: Collection[str]) -> bytes | None:
        """The file without some members, but with what cannot be read in it; None if nothing is left."""
        parts, position = [], 0
        going = [member for member in map(self._find, names) if member is not None]
        for member in sorted(going, key=lambda one: one.start):
            parts.append(self._data[position : member.start])
            position = member.end
        parts.append(self._data[position:])
        left = b"".join(parts)
        return left if len(left) > _HEAD.size else None


_local = threading.local()


def _decoder() -> zstandard.ZstdDecompressor:
    """This thread's decoder: to make one takes longer than to use it."""
    if not hasattr(_local, "decoder"):
        _local.decoder = zstandard.ZstdDecompressor(dict_data=_WORDS)
    decoder: zstandard.ZstdDecompressor = _local.decoder
    return decoder


class _Cache:
    """The sheaves that were read last; a file that was replaced is another one."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[int, ...], Sheaf] = OrderedDict()
        self._mutex = threading.Lock()

    def get(self, key: tuple[int, ...]) -> Sheaf | None:
        with self._mutex:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[int, ...], sheaf: Sheaf) -> None:
        with self._mutex:
            self._held[key] = sheaf
            while len(self._held) > _KEPT:
                self._held.popitem(last=False)


_cache = _Cache()


def read(path: Path) -> Sheaf:
    """The members of a sheaf.

    Raises:
        FileNotFoundError: If it is not there.
    """
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        sheaf = _cache.get(key)
        if sheaf is None:
            sheaf = Sheaf(read_exact(file.fileno(), 0, status.st_size))
            _cache.put(key, sheaf)
        return sheaf


def encode(number: int, texts: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """A sheaf's bytes from names and texts."""
    coder = zstandard.ZstdCompressor(
        level=_LEVEL, dict_data=_WORDS, write_checksum=False, write_dict_id=False
    )
    parts = [_HEAD.pack(_MAGIC, number)]
    for name, text in dict(texts).items():
        if not _MEMBER_NAME.fullmatch(name) or len(text) > MAX_TEXT_BYTES:
            raise ValueError(
                f"expected a manifest's file of at most {MAX_TEXT_BYTES} bytes, got {name[:80]!r}"
            )
        frame = coder.compress(text)
        parts += [
            _MEMBER.pack(_MEMBER_MAGIC, len(name), 0, len(frame), _check(name, frame)),
            name.encode(),
            frame,
        ]
    return b"".join(parts)


def is_sheaf(file: object) -> bool:
    """Whether this is what a sheaf's file is called."""
    return isinstance(file, str) and _SHEAF_NAME.fullmatch(file) is not None


def sheaf_file(number: int) -> str:
    """Name of a sheaf's file."""
    return f"{number:08d}{SHEAF_SUFFIX}"


def _check(name: str, frame: bytes) -> bytes:
    return blake3(name.encode() + frame).digest(length=16)


def _scan(data: bytes) -> Iterator[Member]:
    """All members with a sensible header; damaged stretches are stepped over."""
    position = _HEAD.size
    while (position := data.find(_MEMBER_MAGIC, position)) >= 0:
        member = _member_at(data, position)
        if member is None:
            position += 1
        else:
            yield member
            position = member.end


def _member_at(data: bytes, start: int) -> Member | None:
    if start + _MEMBER.size > len(data):
        return None
    _, name_bytes, zero, frame_bytes, check = _MEMBER.unpack_from(data, start)
    frame = start + _MEMBER.size + name_bytes
    name = data[start + _MEMBER.size : frame].decode("ascii", "replace")
    if zero or frame + frame_bytes > len(data) or not _MEMBER_NAME.fullmatch(name):
        return None
    return Member(name, start, frame, frame + frame_bytes, check)
