"""Whether the shards that an index of a checkpoint names are there: a download may have stopped."""

import json
import os
import posixpath
from collections.abc import Callable, Collection

from pbstore.folders.source import SourceFile, opened

INDEX = ".index.json"
MOST_BYTES = 64 << 20
"""A larger file is no index of shards."""
MOST_NAMED = 3
"""Missing shards that are named; the others are counted."""


def missing_shards(file: SourceFile, there: Collection[str], left_out: Callable[[str], bool]) -> list[str]:
    """Paths of shards that an index names and that are not there though others of it are.

    An index of which nothing is there is left of another form of the weights, which nobody fetched.

    Args:
        file: The index, or any other file, which names none.
        there: Paths of all files of the model.
        left_out: Whether a path is one that the caller does not want.
    """
    if not file.path.endswith(INDEX) or file.stamp.size > MOST_BYTES:
        return []
    with opened(file) as fd, os.fdopen(fd, "rb", closefd=False) as stream:
        named = _named(stream.read(MOST_BYTES))
    folder = posixpath.dirname(file.path)
    paths = sorted({posixpath.normpath(posixpath.join(folder, name)) for name in named})
    absent = [path for path in paths if path not in there]
    if len(absent) == len(paths):
        return []
    return [path for path in absent if not any(left_out(part) for part in _with_folders(path))]


def _with_folders(path: str) -> list[str]:
    """A path and those of the folders that it lies in."""
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _named(text: bytes) -> set[str]:
    """Files that an index maps weights to; none if it is no index."""
    try:
        found = json.loads(text)["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
    return {name for name in found if isinstance(name, str)}


def told(path: str, missing: list[str]) -> str:
    """What is wrong, in one line."""
    more = f", and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    names = ", ".join(missing[:MOST_NAMED])
    return f"{path} names shards that are not there: {names}{more} (a download that stopped?)"
