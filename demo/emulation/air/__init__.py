"""The air: objects as RaptorQ symbols in datagrams, repaired on request and checked on arrival."""

from demo.emulation.air.cast import Cast, Heard, OnObject, Sent, Wire
from demo.emulation.air.channel import Channel
from demo.emulation.air.loss import loss_of_margin
from demo.emulation.air.memory import MemoryChannel
from demo.emulation.air.multicast import MulticastChannel
from demo.emulation.air.pace import Tempo
from demo.emulation.air.payload import BytesPayload, FilePayload, Payload, spooled
from demo.emulation.air.receiver import Receiver, ReceiverLimits
from demo.emulation.air.settings import AirSettings

__all__ = [
    "AirSettings",
    "BytesPayload",
    "Cast",
    "Channel",
    "FilePayload",
    "Heard",
    "MemoryChannel",
    "MulticastChannel",
    "OnObject",
    "Payload",
    "Receiver",
    "ReceiverLimits",
    "Sent",
    "Tempo",
    "Wire",
    "loss_of_margin",
    "spooled",
]
