"""Queues of one interface: a token bucket, or classes by sender; rates can change while packets flow."""

import struct
from collections.abc import Mapping

from pyroute2 import IPRoute

_ROOT, _FAST, _FIRST_SLOW = 0x10000, 0x10001, 0x10010
_INNER = 0x10002
_GSO_BYTES = 1 << 16
_TICK_S = 1 / 250
"""Burst at least so long: the kernel's timer tick, s."""
_QUEUE_S = 0.1
_LEAST_QUEUE_BYTES = 4 << 20
_SOURCE_AT = 12
"""Where the sender's address is in an IPv4 header."""


def burst_bytes(bit_s: float) -> int:
    """Bytes that may leave at once: two of the largest buffers, or what the rate makes in a tick."""
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

    Raises:
        NetlinkError: If the kernel has no htb or u32.
    """
    verb = "change-class" if change else "add-class"
    if not change:
        route.tc("add", "htb", index, _ROOT, default=_INNER & 0xFFFF)
    _class(route, verb, index, _FAST, _ROOT, bit_s, bit_s)
    _class(route, verb, index, _INNER, _FAST, bit_s, bit_s)
    for number, (address, slow) in enumerate(sorted(slower_from.items())):
        _class(route, verb, index, _FIRST_SLOW + number, _FAST, slow, slow)
        if not change:
            keys = [f"{_word(address):#010x}/0xffffffff+{_SOURCE_AT}"]
            target = _FIRST_SLOW + number
            route.tc(
                "add-filter", "u32", index, parent=_ROOT, prio=1, protocol=0x0800, target=target, keys=keys
            )


def _class(
    route: IPRoute, verb: str, index: int, handle: int, parent: int, rate: float, ceiling: float
) -> None:
    burst, rate_bytes, ceil_bytes = burst_bytes(ceiling), int(rate / 8), int(ceiling / 8)
    route.tc(
        verb,
        "htb",
        index,
        handle,
        parent=parent,
        rate=rate_bytes,
        ceil=ceil_bytes,
        burst=burst,
        cburst=burst,
        quantum=_GSO_BYTES,
    )


def _word(address: str) -> int:
    return int(struct.unpack(">I", bytes(map(int, address.split("."))))[0])
