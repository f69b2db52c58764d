"""UDP sockets that let the kernel cut and join datagrams where it can."""

import errno
import ipaddress
import socket
import struct
import sys
import time
from dataclasses import dataclass

from demo.emulation.air.sender import Batch
from demo.emulation.air.settings import AirSettings
from demo.emulation.air.wire import split

UDP_SEGMENT, UDP_GRO = 103, 104
"""Socket options of level SOL_UDP (linux/udp.h); the socket module has no names for them."""
_WAKE_S = 0.1
_BUSY_S = 0.001
_MOST_BYTES = 1 << 16
_Address = tuple[str, int]
_Notes = list[tuple[int, int, bytes]]
_TIMESTAMP = 35
"""SO_TIMESTAMPNS: when the kernel received a datagram, whenever the program gets to it."""
_TIMESPEC = struct.Struct("@qq")
_NOTES_BYTES = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(_TIMESPEC.size)


def is_group(address: str) -> bool:
    """Whether an IPv4 address is a multicast group."""
    return ipaddress.IPv4Address(address).is_multicast


def can_segment() -> bool:
    """Whether this kernel cuts one buffer into datagrams (Linux 4.18 and later)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return _try_option(one, UDP_SEGMENT, 1400)


def can_join() -> bool:
    """Whether this kernel joins datagrams of one sender into one buffer (Linux 5.0 and later)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return _try_option(one, UDP_GRO, 1)


class Outlet:
    """Sends batches to one address, and reads what comes back."""

    def __init__(self, target: _Address, interface: str, settings: AirSettings) -> None:
        """Open a socket on an interface.

        Raises:
            OSError: If this machine has no such interface.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._target = target
        try:
            self._socket.bind((interface, 0))
            if is_group(target[0]):
                self._socket.setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface)
                )
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            _grow(self._socket, socket.SO_SNDBUF, settings.credit_bytes)
            width = settings.datagram_bytes
            self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
            self._cuts = settings.offload and _try_option(self._socket, UDP_SEGMENT, width)
        except OSError:
            self._socket.close()
            raise

    def put(self, batch: Batch) -> None:
        """Send every datagram of a batch.

        Raises:
            OSError: If they do not fit the link, or the link is gone.
        """
        whole = self._cuts or len(batch.data) <= batch.segment
        for data in [batch.data] if whole else split(batch.data, batch.segment):
            self._send(data)

    def take(self, wait_s: float = 0.0) -> tuple[bytes, float] | None:
        """An answer and when it arrived (on the monotonic clock), if one comes in time."""
        self._socket.settimeout(wait_s)
        try:
            data, notes, _, _ = self._socket.recvmsg(_MOST_BYTES, _NOTES_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        return data, _arrival(notes)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, data: bytes | memoryview) -> None:
        self._socket.settimeout(None)
        while True:
            try:
                self._socket.sendto(data, self._target)
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                time.sleep(_BUSY_S)  # a device's queue is full


@dataclass(frozen=True, slots=True)
class _Got:
    """What one call has read: datagrams of `segment` bytes from one sender."""

    size: int
    segment: int
    source: _Address
    arrived: float


@dataclass(frozen=True, slots=True)
class Taken:
    """Datagrams of one sender."""

    data: memoryview
    segment: int
    """Length of each but perhaps the last."""
    source: _Address
    arrived: float
    """When the kernel had the first of them, on the monotonic clock, s."""


class Inlet:
    """Receives what is sent to a group (or to one address) on an interface."""

    def __init__(self, target: _Address, interface: str, settings: AirSettings) -> None:
        """Open a socket and join the group.

        Raises:
            OSError: If this machine has no such interface, or another program holds the port alone.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._buffer = memoryview(bytearray(2 * _MOST_BYTES))
        self._left: _Got | None = None  # already read, in the second half of the buffer
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, is_group(target[0]))
            self._socket.bind(target)
            if is_group(target[0]):
                joined = socket.inet_aton(target[0]) + socket.inet_aton(interface)
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
                self._socket.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_MULTICAST_ALL", 49), 0)
            _grow(self._socket, socket.SO_RCVBUF, settings.receive_buffer_bytes)
            self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
            if settings.offload:
                _try_option(self._socket, UDP_GRO, 1)
            wake = struct.pack("ll", 0, int(_WAKE_S * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wake)
        except OSError:
            self._socket.close()
            raise

    def take(self) -> Taken | None:
        """What has come from one sender, valid until the next call.

        Returns:
            None if nothing came for 0.1 s.
        """
        got, self._left = self._left, None
        if got is None:
            got = self._receive(0, 0)
        else:
            self._buffer[: got.size] = self._buffer[_MOST_BYTES : _MOST_BYTES + got.size]
        if got is None:
            return None
        size = got.size if got.size != got.segment else self._gather(got)
        return Taken(self._buffer[:size], max(1, got.segment), got.source, got.arrived)

    def _gather(self, first: _Got) -> int:
        """What else of one datagram's length and sender has come already, put behind it; bytes in all."""
        size = first.size
        while 0 < first.size <= _MOST_BYTES - size:
            got = self._receive(_MOST_BYTES, socket.MSG_DONTWAIT)
            if got is None:
                break
            if got.source != first.source or got.size != first.size or got.segment != first.segment:
                self._left = got
                break
            self._buffer[size : size + got.size] = self._buffer[_MOST_BYTES : _MOST_BYTES + got.size]
            size += got.size
        return size

    def _receive(self, at: int, flags: int) -> _Got | None:
        try:
            room = [self._buffer[at : at + _MOST_BYTES]]
            size, notes, _, source = self._socket.recvmsg_into(room, _NOTES_BYTES, flags)
        except (BlockingIOError, InterruptedError):
            return None
        for level, kind, value in notes:
            if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                return _Got(size, int.from_bytes(value[:4], sys.byteorder), source, _arrival(notes))
        return _Got(size, size, source, _arrival(notes))

    def answer(self, data: bytes, source: _Address) -> None:
        """Send an answer to a sender; that it may be gone is its loss."""
        try:
            self._socket.sendto(data, source)
        except OSError:
            return

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()


def _arrival(notes: _Notes) -> float:
    """When the kernel received what these notes came with, on the monotonic clock."""
    for level, kind, value in notes:
        if level == socket.SOL_SOCKET and kind == _TIMESTAMP and len(value) >= _TIMESPEC.size:
            seconds, nanoseconds = map(int, _TIMESPEC.unpack_from(value))
            return time.monotonic() - max(0.0, time.time() - seconds - 1e-9 * nanoseconds)
    return time.monotonic()


def _try_option(one: socket.socket, option: int, value: int) -> bool:
    try:
        one.setsockopt(socket.IPPROTO_UDP, option, value)
    except OSError:
        return False
    return True


def _grow(one: socket.socket, option: int, size: int) -> None:
    """A buffer of so many bytes: beyond the system's limit where that is permitted."""
    forced = {socket.SO_RCVBUF: 33, socket.SO_SNDBUF: 32}[option]  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
    try:
        one.setsockopt(socket.SOL_SOCKET, forced, size)
    except PermissionError:
        one.setsockopt(socket.SOL_SOCKET, option, size)
