"""Which role hangs on which network, at what rates and under what address: nothing is built yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

BACKHAUL, AIR = "backhaul", "air"
CONTROL, ORIGIN = "control", "origin"
_NET = {BACKHAUL: "10.77", AIR: "10.78"}
_MOST = 250
PREFIX = 16
"""Length of the networks' prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A role's link to one network."""

    role: str
    network: str
    address: str
    """IPv4 address of the role in that network."""
    down_bit_s: float | None = None
    """Rate towards the role, Ethernet bits per second; None: as fast as the machine."""
    up_bit_s: float | None = None
    """Rate away from it."""
    slower_from: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Rate towards the role of what comes from these roles, within `down_bit_s`."""
    reaches: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Addresses of other networks, and by which of this network they are reached."""

    def __post_init__(self) -> None:
        rates = (self.down_bit_s, self.up_bit_s, *self.slower_from.values())
        if any(rate is not None and not 1e3 <= rate < 1e12 for rate in rates):
            raise ValueError(f"rates must be in 1e3 .. 1e12 bit/s, got {rates} for {self.role}")
        if self.slower_from and self.down_bit_s is None:
            raise ValueError(f"{self.role} needs down_bit_s for others to be slower")


def node(number: int) -> str:
    """The role of an edge node."""
    return f"node{number}"


def device(number: int) -> str:
    """The role of a user's device."""
    return f"device{number}"


def edge_wires(
    num_nodes: int, num_devices: int, *, backhaul_bit_s: float, cloud_bit_s: float, air_bit_s: float
) -> list[Wire]:
    """The wires of an edge: origin and nodes on the backhaul, nodes and devices on the air, control on both.

    Devices reach nodes and control by their addresses on the backhaul, too, over the air.

    Args:
        num_nodes: Edge nodes, 1 .. 250.
        num_devices: Devices, 0 .. 250.
        backhaul_bit_s: What a node can take in, bit/s.
        cloud_bit_s: The part of it that may come from the origin, bit/s.
        air_bit_s: What a node can send on the air, bit/s.
    """
    if not (1 <= num_nodes <= _MOST and 0 <= num_devices <= _MOST):
        raise ValueError(f"need 1 .. {_MOST} nodes and up to {_MOST} devices, got {num_nodes}, {num_devices}")
    wires = [_wire(ORIGIN, BACKHAUL, 0, 1), *(_wire(CONTROL, network, 0, 2) for network in (BACKHAUL, AIR))]
    slow = {ORIGIN: min(cloud_bit_s, backhaul_bit_s)}
    for number in range(num_nodes):
        role = node(number)
        wires.append(_wire(role, BACKHAUL, 1, number + 1, down=backhaul_bit_s, slower_from=slow))
        wires.append(_wire(role, AIR, 1, number + 1, up=air_bit_s))
    feet = [(0, 2), *((1, number + 1) for number in range(num_nodes))]
    reaches = {_address(BACKHAUL, *foot): _address(AIR, *foot) for foot in feet}
    devices = [_wire(device(number), AIR, 2, number + 1) for number in range(num_devices)]
    return wires + [replace(one, reaches=reaches) for one in devices]


def _address(network: str, kind: int, number: int) -> str:
    return f"{_NET[network]}.{kind}.{number}"


def _wire(
    role: str,
    network: str,
    kind: int,
    number: int,
    *,
    down: float | None = None,
    up: float | None = None,
    slower_from: Mapping[str, float] | None = None,
) -> Wire:
    return Wire(
        role=role,
        network=network,
        address=_address(network, kind, number),
        down_bit_s=down,
        up_bit_s=up,
        slower_from=slower_from or {},
    )
