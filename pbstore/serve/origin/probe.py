"""What an origin needs of an endpoint, tried out at start: some answer as if they did it, and do not."""

import secrets
import threading
from dataclasses import dataclass

from pbstore.pool import Pool, in_order
from pbstore.serve.origin.errors import OriginError, UnfitEndpointError
from pbstore.serve.origin.objects import Objects

RACERS = 4
"""Writers that create one object at the same time."""
_BYTES = bytes(range(256)) * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried."""

    name: str
    ok: bool
    said: str
    """What was found, for people."""


def probe(objects: Objects) -> list[Check]:
    """Try out all that an origin is built on; what is created for it is deleted again.

    Create-only puts have exactly one winner and leave the first object as it is; ranges are the right bytes
    and no more; what was created is listed at once, and what was deleted is not.
    """
    prefix = f"probe/{secrets.token_hex(8)}/"
    tries = [("reach", _reach), ("create-only", _create_only), ("ranges", _ranges), ("listing", _listing)]
    checks: list[Check] = []
    try:
        for name, attempt in tries:
            try:
                checks.append(Check(name=name, ok=True, said=attempt(objects, prefix)))
            except (OriginError, FileNotFoundError) as error:
                said = error.why if isinstance(error, OriginError) else str(error).split("\n")[0]
                checks.append(Check(name=name, ok=False, said=said))
                if name == "reach":
                    break
    finally:
        if checks and checks[0].ok:
            objects.delete([f"{prefix}{name}" for name in ("reach", "race", "range", "listed")])
    return checks


def require_fit(objects: Objects) -> None:
    """Refuse an endpoint that does not do what an origin is built on.

    Raises:
        UnfitEndpointError: With the first thing that it does not do.
    """
    for check in probe(objects):
        if not check.ok:
            raise UnfitEndpointError(objects.url, check.said)


def _unfit(objects: Objects, why: str) -> UnfitEndpointError:
    return UnfitEndpointError(objects.url, why)


def _reach(objects: Objects, prefix: str) -> str:
    objects.create(f"{prefix}reach", _BYTES)
    if objects.read(f"{prefix}reach") != _BYTES:
        raise _unfit(objects, "an object came back with other bytes")
    return "writes and reads"


def _create_only(objects: Objects, prefix: str) -> str:
    key, start = f"{prefix}race", threading.Barrier(RACERS)

    def create(number: int) -> bool:
        start.wait(30.0)
        return objects.create(key, bytes([number]) * 100)

    pool = Pool(RACERS, "pbcast-probe")
    try:
        won = list(in_order(pool, create, range(RACERS)))
    finally:
        pool.shutdown()
    later = objects.create(key, b"later")
    if won.count(True) != 1 or later or objects.read(key) != bytes([won.index(True)]) * 100:
        raise _unfit(
            objects,
            f"create-only puts (If-None-Match: *) are not exclusive: {won.count(True) + later} of "
            f"{RACERS + 1} writers of one object were told that they created it",
        )
    return f"1 winner of {RACERS + 1}"


def _ranges(objects: Objects, prefix: str) -> str:
    key = f"{prefix}range"
    objects.create(key, _BYTES)
    for start, stop in ((0, 1), (1000, 3000), (len(_BYTES) - 7, len(_BYTES))):
        try:
            found = objects.read_range(key, start, stop)
        except OriginError as error:
            raise _unfit(objects, f"a range request fails: {error.why}") from None
        if found != _BYTES[start:stop]:
            raise _unfit(
                objects, f"a range of {stop - start} bytes came back as {len(found)} others: no 206 with it"
            )
    return "206 with the right bytes"


def _listing(objects: Objects, prefix: str) -> str:
    key = f"{prefix}listed"
    for there in (True, False):
        if there:
            objects.create(key, b"x")
        else:
            objects.delete([key])
        if (key in {one.key for one in objects.list(prefix)}) != there:
            raise _unfit(
                objects, f"a listing does not show at once what was {'crea' if there else 'dele'}ted"
            )
    return "shows at once what is there"
