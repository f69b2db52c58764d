"""What is marked for deletion. A key stays marked as long as it is there: no writer uses it anew."""

from collections.abc import Iterable
from dataclasses import dataclass

from pbstore.serve.origin.errors import RecordError
from pbstore.serve.origin.objects import Objects
from pbstore.serve.origin.records import TRASH, as_json, check_object_key, check_writer, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Keys that one collection marked."""

    mark: str
    keys: frozenset[str]
    modified_s: float
    """When it was created, by the clock of the object store."""
    waits: frozenset[str] | None
    """Writers that were at work when it was there; None if the collection died before it wrote them down."""

    @property
    def marked_key(self) -> str:
        """Key of the object with the keys."""
        return f"{TRASH}{self.mark}/marked"

    @property
    def waits_key(self) -> str:
        """Key of the object with the writers."""
        return f"{TRASH}{self.mark}/waits"


def mark(objects: Objects, name: str, keys: Iterable[str]) -> None:
    """Mark keys."""
    objects.create(f"{TRASH}{name}/marked", as_json({"keys": sorted(keys)}))


def note_waits(objects: Objects, batch: Batch, writers: Iterable[str]) -> None:
    """Write down which writers a batch waits for; whoever is first says it."""
    objects.create(batch.waits_key, as_json({"writers": sorted(writers)}))


def read_batches(objects: Objects) -> list[Batch]:
    """All batches that are there.

    Raises:
        RecordError: If one is damaged.
    """
    listed = {one.key: one.modified_s for one in objects.list(TRASH)}
    batches = []
    for key, modified_s in sorted(listed.items()):
        name, _, what = key.removeprefix(TRASH).partition("/")
        check_writer(name, key)
        try:
            if what == "marked":
                keys = frozenset(map(check_object_key, _texts(objects, key, "keys")))
                waits = _waits(objects, f"{TRASH}{name}/waits", listed)
                batches.append(Batch(mark=name, keys=keys, modified_s=modified_s, waits=waits))
        except FileNotFoundError:  # another collection has just come to its end
            continue
    return batches


def marked_keys(objects: Objects) -> frozenset[str]:
    """All keys that are marked."""
    return frozenset(key for batch in read_batches(objects) for key in batch.keys)


def _waits(objects: Objects, key: str, listed: dict[str, float]) -> frozenset[str] | None:
    if key not in listed:
        return None
    return frozenset(check_writer(one, key) for one in _texts(objects, key, "writers"))


def _texts(objects: Objects, key: str, field: str) -> list[str]:
    found = read_json(key, objects.read(key)).get(field)
    if not isinstance(found, list):
        raise RecordError(key, f"expected a list of {field}")
    return found
