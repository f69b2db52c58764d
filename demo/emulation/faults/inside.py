"""Faults that a role makes in itself when it is told to: cut off, a corrupt block, a step of its clock."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from demo.emulation.wire.ask import Answer, Wire


class Breakable(Protocol):
    """A role with a wire, a clock, and packs on the disk."""

    wire: "Wire"

    def packs(self) -> Path:
        """Folder of the store whose blocks can be corrupted."""

    def step_clock(self, seconds: float) -> None:
        """Step the role's clock of the day."""


def break_role(role: Breakable, question: Mapping[str, Any]) -> "Answer":
    """Make or undo one fault; says what was done.

    Raises:
        ValueError: If it is no fault that a role makes in itself.
    """
    fault = str(question["fault"])
    if fault in ("cut-off", "reconnect"):
        role.wire.cut = fault == "cut-off"
        return {"about": fault}
    if fault == "corrupt":
        return {"about": corrupt(role.packs(), int(question["seed"]))}
    if fault == "clock":
        role.step_clock(float(question["seconds"]))
        return {"about": f"{question['seconds']} s"}
    raise ValueError(f"expected cut-off, reconnect, corrupt or clock, got {fault!r}")


def corrupt(folder: Path, seed: int) -> str:
    """Flip bytes in the middle of one pack of a store; says where. Nothing happens to an empty store."""
    packs = sorted(path for path in folder.rglob("*.pack") if path.stat().st_size > 256)
    if not packs:
        return "nothing to corrupt"
    pack = packs[seed % len(packs)]
    size = pack.stat().st_size
    at = size // 4 + (seed * 7919) % (size // 2)
    with pack.open("r+b") as file:
        file.seek(at)
        data = file.read(64)
        file.seek(at)
        file.write(bytes(byte ^ 255 for byte in data))
    return f"{len(data)} bytes at {at} of {pack.name}"
