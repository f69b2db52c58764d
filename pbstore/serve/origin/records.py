"""The small objects of an origin: models, generations of names, leases, and what is marked for deletion.

    ORIGIN.json                     format and version
    packs/HASH-WRITER.pack          see `pack`
    manifests/HASH-WRITER.json      what files a model has, and their blocks
    names/ORG/MODEL/@GENERATION     the newest says what a name means: a manifest, and packs
    leases/WRITER/GENERATION        a writer at work; each renewal is one more object
    trash/MARK/marked               keys that nobody named when a collection looked
    trash/MARK/waits                writers that were at work then, and may still name them

All are canonical JSON. None is ever changed: what changes is which object is the newest.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from pbstore.errors import ManifestError
from pbstore.manifest import MAX_MANIFEST_BYTES, Manifest, check_name
from pbstore.serve.origin.errors import RecordError

FORMAT_KEY = "ORIGIN.json"
PACKS, MANIFESTS, NAMES, LEASES, TRASH = "packs/", "manifests/", "names/", "leases/", "trash/"
DIGITS = 10
"""Of a generation in a key: sorted by key is sorted by number."""
_WRITER = re.compile(r"[0-9a-f]{16}")
_OBJECT = re.compile(r"(packs|manifests)/[0-9a-f]{32}-[0-9a-f]{16}\.(pack|json)")


def as_json(tree: Mapping[str, Any]) -> bytes:
    """Canonical JSON."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def format_record() -> bytes:
    """What makes a folder or a prefix an origin."""
    return as_json({"format": "pbstore-origin", "version": 1})


def read_json(key: str, data: bytes) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        RecordError: If it is anything else.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise RecordError(key, f"{len(data)} bytes, expected at most {MAX_MANIFEST_BYTES}")
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError(key, f"not JSON: {str(error)[:100]}") from None
    if not isinstance(tree, dict):
        raise RecordError(key, "expected a JSON object")
    return tree


def check_object_key(key: object) -> str:
    """Check that a key is one of a pack or of a manifest: nothing else is ever marked or deleted by its name.

    Raises:
        RecordError: If it is not.
    """
    if not isinstance(key, str) or not _OBJECT.fullmatch(key):
        raise RecordError(str(key)[:80], "expected the key of a pack or of a manifest")
    return key


def writer_of(key: str) -> str:
    """The writer in the key of a pack or a manifest."""
    return check_object_key(key).rsplit("-", 1)[1].split(".")[0]


def check_writer(writer: object, key: str) -> str:
    """Check the name of a writer.

    Raises:
        RecordError: If it is none.
    """
    if not isinstance(writer, str) or not _WRITER.fullmatch(writer):
        raise RecordError(key, f"expected a writer of 16 hex digits, got {str(writer)[:40]!r}")
    return writer


def encode_manifest(manifest: Manifest, writer: str) -> tuple[str, bytes]:
    """Key and bytes of a manifest. `writer` goes into the key: no two writers ever write the same object."""
    data = manifest.to_json().encode()
    return f"{MANIFESTS}{blake3(data).hexdigest(length=16)}-{writer}.json", data


def decode_manifest(key: str, data: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        RecordError: If the bytes do not hash to the key, or break a rule.
    """
    check_object_key(key)
    if blake3(data).hexdigest(length=16) != key.removeprefix(MANIFESTS).split("-")[0]:
        raise RecordError(key, "its bytes do not hash to its key")
    try:
        return Manifest.from_json(data)
    except ManifestError as error:
        raise RecordError(key, str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRecord:
    """What a name means since one generation: a model, or one that was removed."""

    name: str
    generation: int
    """From 1 on; the highest counts."""
    manifest: str
    """Key of the manifest."""
    packs: tuple[str, ...]
    """Keys of the packs that together hold all of its blocks, and what these need."""
    removed: bool = False
    """Whether it is in the trash: it can be restored until a collection lets go of it."""

    @property
    def key(self) -> str:
        """Key of the object."""
        return f"{NAMES}{self.name}/@{self.generation:0{DIGITS}d}"

    @property
    def keys(self) -> frozenset[str]:
        """All objects that it names."""
        return frozenset((self.manifest, *self.packs))

    def encode(self) -> bytes:
        """Its bytes."""
        return as_json({"manifest": self.manifest, "packs": sorted(self.packs), "removed": self.removed})

    @classmethod
    def decode(cls, key: str, data: bytes) -> "NameRecord":
        """Read and check one.

        Raises:
            RecordError: If it breaks a rule.
        """
        name, generation = split_name_key(key)
        tree = read_json(key, data)
        packs, removed = tree.get("packs"), tree.get("removed")
        if not isinstance(packs, list) or not isinstance(removed, bool):
            raise RecordError(key, "expected a list of packs and whether it is removed")
        return cls(
            name=name,
            generation=generation,
            manifest=check_object_key(tree.get("manifest")),
            packs=tuple(map(check_object_key, packs)),
            removed=removed,
        )


def split_name_key(key: str) -> tuple[str, int]:
    """Name and generation of the key of a name.

    Raises:
        RecordError: If it is no such key.
    """
    name, _, number = key.removeprefix(NAMES).rpartition("/@")
    if not key.startswith(NAMES) or not re.fullmatch(rf"[0-9]{{{DIGITS}}}", number):
        raise RecordError(key, "expected names/ORG/MODEL/@GENERATION")
    try:
        return check_name(name), int(number)
    except ManifestError as error:
        raise RecordError(key, str(error)) from None
