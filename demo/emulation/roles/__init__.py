"""The roles of a live edge: the origin, edge nodes that decide, devices that receive."""

from demo.emulation.roles.device import DeviceRole
from demo.emulation.roles.edge import EdgeRole
from demo.emulation.roles.mind import Minds, Row
from demo.emulation.roles.origin import OriginRole

__all__ = ["DeviceRole", "EdgeRole", "Minds", "OriginRole", "Row"]
