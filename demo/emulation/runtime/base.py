"""What a runtime does: it starts roles, says where they answer, and ends them."""

from typing import Protocol

ORIGIN = "origin"


def node_place(node: int) -> str:
    """Name of a node's role."""
    return f"node {node}"


def device_place(user: int) -> str:
    """Name of a device's role."""
    return f"device {user}"


def port_of(url: str) -> int:
    """Port of an address."""
    return int(url.rsplit(":", 1)[1])


class Runtime(Protocol):
    """Roles by name: `origin`, `node N`, `device K`."""

    host: str
    """Address at which all roles reach whoever starts them."""

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """Start a role; its URL.

        Args:
            place: Which.
            comes_back: Whether it finds on its disk what it had there before.
        """

    def kill(self, place: str) -> None:
        """End a role at once, whatever it is doing; its disk stays."""

    def close(self) -> None:
        """End all roles."""
