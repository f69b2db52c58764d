"""Settings of a live edge."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from demo.emulation.faults.script import Fault
from demo.emulation.runtime.addresses import LOOPBACK, check_listen
from demo.jobs.config import RunConfig

RuntimeName = Literal["threads", "processes", "ray"]
RequestsName = Literal["trace", "clients"]
LinksName = Literal["plain", "shaped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulateConfig:
    """What one live edge does: a run, and how it is brought to life."""

    run: RunConfig = field(default_factory=RunConfig)
    """Models, network, requests, scheme (`emulated_scheme`) and slots (`emulated_slots`)."""
    runtime: RuntimeName = "threads"
    links: LinksName = "plain"
    loss: float = 0.0
    """Share of packets that each device loses on the air."""
    snr_loss: bool = False
    """Whether each device loses packets by its margin of SNR, too (`demo.emulation.air.loss_of_margin`)."""
    pace: float = 0.0
    """Speed of the emulated clock beside the wall's; 0: nothing is slowed down, delays are what they are."""
    script: tuple[Fault, ...] = ()
    """Faults, see `demo.emulation.faults`."""
    requests: RequestsName = "trace"
    """Who asks: users of the scenario, or clients at the devices' endpoints and nobody else."""
    ray_address: str = "local"
    """Cluster of the runtime `ray`: `local` starts one here."""
    listen: str = LOOPBACK
    """Address that roles listen at and send from, on plain links; or a network in which every host that runs
    roles has one. On the loopback nobody else reaches them."""
    minutes: float = 0.0
    """Go on for so long; 0: `emulated_slots` and no more."""
    clients: int = 2
    """Deliveries that an unmodified `from_pretrained` in a process of its own loads from the device."""
    patience_s: float = 10.0
    """How long nodes wait for one another's reports, s."""

    def __post_init__(self) -> None:
        if self.runtime not in ("threads", "processes", "ray"):
            raise ValueError(f"runtime must be threads, processes or ray, got {self.runtime!r}")
        if self.links not in ("plain", "shaped"):
            raise ValueError(f"links must be plain or shaped, got {self.links!r}")
        if self.links == "shaped" and (self.runtime != "processes" or not self.pace > 0):
            got = f"{self.runtime!r} and {self.pace}"
            raise ValueError(f"shaped links need runtime 'processes' and a pace > 0, got {got}")
        if self.requests not in ("trace", "clients"):
            raise ValueError(f"requests must be trace or clients, got {self.requests!r}")
        if not 0 <= self.loss < 1:
            raise ValueError(f"loss must be in [0, 1), got {self.loss}")
        check_listen(self.listen)
        if self.links == "shaped" and self.listen != LOOPBACK:
            raise ValueError(
                f"on shaped links roles listen inside, listen must be {LOOPBACK}, got {self.listen}"
            )
        for name in ("pace", "minutes", "clients", "patience_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be >= 0 and finite, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**own, "script": [asdict(one) for one in self.script], "run": self.run.to_dict()}
