"""Processes whose network is shaped: each role in a namespace of its own, wired at the scenario's rates."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from demo.emulation.links import AIR, BACKHAUL, CONTROL, ORIGIN, ShapedLinks, device, node
from demo.emulation.runtime import base
from demo.emulation.runtime.processes import MakeRole, ProcessRuntime, Seat


class ShapedRuntime(ProcessRuntime):
    """Runs roles in processes, each inside its namespace.

    The process that forks them stays in the network in which it was started: it outlives these wires.

    Args:
        make: Makes a role by its name, in its process; it must be picklable.
        preload: Modules that are imported once for all.
        links: The wires, built.
    """

    def __init__(self, make: MakeRole, preload: Sequence[str], links: ShapedLinks) -> None:
        super().__init__(make, preload, lambda place: Seat(_host(links, place), links.path(role_of(place))))
        self.host = links.address(CONTROL, BACKHAUL)
        self._links = links

    @contextmanager
    def in_control(self) -> Iterator[None]:
        """This thread, and those that it starts, sit where all roles reach them."""
        with self._links.inside(CONTROL):
            yield


def role_of(place: str) -> str:
    """A place's role on the wires."""
    if place == base.ORIGIN:
        return ORIGIN
    kind, _, number = place.partition(" ")
    return (node if kind == "node" else device)(int(number))


def _host(links: ShapedLinks, place: str) -> str:
    return links.address(role_of(place), AIR if place.startswith("device") else BACKHAUL)
