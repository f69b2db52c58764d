"""What the tests of the air share: bytes, receivers that collect, and datagrams spoiled on their way."""

import random
from collections.abc import Mapping
from typing import TypedDict, Unpack

import numpy as np

from demo.emulation.air import AirSettings, BytesPayload, Cast, Heard, MemoryChannel, Receiver, Sent

SMALL = AirSettings(mtu_bytes=300, piece_bytes=20_000)
"""Short symbols and pieces: many of both in few bytes."""


class CastKeywords(TypedDict, total=False):
    """The rest of a cast."""

    feedback: bool
    resume: bool


def some_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def cast_of(
    data: bytes,
    users: int,
    loss: float | Mapping[int, float] = 0.0,
    cast_id: int = 1,
    **more: Unpack[CastKeywords],
) -> Cast:
    by_user = loss if isinstance(loss, Mapping) else dict.fromkeys(range(users), loss)
    return Cast(
        cast_id=cast_id,
        payload=BytesPayload(data),
        users=frozenset(range(users)),
        rate_bit_s=1e8,
        loss=by_user,
        **more,
    )


class Spoil:
    """Drops, doubles, reorders and damages datagrams, by a seed."""

    def __init__(self, seed: int, share: float) -> None:
        self._rng, self._share = random.Random(seed), share

    def __call__(self, _user: int, datagrams: list[bytes]) -> list[bytes]:
        spoiled = []
        for one in datagrams:
            if self._rng.random() < self._share:
                continue
            spoiled += [one] * (1 + (self._rng.random() < self._share))
            if self._rng.random() < self._share:
                spoiled.append(self._damaged(one))
        if self._rng.random() < self._share:
            self._rng.shuffle(spoiled)
        return spoiled

    def _damaged(self, one: bytes) -> bytes:
        data, kind = bytearray(one), self._rng.randrange(3)
        if kind == 0:
            return one[: self._rng.randrange(len(one))]
        for _ in range(1 if kind == 1 else 40):
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return bytes(data)


def deliver(
    cast: Cast, *, seed: int = 0, settings: AirSettings = SMALL, spoil: Spoil | None = None
) -> tuple[Sent, dict[int, list[bytes]]]:
    """Broadcast to the users of a cast; what was sent, and all that each of them was handed."""
    channel, got = MemoryChannel(settings, spoil), dict[int, list[bytes]]()

    def keep(heard: Heard) -> None:
        got.setdefault(heard.user, []).append(heard.read())
        if heard.path is not None:
            heard.path.unlink()

    for user in sorted(cast.users):
        channel.join(Receiver(user, keep, seed=seed))
    sent = channel.send(cast)
    channel.close()
    return sent, got
