"""Ports for servers that start later, or again, at an address that was told before."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

_LOWEST, _HIGHEST = 12_000, 32_000
"""Below those that Linux takes by itself (32768 and up): no connection of another test has one meanwhile."""


def _ports() -> Iterator[int]:
    """All of them again and again; each process begins elsewhere."""
    begin = os.getpid() * 97
    while True:
        yield from (_LOWEST + (begin + number) % (_HIGHEST - _LOWEST) for number in range(_HIGHEST - _LOWEST))


_NEXT = _ports()


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses, no two alike, and none that was asked for before."""
    free: list[int] = []
    with ExitStack() as stack:
        while len(free) < count:
            port, probe = next(_NEXT), stack.enter_context(socket.socket(socket.AF_INET, kind))
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            free.append(port)
    return free
