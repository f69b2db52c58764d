"""What both kinds of air are to those who use them."""

from typing import Protocol

from demo.emulation.air.cast import Cast, Sent
from demo.emulation.air.receiver import Receiver


class Channel(Protocol):
    """A medium that carries one sender's datagrams to every receiver at once."""

    def send(self, cast: Cast) -> Sent:
        """Broadcast and wait until every user has it or is given up; may be called by several threads."""

    def join(self, receiver: Receiver) -> None:
        """Let a receiver hear from now on: a late joiner asks for what it missed."""

    def leave(self, receiver: Receiver) -> None:
        """Let it hear nothing more; what it had half is gone."""

    def close(self) -> None:
        """Give up sockets and threads."""
