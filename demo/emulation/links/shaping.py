"""Queues of one interface: a token bucket, or classes by size and sender; rates can change in use."""

import struct
from collections.abc import Mapping

from pyroute2 import IPRoute

_ROOT, _FAST, _INNER, _SMALL, _FIRST_SLOW = 0x10000, 0x10001, 0x10002, 0x10003, 0x10010
_SMALL_SHARE = 0.1
"""Of the rate, for packets below 1 KiB: they may borrow the rest, and go first."""
_SMALL_KEY = "0x00000000/0x0000fc00+0"
"""An IPv4 packet whose total length is below 1024 bytes: questions and answers between roles."""
_LEAST_BURST_BYTES = 1 << 14
_BURST_S = 1e-3
"""What a class may send at once, s of its rate: the kernel wakes it by a timer finer than its tick."""
_GSO_BYTES = 1 << 16
_TICK_S = 1 / 250
"""Burst at least so long: the kernel's timer tick, s."""
_QUEUE_S = 0.1
_LEAST_QUEUE_BYTES = 4 << 20
_SOURCE_AT, _IPV4 = 12, 0x0800
"""Where the sender's address is in an IPv4 header."""


def burst_bytes(bit_s: float) -> int:
    """Bytes that may leave a token bucket at once: two of the largest buffers, or a tick of the rate."""
    return max(2 * _GSO_BYTES, int(bit_s * _TICK_S / 8))


def queue_bytes(bit_s: float) -> int:
    """Bytes that may wait: 0.1 s of the rate, at least 4 MiB."""
    return max(_LEAST_QUEUE_BYTES, int(bit_s * _QUEUE_S / 8))


def shape_up(route: IPRoute, index: int, bit_s: float, *, change: bool = False) -> None:
    """Let an interface send at a rate, by a token bucket.

    Raises:
        NetlinkError: If the kernel has no tbf.
    """
    rate = {"rate": int(bit_s / 8), "burst": burst_bytes(bit_s), "limit": queue_bytes(bit_s)}
    route.tc("change" if change else "add", "tbf", index, _ROOT, **rate)


def shape_down(
    route: IPRoute, index: int, bit_s: float, slower_from: Mapping[str, float], *, change: bool = False
) -> None:
    """Let an interface send at a rate, and what comes from some addresses at lower ones within it.

    Small packets go first: behind half a megabyte of a block on a slow link a question between roles would
    wait for longer than the work that it is about.

    Raises:
        NetlinkError: If the kernel has no htb or u32.
    """
    verb = "change-class" if change else "add-class"
    if not change:
        route.tc("add", "htb", index, _ROOT, default=_INNER & 0xFFFF)
    _class(route, verb, index, _FAST, _ROOT, bit_s, bit_s)
    _class(route, verb, index, _INNER, _FAST, (1.0 - _SMALL_SHARE) * bit_s, bit_s)
    _class(route, verb, index, _SMALL, _FAST, _SMALL_SHARE * bit_s, bit_s, prio=0)
    if not change:
        _filter(route, index, 1, _SMALL, _SMALL_KEY)
    for number, (address, slow) in enumerate(sorted(slower_from.items())):
        _class(route, verb, index, _FIRST_SLOW + number, _FAST, slow, slow)
        if not change:
            _filter(route, index, 2, _FIRST_SLOW + number, f"{_word(address):#010x}/0xffffffff+{_SOURCE_AT}")


def _filter(route: IPRoute, index: int, prio: int, target: int, key: str) -> None:
    options = {"parent": _ROOT, "prio": prio, "protocol": _IPV4, "target": target, "keys": [key]}
    route.tc("add-filter", "u32", index, **options)


def _class(
    route: IPRoute,
    verb: str,
    index: int,
    handle: int,
    parent: int,
    rate: float,
    ceiling: float,
    *,
    prio: int = 1,
) -> None:
    burst = max(_LEAST_BURST_BYTES, int(ceiling * _BURST_S / 8))
    rates = {"rate": int(rate / 8), "ceil": int(ceiling / 8), "burst": burst, "cburst": burst}
    route.tc(verb, "htb", index, handle, parent=parent, quantum=_GSO_BYTES, prio=prio, **rates)


def _word(address: str) -> int:
    return int(struct.unpack(">I", bytes(map(int, address.split("."))))[0])
