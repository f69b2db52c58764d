"""What roles say to one another: questions in JSON, blocks by the block protocol, objects on the air."""

from demo.emulation.wire.air import AirObject, Channel, MemoryChannel, Sent
from demo.emulation.wire.ask import NotReachedError, RefusedError, Wire, control_routes

__all__ = [
    "AirObject",
    "Channel",
    "MemoryChannel",
    "NotReachedError",
    "RefusedError",
    "Sent",
    "Wire",
    "control_routes",
]
