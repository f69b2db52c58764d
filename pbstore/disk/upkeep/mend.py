"""A lost or damaged STORE.json, written anew from the store's other parts."""

import json
from pathlib import Path

from pbstore.disk.files import pack
from pbstore.disk.files.layout import (
    DEFAULT_PACK_BYTES,
    VERSION,
    Layout,
    Settings,
    parse_settings,
    read_settings,
    write_settings,
)
from pbstore.disk.index import database
from pbstore.errors import IntegrityError, NotAStoreError


def mend_settings(path: str | Path) -> str | None:
    """Write a store's STORE.json anew if it is lost or damaged.

    Returns:
        What was done, for a person to read; None if there was nothing to do.

    Raises:
        NotAStoreError: If the folder does not look like a store, or is one of a later version.
    """
    layout = Layout(Path(path))
    try:
        read_settings(layout)
    except NotAStoreError as error:
        if not _has_parts(layout):
            raise
        copy = _copy_in_index(layout)
        if copy is None and _says_later(layout):
            raise
        settings = copy or Settings(pack_bytes=max(DEFAULT_PACK_BYTES, _longest_pack(layout)))
        write_settings(layout, settings)
        source = (
            "the copy in the index" if copy else "the defaults, without a capacity: `add --capacity` sets one"
        )
        return f"STORE.json was damaged ({error.why.split(':')[0]}): written anew from {source}"
    return None


def _has_parts(layout: Layout) -> bool:
    """Whether a folder has what only a store has: a pack, or an index of ours."""
    for number in pack.pack_numbers(layout.packs):
        with pack.pack_path(layout.packs, number).open("rb") as file:
            if file.read(len(pack.PACK_MAGIC)) == pack.PACK_MAGIC:
                return True
    return _copy_in_index(layout) is not None


def _copy_in_index(layout: Layout) -> Settings | None:
    """The settings as the last writer noted them; None if they cannot be read."""
    if not layout.index.exists():
        return None
    try:
        connection = database.connect(layout.index)
        try:
            text = database.get_meta(connection, database.SETTINGS)
        finally:
            connection.close()
        return None if text is None else parse_settings(text, str(layout.root))
    except (IntegrityError, NotAStoreError, OSError):
        return None


def _says_later(layout: Layout) -> bool:
    """Whether STORE.json is whole and of another version."""
    try:
        version = json.loads(layout.settings.read_bytes()[:65536]).get("version")
    except (OSError, ValueError, RecursionError, AttributeError):
        return False
    return isinstance(version, int) and version != VERSION


def _longest_pack(layout: Layout) -> int:
    paths = (pack.pack_path(layout.packs, number) for number in pack.pack_numbers(layout.packs))
    return max((path.stat().st_size for path in paths), default=0)
