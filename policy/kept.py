"""Results that outlive a process, kept under the hash of all that made them: how work goes on after a stop.

`KeptRows` is for many small results: lines are added to a file. `Unfinished` is one JSON document that grows
until it is the published result. Both refuse to mix what was made by different settings or code.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policy.errors import StaleResultsError

SAVE_S = 5.0
"""Time between two writes of a document that is not to be written at once, s."""


def key_of(made_by: Mapping[str, Any]) -> str:
    """Hash of all that a result depends on, 16 hex digits; of plain values."""
    text = json.dumps(made_by, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", name)[:60]


class KeptRows:
    """Lines of JSON in a file whose name has the hash of all that they depend on.

    Args:
        folder: Where the file is; it is made with the first row.
        name: First part of the file's name.
        made_by: All that the rows depend on, plain values.
    """

    def __init__(self, folder: Path, name: str, made_by: Mapping[str, Any]) -> None:
        self.path = folder / f"{slug(name)}-{key_of(made_by)}.jsonl"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All whole rows; a line that a stop has torn is skipped."""
        for line in self.path.read_bytes().splitlines() if self.path.is_file() else ():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row in one write, behind what may be a torn line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(row, allow_nan=False) + "\n")


class Unfinished:
    """A JSON document that is written now and then while it is made, and read by the next run.

    Args:
        path: The document. Its field `made_by` says what it depends on.
        made_by: All that the content depends on, plain values.

    Raises:
        StaleResultsError: If the document there was made by something else; says by what.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        self.path = path
        wanted = json.loads(json.dumps(made_by))
        self.done: dict[str, Any] = _read(path) if path.exists() else {"made_by": wanted}
        other = differences(self.done.get("made_by", {}), wanted)
        if other:
            raise StaleResultsError(
                f"{path} was made by other {', '.join(other)}: remove it, or name another"
            )
        self._saved = time.monotonic()

    def save(self, now: bool = True) -> None:
        """Write the document, in one move; not `now`: only if the last time is long ago."""
        if now or time.monotonic() - self._saved >= SAVE_S:
            write_json(self.path, self.done)
            self._saved = time.monotonic()


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document in one move: a reader sees the old one or the new one."""
    replace_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one move, in a folder that is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> list[str]:
    """Fields in which two trees of plain values differ, each with both values, such as `seeds (1, not 2)`."""
    differing = []
    for key in dict.fromkeys((*there, *wanted)):
        old, new, name = there.get(key), wanted.get(key), f"{path}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differing += differences(old, new, f"{name}.")
        elif old != new:
            differing.append(f"{name} ({_short(old)}, not {_short(new)})")
    return differing


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StaleResultsError(f"{path} is no JSON document of results: {error}") from error
    if not isinstance(document, dict):
        raise StaleResultsError(f"{path} is no JSON document of results: expected an object")
    return document
