"""What roles say to one another: questions in JSON, blocks by the block protocol, objects on the air."""

from demo.emulation.wire.air import AirObject
from demo.emulation.wire.ask import NotReachedError, RefusedError, Wire, control_routes
from demo.emulation.wire.band import Band, MemoryBand, MulticastBand, Sent

__all__ = [
    "AirObject",
    "Band",
    "MemoryBand",
    "MulticastBand",
    "NotReachedError",
    "RefusedError",
    "Sent",
    "Wire",
    "control_routes",
]
