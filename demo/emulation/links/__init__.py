"""Links at real rates: roles in network namespaces, backhaul, cloud and air shaped by the kernel."""

from demo.emulation.links.abilities import Ability, abilities
from demo.emulation.links.namespaces import enter
from demo.emulation.links.network import ShapedLinks, Traffic, shape_own
from demo.emulation.links.plan import AIR, BACKHAUL, CONTROL, ORIGIN, Wire, device, edge_wires, node
from demo.emulation.links.rights import LinksError, ensure_namespaces
from demo.emulation.links.rootless import command as rootless_command

__all__ = [
    "AIR",
    "BACKHAUL",
    "CONTROL",
    "ORIGIN",
    "Ability",
    "LinksError",
    "ShapedLinks",
    "Traffic",
    "Wire",
    "abilities",
    "device",
    "edge_wires",
    "ensure_namespaces",
    "enter",
    "node",
    "rootless_command",
    "shape_own",
]
