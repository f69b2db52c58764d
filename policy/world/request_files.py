"""Files of requests, of one's own or public: rows of time, asker and model, read with bounds.

    CSV          with a header (or numbered columns), plain, gzip or zstd, with or without a byte order mark
    Parquet      by its columns
    oracleGeneral  records of 24 bytes: u32 time in s, u64 object, u32 size, i64 next access; plain or zstd.
                   The binary format of libCacheSim (github.com/1a1a11a/libCacheSim, doc/advanced_lib.md)
    public traces  CSV in a documented layout, see `policy.world.public_traces`

The kind is told by the name's ending (below `.gz` and `.zst`), compression by the first bytes.
"""

import csv
import gzip
import io
import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

import numpy as np
import zstandard

from policy.errors import TraceError
from policy.world.public_traces import LAYOUTS, PUBLIC, PublicName, adapted

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
FIELDS = ("time", "user", "cell", "model", "x_m", "y_m")
"""What a row can say."""
DEFAULT_COLUMNS = {"time": "time_s", **{name: name for name in FIELDS[1:]}}
MAX_ROWS = 5_000_000
"""A file of more rows than this is refused: memory is not taken for what a file claims to be."""
MAX_LINE = 1 << 20
"""Longest line of a CSV file, characters."""
RECORD = struct.Struct("<IQIq")
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """How a request file is to be read."""

    time_unit: TimeUnit = "s"
    """Of the time column: seconds, milli-, micro- or nanoseconds, or ISO 8601 texts."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of each of `FIELDS` where it has another name than time_s, user, cell, model, x_m, y_m; a number
    counts columns from 0 in a CSV file without a header."""
    public: PublicName | None = None
    """Layout of a public trace, see `policy.world.public_traces`; it says what columns and unit are."""

    def __post_init__(self) -> None:
        if self.time_unit not in get_args(TimeUnit):
            raise ValueError(
                f"time_unit must be one of {', '.join(get_args(TimeUnit))}, got {self.time_unit!r}"
            )
        if self.public is not None and self.public not in PUBLIC:
            raise ValueError(f"public must be one of {', '.join(PUBLIC)}, got {self.public!r}")
        if self.public is not None and (self.columns or self.time_unit != "s"):
            raise ValueError(f"columns and time_unit are fixed by {self.public}")
        unknown = sorted(set(self.columns) - set(FIELDS))
        if unknown:
            raise ValueError(f"columns name {unknown[0]!r}; there are {', '.join(FIELDS)}")
        numbered = [value.isdigit() for value in self.columns.values()]
        if any(numbered) and not all(numbered):
            raise ValueError(f"columns must all be names or all be numbers, got {dict(self.columns)}")

    @property
    def numbered(self) -> bool:
        """Whether columns are counted, so that there is no header."""
        return any(value.isdigit() for value in self.columns.values())

    def column(self, name: str) -> str:
        """Where a field stands."""
        return self.columns.get(name, name if self.numbered else DEFAULT_COLUMNS[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One row of a request file."""

    row: int
    """Number of the row, from 1, without the header."""
    time_s: float
    who: str | None
    """User, or cell when `in_cell`; None if the file does not say."""
    in_cell: bool
    model: str
    xy: tuple[float, float] | None


def read_requests(path: Path, how: FileFormat | None = None, max_rows: int = MAX_ROWS) -> list[Request]:
    """Rows of a request file, in file order.

    Raises:
        TraceError: If it is not a readable file of a kind above, or a row is not a request; says which row.
    """
    if not path.is_file():
        raise TraceError(f"no such trace file: {path}")
    how = how or FileFormat()
    requests: list[Request] = []
    try:
        for number, row in enumerate(_rows(path, how), start=1):
            if number > max_rows:
                raise TraceError(f"{path} has more than {max_rows:,} rows")
            own = row if how.public is None else _adapted(path, number, row, how.public)
            if own is not None:
                requests.append(_request(path, number, own, how))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    return requests


def _adapted(path: Path, number: int, row: dict[str, Any], public: PublicName) -> dict[str, Any] | None:
    """A row of a public trace as one of our own; None if it is no request."""
    try:
        return adapted(public, row)
    except ValueError as error:
        raise TraceError(f"{path}, row {number}: {error}") from error


def _rows(path: Path, how: FileFormat) -> Iterator[dict[str, Any]]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".zst")]
    if suffixes and suffixes[-1] == ".parquet" and how.public is None:
        return _parquet(path)
    with path.open("rb") as file:
        head = file.read(4)
    if how.public is None and any("oraclegeneral" in suffix for suffix in suffixes):
        return _oracle_general(path, head)
    return _csv(path, how, head)


def _opened(path: Path, head: bytes) -> IO[bytes]:
    """The file's bytes, unpacked while they are read."""
    if head.startswith(GZIP):
        return cast(IO[bytes], gzip.GzipFile(path))
    if head.startswith(ZSTD):
        return cast(IO[bytes], io.BufferedReader(_Unpacked(path), 1 << 20))
    return path.open("rb")


class _Unpacked(io.RawIOBase):
    """A zstd file's content. The library's own reader takes a cut file for a whole one; this one does not."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:  # noqa: ANN401 - any writable buffer
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            packed = packed or self._file.read(1 << 16)
            if not packed:
                if self._begun:
                    raise EOFError("the file ends within a frame")
                return 0
            self._begun = True
            self._ready = self._frame.decompress(packed)
        count = min(len(into), len(self._ready))
        into[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _csv(path: Path, how: FileFormat, head: bytes) -> Iterator[dict[str, Any]]:
    try:
        with io.TextIOWrapper(_opened(path, head), encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(_lines(path, file), strict=True, skipinitialspace=True)
            if how.public is not None and not LAYOUTS[how.public].header:
                names: list[str] | None = list(LAYOUTS[how.public].columns)
            else:
                names = None if how.numbered else next(lines, [])
            for line in lines:
                if line:
                    keys = map(str, itertools.count()) if names is None else iter(names)
                    yield dict(zip(keys, line, strict=False))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path} is not a CSV file: {error}") from error


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise TraceError(f"{path} has a line of {MAX_LINE:,} characters or more")
        yield line


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=65_536):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise TraceError(f"{path} is not a Parquet file: {error}") from error


def _oracle_general(path: Path, head: bytes) -> Iterator[dict[str, Any]]:
    with _opened(path, head) as file:
        while block := file.read(RECORD.size * 4096):
            if len(block) % RECORD.size:
                block += file.read(RECORD.size - len(block) % RECORD.size)
            if len(block) % RECORD.size:
                raise TraceError(f"{path} ends within a record of {RECORD.size} bytes")
            for time_s, item, _, _ in RECORD.iter_unpack(block):
                yield {"time_s": time_s, "model": item}


def _request(path: Path, number: int, row: Mapping[str, Any], how: FileFormat) -> Request:
    """One row, checked."""
    fields = {name: row.get(how.column(name)) for name in FIELDS}
    fields = {name: value for name, value in fields.items() if value not in (None, "")}
    for name in ("time", "model"):
        if name not in fields:
            has = ", ".join(map(str, row)) or "nothing"
            raise TraceError(
                f"{path}, row {number}: no {name} in column {how.column(name)!r}; the row has {has[:200]}"
            )
    try:
        time_s = _seconds(fields["time"], how.time_unit)
        places = [float(str(fields[axis])) for axis in ("x_m", "y_m") if axis in fields]
    except (ValueError, OverflowError) as error:
        raise TraceError(f"{path}, row {number}: {str(error)[:200]}") from error
    if not (np.isfinite([time_s, *places]).all() and len(places) in (0, 2)):
        raise TraceError(f"{path}, row {number}: time and places (two or none) must be finite numbers")
    who = next((name for name in ("user", "cell") if name in fields), None)
    return Request(
        row=number,
        time_s=time_s,
        who=None if who is None else f"{who} {fields[who]}",
        in_cell=who == "cell",
        model=str(fields["model"]),
        xy=(places[0], places[1]) if places else None,
    )


def _seconds(value: object, unit: TimeUnit) -> float:
    """A time of the file in seconds from any start."""
    if isinstance(value, datetime):
        return _timestamp(value)
    if unit == "iso":
        return _timestamp(datetime.fromisoformat(str(value)))
    try:
        return float(str(value)) / PER_SECOND[unit]
    except ValueError:
        raise ValueError(
            f"time must be a number of {unit}, got {str(value)[:60]!r}; ISO 8601 is `iso`"
        ) from None


def _timestamp(moment: datetime) -> float:
    """Seconds since 1970; what has no zone is taken for UTC, so that no machine's own zone matters."""
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def counts(items: Iterable[str]) -> dict[str, int]:
    """How often each text occurs, most often first, first seen first among equals."""
    counted: dict[str, int] = {}
    for item in items:
        counted[item] = counted.get(item, 0) + 1
    return dict(sorted(counted.items(), key=lambda pair: -pair[1]))
