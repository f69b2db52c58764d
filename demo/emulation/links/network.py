"""Roles in network namespaces, wired by virtual Ethernet to bridges, at rates that can change."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

from pyroute2 import IPRoute

from demo.emulation.links.namespaces import Namespace
from demo.emulation.links.plan import PREFIX, Wire
from demo.emulation.links.shaping import shape_down, shape_up

T = TypeVar("T")
_LOOPBACK = 1


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has passed a role's interface, as the kernel counts it."""

    sent_bytes: int
    sent_packets: int
    received_bytes: int
    received_packets: int


class ShapedLinks:
    """The wires of a plan, there while the context lasts; the machine's own network is not touched."""

    def __init__(self, wires: Iterable[Wire], *, whole_frames: bool = False) -> None:
        """Take a plan.

        Args:
            wires: One for each role and network.
            whole_frames: Let no buffer of several datagrams onto a wire: slower, but every header is counted.

        Raises:
            ValueError: If a role has two wires to one network, or two wires have one address.
        """
        self._wires = {(wire.role, wire.network): wire for wire in wires}
        addresses = {wire.address for wire in self._wires.values()}
        if not len(list(wires)) == len(self._wires) == len(addresses):
            raise ValueError("every role has one wire to a network and every wire an address of its own")
        self._whole, self._stack = whole_frames, ExitStack()
        self._inside: dict[str, Namespace] = {}
        self._hub: Namespace | None = None

    def __enter__(self) -> Self:
        """Build it.

        Raises:
            OSError: If this process may not make namespaces; see `abilities`.
            NetlinkError: If the kernel lacks something; the same.
        """
        with self._stack as building:
            self._hub = building.enter_context(_closing(Namespace()))
            for role in sorted({role for role, _ in self._wires}):
                self._inside[role] = building.enter_context(_closing(Namespace()))
            self._hub.run(self._build_hub)
            for role, inside in self._inside.items():
                inside.run(lambda role=role: self._build_role(role))  # type: ignore[misc]
            self._stack = building.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it down; processes that are still inside a role keep its namespace until they end."""
        self._inside.clear()
        self._stack.close()

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles."""
        return tuple(sorted(self._inside))

    def address(self, role: str, network: str) -> str:
        """IPv4 address of a role in a network."""
        return self._wires[role, network].address

    def path(self, role: str) -> str:
        """What a process of this role gives to `enter` before it opens a socket, while this one lives."""
        return self._inside[role].path

    def run(self, role: str, act: Callable[[], T]) -> T:
        """What a function returns in a thread inside a role."""
        return self._inside[role].run(act)

    @contextmanager
    def inside(self, role: str) -> Iterator[None]:
        """Sockets that this thread opens meanwhile are the role's."""
        with self._inside[role].entered():
            yield

    def set_rate(
        self, role: str, network: str, *, down_bit_s: float | None = None, up_bit_s: float | None = None
    ) -> None:
        """Change rates of a wire that has them, while it is in use.

        Raises:
            ValueError: If that direction was built without a rate.
        """
        wire = self._wires[role, network]
        for name, rate, old in (("down", down_bit_s, wire.down_bit_s), ("up", up_bit_s, wire.up_bit_s)):
            if rate is not None and old is None:
                raise ValueError(f"the wire of {role} to {network} was built without {name}_bit_s")
        new = replace(wire, down_bit_s=down_bit_s or wire.down_bit_s, up_bit_s=up_bit_s or wire.up_bit_s)
        self._wires[role, network] = new
        if up_bit_s is not None:
            self.run(
                role, lambda: _with(network, lambda route, at: shape_up(route, at, up_bit_s, change=True))
            )
        if down_bit_s is not None:
            self._at_hub(new, lambda route, at: self._shape_down(route, at, new, change=True))

    def cut(self, role: str, network: str) -> None:
        """Pull a role's plug in a network."""
        self._at_hub(self._wires[role, network], lambda route, at: route.link("set", index=at, state="down"))

    def mend(self, role: str, network: str) -> None:
        """Put it back."""
        self._at_hub(self._wires[role, network], lambda route, at: route.link("set", index=at, state="up"))

    def traffic(self, role: str, network: str) -> Traffic:
        """What has passed a role's wire."""
        counts = self.run(role, lambda: _with(network, _counters))
        return Traffic(counts["tx_bytes"], counts["tx_packets"], counts["rx_bytes"], counts["rx_packets"])

    def _at_hub(self, wire: Wire, act: Callable[[IPRoute, int], object]) -> None:
        if self._hub is not None:
            self._hub.run(lambda: _with(self._port(wire), act))

    def _port(self, wire: Wire) -> str:
        """Name of a wire's end at the bridge, at most 15 letters."""
        return f"p{sorted(self._wires).index((wire.role, wire.network))}"

    def _build_hub(self) -> None:
        with IPRoute() as route:
            bridges = {}
            for network in sorted({network for _, network in self._wires}):
                route.link("add", ifname=network, kind="bridge", br_mcast_snooping=0)
                bridges[network] = _index(route, network)
                route.link("set", index=bridges[network], state="up")
            for wire in self._wires.values():
                peer = {"ifname": wire.network, "net_ns_fd": self._inside[wire.role].descriptor}
                route.link("add", ifname=self._port(wire), kind="veth", peer=peer)
                port = _index(route, self._port(wire))
                route.link("set", index=port, master=bridges[wire.network], state="up", **self._cut_whole())
                if wire.down_bit_s is not None:
                    self._shape_down(route, port, wire)

    def _build_role(self, role: str) -> None:
        with IPRoute() as route:
            route.link("set", index=_LOOPBACK, state="up")
            for wire in [wire for wire in self._wires.values() if wire.role == role]:
                at = _index(route, wire.network)
                route.addr("add", index=at, address=wire.address, prefixlen=PREFIX)
                route.link("set", index=at, state="up", **self._cut_whole())
                for address, gateway in wire.reaches.items():
                    route.route("add", dst=f"{address}/32", gateway=gateway)
                if wire.up_bit_s is not None:
                    shape_up(route, at, wire.up_bit_s)

    def _cut_whole(self) -> dict[str, int]:
        return {"gso_max_segs": 1} if self._whole else {}

    def _shape_down(self, route: IPRoute, port: int, wire: Wire, *, change: bool = False) -> None:
        slow = {
            self._wires[role, wire.network].address: min(rate, wire.down_bit_s or rate)
            for role, rate in wire.slower_from.items()
        }
        shape_down(route, port, wire.down_bit_s or 0.0, slow, change=change)


def shape_own(network: str, up_bit_s: float) -> None:
    """Change the rate at which a role sends, from inside: of an interface that was built with a rate.

    Raises:
        OSError: If this thread's namespace has no such interface.
    """
    try:
        _with(network, lambda route, at: shape_up(route, at, up_bit_s, change=True))
    except StopIteration:
        raise OSError(f"no interface {network} here") from None


def _index(route: IPRoute, name: str) -> int:
    return int(next(iter(route.link_lookup(ifname=name))))


def _with(name: str, act: Callable[[IPRoute, int], T]) -> T:
    with IPRoute() as route:
        return act(route, _index(route, name))


def _counters(route: IPRoute, index: int) -> dict[str, int]:
    link = next(iter(route.get_links(index)))
    return dict(link.get_attr("IFLA_STATS64"))


@contextmanager
def _closing(one: Namespace) -> Iterator[Namespace]:
    try:
        yield one
    finally:
        one.close()
