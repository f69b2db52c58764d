"""Leases: a writer's claim that its objects are about to be named, and the one place where it can lose it.

A lease is a row of create-only objects, `leases/WRITER/1, 2, ...`; the newest counts. The writer creates the
next one to renew it, or to commit: then it has the name that is about to be published. A collection that has
waited for too long creates the next one to take the lease over. Exactly one of them gets it, so a writer that
was stopped, however long, cannot publish what was deleted meanwhile: no clock decides what is safe, only how
long a collection waits. The object that took a lease over stays for good.
"""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from pbstore.serve.origin.errors import LeaseLostError, RecordError
from pbstore.serve.origin.objects import Meta, Objects
from pbstore.serve.origin.records import DIGITS, LEASES, NameRecord, as_json, check_writer, read_json

LEASE_S = 900.0
"""A collection waits this long for a writer that gives no sign of life, s."""
State = Literal["open", "commit", "over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """The newest object of a lease."""

    writer: str
    number: int
    state: State
    """Open: at work; commit: publishes `publishes`; over: it was taken over."""
    lease_s: float = LEASE_S
    """It runs out this long after this object was created, s."""
    publishes: NameRecord | None = None
    modified_s: float = 0.0
    """When it was created, by the clock of the object store."""

    @property
    def key(self) -> str:
        """Key of the object."""
        return f"{LEASES}{self.writer}/{self.number:0{DIGITS}d}"

    def encode(self) -> bytes:
        """Its bytes."""
        published = self.publishes
        names = None if published is None else [published.key, published.encode().decode()]
        return as_json({"state": self.state, "lease_s": self.lease_s, "publishes": names})

    @classmethod
    def decode(cls, key: str, data: bytes, modified_s: float) -> "LeaseRecord":
        """Read and check one.

        Raises:
            RecordError: If it breaks a rule.
        """
        writer, number = split_lease_key(key)
        tree = read_json(key, data)
        state, lease_s, names = tree.get("state"), tree.get("lease_s"), tree.get("publishes")
        if state not in ("open", "commit", "over") or not isinstance(lease_s, int | float):
            raise RecordError(key, "not a lease")
        publishes = None
        if state == "commit":
            if not isinstance(names, list) or [type(one) for one in names] != [str, str]:
                raise RecordError(key, "a commit without what it publishes")
            publishes = NameRecord.decode(names[0], names[1].encode())
        return cls(
            writer=writer,
            number=number,
            state=state,
            lease_s=float(lease_s),
            publishes=publishes,
            modified_s=modified_s,
        )


def split_lease_key(key: str) -> tuple[str, int]:
    """Writer and number of the key of a lease.

    Raises:
        RecordError: If it is no such key.
    """
    writer, _, number = key.removeprefix(LEASES).partition("/")
    if len(number) != DIGITS or not number.isdecimal():
        raise RecordError(key, "expected leases/WRITER/NUMBER")
    return check_writer(writer, key), int(number)


class Lease:
    """The lease of one writer, from its start to its commit or its end; for one thread at a time."""

    def __init__(self, objects: Objects, lease_s: float = LEASE_S) -> None:
        if not lease_s > 0:
            raise ValueError(f"lease_s must be > 0, got {lease_s}")
        self._objects = objects
        writer = secrets.token_hex(8)  # not of a seeded generator: no two writers anywhere may have the same
        self._newest = LeaseRecord(writer=writer, number=1, state="open", lease_s=lease_s)
        self._renewed_s = time.monotonic()
        self._create(self._newest)

    @property
    def writer(self) -> str:
        """The writer's name."""
        return self._newest.writer

    def renew(self) -> None:
        """Give a sign of life, if the last one is older than a quarter of what the lease lasts.

        Raises:
            LeaseLostError: If it was taken over.
        """
        if time.monotonic() - self._renewed_s > self._newest.lease_s / 4:
            self._next("open", None)

    def commit(self, record: NameRecord) -> None:
        """Say what will be published; after this nothing can take the lease away before it is.

        Raises:
            LeaseLostError: If it was taken over.
        """
        self._next("commit", record)

    def end(self) -> None:
        """Give the lease back: what was committed is published, or nothing ever will be."""
        keys = [replace(self._newest, number=n + 1).key for n in range(self._newest.number)]
        self._objects.delete(keys)

    def _next(self, state: State, publishes: NameRecord | None) -> None:
        self._renewed_s = time.monotonic()
        after = self._newest.number + 1
        self._create(replace(self._newest, number=after, state=state, publishes=publishes))

    def _create(self, record: LeaseRecord) -> None:
        if not self._objects.create(record.key, record.encode()):
            raise LeaseLostError(self._objects.url, record.writer)
        self._newest = record


def newest_leases(objects: Objects) -> Iterator[LeaseRecord]:
    """The newest object of each lease that is there; those that end meanwhile are left out."""
    listed = sorted(objects.list(LEASES), key=lambda one: one.key)
    for _, same in groupby(listed, key=lambda one: split_lease_key(one.key)[0]):
        newest = _read(objects, list(same)[-1])
        if newest is not None:
            yield newest


def _read(objects: Objects, meta: Meta) -> LeaseRecord | None:
    try:
        return LeaseRecord.decode(meta.key, objects.read(meta.key), meta.modified_s)
    except FileNotFoundError:
        return None


def close_lease(objects: Objects, lease: LeaseRecord) -> bool:
    """Take a lease over that has run out; publish what its writer had committed, as the writer would have.

    Returns:
        Whether it is over: False if its writer gave a sign of life in the last moment.
    """
    if lease.publishes is not None:
        objects.create(lease.publishes.key, lease.publishes.encode())  # or a newer content has its place
    else:
        over = replace(lease, number=lease.number + 1, state="over")
        if not objects.create(over.key, over.encode()):
            return _is_over(objects, over.key)
    objects.delete([replace(lease, number=n + 1).key for n in range(lease.number)])
    return True


def _is_over(objects: Objects, key: str) -> bool:
    """Whether another collection has taken the lease over, or the lease is gone."""
    try:
        return LeaseRecord.decode(key, objects.read(key), 0.0).state == "over"
    except FileNotFoundError:
        return True
