"""What a node is, apart from what it decides by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.parts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """What one node is."""

    node: int
    folder: Path
    capacity_bytes: int
    units: Sequence[Sequence[Part]]
    """Parts of each unit of placement."""
    num_users: int
    unit_bytes: tuple[int, ...]
    """Kept bytes of each."""
    model_names: tuple[str, ...]
    bases: Mapping[str, str | None]
    """The base that each adapter cannot run without."""
    origin_url: str
    scheme: str
    pace: float
    """Speed of the emulated clock; 0: no transfer is slowed down."""
    at_once: int = 1
    """Broadcasts on the air at once at most, each to users of its own."""
    snr_loss: bool = False
    """Whether devices lose datagrams by their margins of SNR."""
