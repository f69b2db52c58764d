"""The air on a real network: UDP multicast, paced, with answers by unicast to the sender's own port."""

import threading
import time

from demo.emulation.air.cast import Cast, Sent
from demo.emulation.air.count import Count
from demo.emulation.air.pace import Pacer
from demo.emulation.air.receiver import Receiver
from demo.emulation.air.sender import Sender, Wait
from demo.emulation.air.settings import AirSettings
from demo.emulation.air.sockets import Inlet, Outlet, is_group
from demo.emulation.air.wire import read_status

GROUP = "239.192.7.1"
"""Multicast group, of the addresses for use inside an organisation (RFC 2365 section 6.2)."""


class MulticastChannel:
    """Sends and receives on one group, port and interface: a thread a receiver, a socket a broadcast."""

    def __init__(
        self,
        port: int,
        *,
        group: str = GROUP,
        interface: str = "127.0.0.1",
        settings: AirSettings | None = None,
    ) -> None:
        """Make a channel; sockets are opened when it is used.

        Args:
            port: UDP port of the group.
            group: IPv4 multicast group; a unicast address makes it a channel to that one host.
            interface: IPv4 address of the interface to send and listen on.
            settings: Both ends need the same MTU and nothing else in common.
        """
        is_group(group)  # an address at all?
        self._target, self._interface = (group, port), interface
        self._settings = settings or AirSettings()
        self._ears: dict[int, _Ear] = {}

    def join(self, receiver: Receiver) -> None:
        """Let a receiver hear from now on, in a thread of its own.

        Raises:
            OSError: If the group cannot be joined on this interface.
        """
        self._ears[id(receiver)] = _Ear(receiver, Inlet(self._target, self._interface, self._settings))

    def leave(self, receiver: Receiver) -> None:
        """Let it hear nothing more; ends its thread."""
        self._ears.pop(id(receiver)).stop()

    def close(self) -> None:
        """End every receiver's thread."""
        for key in list(self._ears):
            self._ears.pop(key).stop()

    def send(self, cast: Cast) -> Sent:
        """Broadcast at its rate; ends when every user has it or is given up. For any number of threads.

        Raises:
            OSError: If the interface or the payload cannot be used.
        """
        outlet = Outlet(self._target, self._interface, self._settings)
        try:
            return _Broadcast(cast, outlet, self._settings).run()
        finally:
            outlet.close()


class _Broadcast:
    """One broadcast under way."""

    def __init__(self, cast: Cast, outlet: Outlet, settings: AirSettings) -> None:
        self._sender, self._count, self._outlet = Sender(cast, settings), Count(), outlet
        self._pacer = Pacer(cast.tempo or cast.rate_bit_s, settings.credit_bytes)
        self._settings, self._answer_s = settings, settings.answer_s
        self._delay_s: dict[int, float] = {}

    def run(self) -> Sent:
        for step in self._sender.run():
            if isinstance(step, Wait):
                self._await()
                continue
            self._pacer.wait(self._count.add(step))
            self._outlet.put(step)
            while self._take(0.0):
                pass
        return self._count.sent(self._sender, time.monotonic() - self._pacer.started, self._delay_s)

    def _await(self) -> None:
        """Until everybody has answered the last poll, or time is up."""
        until = time.monotonic() + self._answer_s
        while not self._sender.ledger.answered and (left := until - time.monotonic()) > 0:
            self._take(left)
        silent = not self._sender.ledger.answered
        longer = min(2 * self._answer_s, self._settings.most_answer_s)
        self._answer_s = longer if silent else self._settings.answer_s
        self._pacer.idle()

    def _take(self, wait_s: float) -> bool:
        """Take in one answer, if there is one."""
        taken = self._outlet.take(wait_s)
        if taken is None:
            return False
        data, arrived = taken
        told = read_status(data)
        if told is not None and told.cast == self._sender.cast.cast_id:
            self._count.answered(data)
            if self._sender.ledger.hear(told):
                last = arrived - 1e-6 * told.since_last_us
                self._delay_s[told.user] = max(0.0, last - self._pacer.started)
        return True


class _Ear:
    """A thread that feeds one receiver."""

    def __init__(self, receiver: Receiver, inlet: Inlet) -> None:
        self._receiver, self._inlet, self._over = receiver, inlet, threading.Event()
        receiver.clock = time.monotonic
        self._thread = threading.Thread(target=self._run, name=f"air-user{receiver.user}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and forget what is half here."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                got = self._inlet.take()
                if got is not None:
                    for answer in self._receiver.hear(got.data, got.segment, got.source, got.arrived):
                        self._inlet.answer(answer, got.source)
                    self._receiver.hand_over()
        finally:
            self._receiver.close()
            self._inlet.close()
