"""Sockets that a server listens at: an address, or a file that only the user can open."""

import ipaddress
import os
import socket
import stat
from pathlib import Path

from pbstore.errors import ServerStartError

LOOPBACK = "127.0.0.1"
_BACKLOG = 2048
_DOORS = 16


def listen(host: str = LOOPBACK, port: int = 0) -> socket.socket:
    """A socket that takes connections; port 0 for one that is free.

    Raises:
        ServerStartError: If the address is unknown or taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(_BACKLOG)
        except BaseException:
            opened.close()
            raise
    except (OSError, OverflowError) as error:
        raise ServerStartError(f"{host}:{port}", str(error)) from None
    return opened


def listen_unix(path: Path) -> socket.socket:
    """A socket file that takes connections of this user only; one that a dead server left is replaced.

    Raises:
        ServerStartError: If the path is too long, or something else lies there, or a server listens at it.
    """
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() or path.is_symlink():
            _remove_dead(path)
        before = os.umask(0o177)
        try:
            opened.bind(str(path))
        finally:
            os.umask(before)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise ServerStartError(str(path), str(error)) from None
    except BaseException:
        opened.close()
        raise
    return opened


def _remove_dead(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ServerStartError(str(path), "something else than a socket lies there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ServerStartError(str(path), "another server listens there")


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[4][0]).is_loopback for address in found)


def doors(opened: socket.socket) -> list[socket.socket]:
    """A listening socket several times: uvloop takes one connection of each in one turn of its loop."""
    return [opened, *(opened.dup() for _ in range(_DOORS - 1))]


def url_of(opened: socket.socket) -> str:
    """Address of a listening socket."""
    if opened.family == socket.AF_UNIX:
        return f"unix:{opened.getsockname()}"
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
