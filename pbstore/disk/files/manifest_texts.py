"""Texts of manifests, wherever they lie: in files of their own, in sheaves, or waiting for their place."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pbstore.disk.files import sheaf
from pbstore.disk.files.layout import Layout


def of_file(layout: Layout, file: str, place: str) -> Iterator[bytes]:
    """What lies where a manifest may be: a writer may be putting it elsewhere meanwhile.

    Args:
        layout: The store.
        file: What the manifest is called.
        place: Where the index says that it lies: that file, or a sheaf.
    """
    path = layout.manifests / file
    likely = [path, layout.waiting(path), path]
    if place != file:
        gathered = layout.manifests / place
        likely = [gathered, layout.waiting(gathered), *likely, gathered]
    for one in likely:
        yield from _at(one, file)
    for one in reversed(layout.sheaf_files()):
        yield from _at(one, file)


def in_sheaves(layout: Layout) -> Iterator[tuple[Path, str]]:
    """All members of all sheaves, the newest sheaf first: the sheaf's file, and what a manifest is called."""
    for path in reversed(layout.sheaf_files()):
        with suppress(FileNotFoundError):
            yield from ((path, file) for file in sheaf.read(path))


def _at(path: Path, file: str) -> Iterator[bytes]:
    with suppress(FileNotFoundError):
        text = sheaf.read(path).text(file) if sheaf.is_sheaf(_own_name(path)) else path.read_bytes()
        if text is not None:
            yield text


def _own_name(path: Path) -> str:
    return path.name.removeprefix(".new-")
