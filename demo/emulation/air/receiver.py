"""The receiving end, without a socket: datagrams in, answers out, whole objects to their user."""

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.emulation.air.cast import Heard, OnObject
from demo.emulation.air.coding import MAX_SYMBOL
from demo.emulation.air.loss import key_of, lost
from demo.emulation.air.reception import Reception
from demo.emulation.air.wire import (
    HEADER_BYTES,
    Announcement,
    Bytes,
    Description,
    Kind,
    State,
    Status,
    as_rows,
    checks,
    headers,
    read_announcement,
    status,
)

_log = logging.getLogger(__name__)
_KEPT_ANSWERS = 1024
_Key = tuple[Hashable, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverLimits:
    """What a receiver lets others make it keep."""

    object_bytes: int = 1 << 40
    """Largest object, bytes; larger ones are refused."""
    memory_bytes: int = 8 << 20
    """Objects up to this size are kept in memory, larger ones on disk."""
    window_bytes: int = 32 << 20
    """Half pieces of one object that are kept in memory; more go to disk."""
    objects: int = 8
    """Broadcasts at once; the one not announced or polled for longest gives way."""


@dataclass(slots=True)
class _Open:
    """A broadcast that is being received."""

    what: Description
    reception: Reception
    since: float
    last: float


@dataclass(slots=True, kw_only=True)
class Losses:
    """Datagrams that came to nothing."""

    lost: int = 0
    """By the user's own loss."""
    damaged: int = 0
    """Whose check does not fit, or that say what cannot be."""
    unknown: int = 0
    """Of broadcasts that were not announced (to this user) or are over."""


class Receiver:
    """One user's device: gathers what is addressed to it, checks it, hands it on. For one thread."""

    def __init__(
        self,
        user: int,
        on_object: OnObject,
        *,
        folder: Path | None = None,
        seed: int = 0,
        wants: Callable[[str, int], bool] | None = None,
        limits: ReceiverLimits | None = None,
    ) -> None:
        """Make a receiver; a channel's `join` connects it.

        Args:
            user: Whose it is, 0 .. 65535.
            on_object: Called by `hand_over` when an object is whole and hashes to its id, once for all
                broadcasts that brought it. The sender has been told by then: what it raises is logged.
            folder: Where large objects are spooled; None: the system's folder for temporary files.
            seed: Of the datagrams that are lost.
            wants: Of object id and size, whether to receive it; None: everything addressed to the user.
            limits: What it keeps at most.
        """
        if not 0 <= user < 2**16:
            raise ValueError(f"user must be in 0 .. 65535, got {user}")
        self.user, self.losses = user, Losses()
        self.clock: Callable[[], float] = time.monotonic
        self._on_object, self._wants, self._folder = on_object, wants, folder
        self._limits, self._key = limits or ReceiverLimits(), key_of(seed, user)
        self._arrived, self._change = 0.0, threading.Condition()
        self._whole: list[Heard] = []
        self._open: OrderedDict[_Key, _Open] = OrderedDict()
        self._over: OrderedDict[_Key, Status] = OrderedDict()

    def hear(
        self, data: bytes | memoryview, segment: int, source: Hashable = None, arrived: float | None = None
    ) -> list[bytes]:
        """Take datagrams of `segment` bytes each (the last may be shorter) from one sender.

        Args:
            data: The datagrams one after another, whatever is in them.
            segment: Their length, >= 1.
            source: Who sent them; a broadcast listens to its own sender only.
            arrived: When, on the receiver's clock; None: now.

        Returns:
            Answers for that sender.
        """
        if not data or segment < 1:
            return []
        self._arrived = self.clock() if arrived is None else arrived
        rows, answers = as_rows(data, segment), list[bytes]()
        if rows.shape[1] < HEADER_BYTES:
            self.losses.damaged += len(rows)
            return []
        heads, sums = headers(rows), checks(rows)
        lengths = np.full(len(rows), segment)
        lengths[-1] = len(data) - (len(rows) - 1) * segment
        fine = (sums == heads["check"]) & (lengths >= HEADER_BYTES)
        self.losses.damaged += int(np.count_nonzero(~fine))
        names = np.stack([rows[:, :8].copy().view("<u8")[:, 0], heads["symbol"].astype(np.uint64)], axis=1)
        for begin, end in _runs(names[:, 0], fine):
            head, key = heads[begin], (source, int(heads[begin]["cast"]))
            if head["kind"] == Kind.SYMBOL:
                answers += self._symbols(key, rows[begin:end], lengths[begin:end], names[begin:end])
                continue
            for row, length, name in zip(rows[begin:end], lengths[begin:end], names[begin:end], strict=True):
                answers += self._told(key, row[:length].tobytes(), name[None])
        return answers

    def hand_over(self) -> None:
        """Call `on_object` for what has become whole, after its answers were sent: nobody waits for it."""
        while self._whole:
            heard = self._whole[0]
            try:
                self._on_object(heard)
            except Exception:
                _log.exception("user %d could not keep object %s", self.user, heard.object_id[:12])
            with self._change:
                del self._whole[0]
                self._change.notify_all()

    def settle(self, patience_s: float) -> bool:
        """Wait until everything that was reported as here is handed over; for any thread.

        Returns:
            Whether it was in time.
        """
        with self._change:
            return self._change.wait_for(lambda: not self._whole, patience_s)

    def close(self) -> None:
        """Forget what is half here."""
        for one in self._open.values():
            one.reception.drop()
        self._open.clear()

    def _told(self, key: _Key, data: bytes, name: NDArray[np.uint64]) -> Iterator[bytes]:
        """Take an announcement or a poll."""
        told = read_announcement(data)
        if told is None:
            self.losses.damaged += 1
            return
        share = told.description.users.get(self.user)
        if share is None:
            return
        if lost(self._key, share, name)[0]:
            self.losses.lost += 1
            return
        if key not in self._over:
            self._begin(key, told)
        if told.kind is Kind.POLL and told.description.feedback:
            yield from self._answer(key, told)

    def _begin(self, key: _Key, told: Announcement) -> None:
        what, now = told.description, self._arrived
        if key not in self._open:
            if what.size_bytes > self._limits.object_bytes or not self._wanted(what):
                self._end(key, State.REFUSED)
                return
            self._open[key] = _Open(what, self._reception(what), now, now)
            self._make_room()
        one = self._open[key]
        self._open.move_to_end(key)
        if told.piece_hash is not None and one.what == what:
            one.reception.expect(told.piece, told.piece_hash)

    def _wanted(self, what: Description) -> bool:
        return self._wants is None or self._wants(what.object_id.hex(), what.size_bytes)

    def _reception(self, what: Description) -> Reception:
        """A new one, or what another broadcast of the same object has brought so far."""
        cut = (what.object_id, what.size_bytes, what.piece_bytes, what.symbol_bytes)
        for one in self._open.values():
            if (one.what.object_id, one.what.size_bytes, one.what.piece_bytes, one.what.symbol_bytes) == cut:
                return one.reception
        return Reception(what, self._folder, self._limits.memory_bytes, self._limits.window_bytes)

    def _make_room(self) -> None:
        while len(self._open) > self._limits.objects:
            self._forget(next(iter(self._open)))

    def _forget(self, key: _Key) -> None:
        gone = self._open.pop(key)
        if all(one.reception is not gone.reception for one in self._open.values()):
            gone.reception.drop()

    def _answer(self, key: _Key, poll: Announcement) -> Iterator[bytes]:
        if key in self._over:
            yield status(replace(self._over[key], number=poll.number))
            return
        needs = self._open[key].reception.needs(min(poll.piece, self._open[key].what.num_pieces))
        if needs or poll.must_answer:
            yield status(
                Status(
                    cast=key[1],
                    user=self.user,
                    state=State.LACKS,
                    number=poll.number,
                    since_last_us=0,
                    needs=needs,
                )
            )

    def _symbols(
        self, key: _Key, rows: Bytes, lengths: NDArray[np.int64], names: NDArray[np.uint64]
    ) -> list[bytes]:
        """Take symbols of one piece."""
        one, piece = self._open.get(key), int(headers(rows[:1])[0]["piece"])
        if one is None:
            self.losses.unknown += len(rows)
            return []
        which = names[:, 1].astype(np.uint32)
        gone = lost(self._key, one.what.users[self.user], names)
        whole = lengths == _lengths(one.what, piece, which)
        self.losses.lost += int(np.count_nonzero(gone))
        self.losses.damaged += int(np.count_nonzero(~whole))
        kept = whole & ~gone
        if not kept.any():
            return []
        one.last = self._arrived
        try:
            whole_now = one.reception.add(piece, which[kept], _bodies(rows, kept, one.what.symbol_bytes))
            return self._finish(key, one) if whole_now and one.reception.complete else []
        except OSError:
            _log.exception("user %d cannot spool object %s", self.user, one.what.object_id.hex()[:12])
            self._forget(key)
            self._end(key, State.REFUSED)
            return []

    def _finish(self, key: _Key, one: _Open) -> list[bytes]:
        """Hand a whole object on, and say so."""
        kept = one.reception.finish()
        if kept is None:
            return []
        data, path = kept
        heard = Heard(
            user=self.user,
            cast_id=key[1],
            object_id=one.what.object_id.hex(),
            size_bytes=one.what.size_bytes,
            path=path,
            data=data,
            seconds=one.last - one.since,
            last_bit_at=one.last,
        )
        with self._change:
            self._whole.append(heard)
        since_last_us = max(0, round(1e6 * (self.clock() - one.last)))
        same = [other for other, it in self._open.items() if it.reception is one.reception]
        for other in same:
            self._end(other, State.DONE, since_last_us)
        return [status(self._over[key])] if one.what.feedback else []

    def _end(self, key: _Key, state: State, since_last_us: int = 0) -> None:
        self._open.pop(key, None)
        self._over[key] = Status(
            cast=key[1], user=self.user, state=state, number=0, since_last_us=since_last_us, needs={}
        )
        while len(self._over) > _KEPT_ANSWERS:
            self._over.popitem(last=False)


def _runs(names: NDArray[np.uint64], fine: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Stretches of fine rows with one kind, copy, piece and broadcast."""
    cuts = np.flatnonzero((names[1:] != names[:-1]) | (fine[1:] != fine[:-1])) + 1
    edges = [0, *cuts.tolist(), len(names)]
    return ((begin, end) for begin, end in itertools.pairwise(edges) if fine[begin])


def _lengths(what: Description, piece: int, which: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Bytes that a datagram of each symbol has; 0: there is no such symbol."""
    if piece >= what.num_pieces:
        return np.zeros(len(which), np.int64)
    last = what.num_symbols(piece) - 1
    full, short = HEADER_BYTES + what.symbol_bytes, what.length(piece) - last * what.symbol_bytes
    return np.where(which == last, HEADER_BYTES + short, np.where(which < MAX_SYMBOL, full, 0))


def _bodies(rows: Bytes, kept: NDArray[np.bool_], symbol_bytes: int) -> Bytes:
    """Symbols of the kept rows, (kept, symbol_bytes), short ones filled with zeros."""
    bodies = rows[:, HEADER_BYTES:] if kept.all() else rows[kept, HEADER_BYTES:]
    if bodies.shape[1] >= symbol_bytes:
        return bodies[:, :symbol_bytes]
    padded = np.zeros((len(bodies), symbol_bytes), np.uint8)
    padded[:, : bodies.shape[1]] = bodies
    return padded
