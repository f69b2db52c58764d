"""Settings of a run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from demo.bridge.csi import CsiError
from policy.config import ScenarioConfig, load_config
from policy.evaluation.traces import TraceSource
from policy.interfaces import BlockCatalog
from radio import RadioConfig

SCENARIO = "p1"
"""Scenario of a run unless another is named: real models over slow wires."""
REFERENCE = "learned"
"""The scheme whose levers are switched off one by one, and with which the others are compared."""
PLACEMENTS = ("no-cache", "whole-model", "lru", "static-distinct", "rendezvous", "ewma-greedy", REFERENCE)
"""Schemes of a run, by their names in the registry of `policy.schemes`."""
LEVERS = ("no-migration", "no-comp", "no-air-sharing", "no-store-sharing")
"""What is switched off in the reference, one at a time."""
Form = Literal["chosen", "kept", "raw"]
FORMS: Mapping[str, Form] = {"+kept-form": "kept", "+raw-form": "raw"}
"""Rows of a run that are the reference on other forms of the blocks: always sent as they are kept; and
without any delta, in caches, on wires and on the air."""


SLOTS = 12
"""Slots of a world unless said otherwise: more worlds tell more than longer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What one run does."""

    size: str = "small"
    """Size of the zoo: `small` or `full`."""
    store: Path | None = None
    """A block store whose models are taken instead of the zoo."""
    seed: int = 0
    """Seeds places, motion, requests, channels and beamformer starts."""
    scenario: ScenarioConfig = field(default_factory=lambda: load_config(SCENARIO))
    """Nodes, users, links, caches, requests; what stands below changes it."""
    num_slots: int = SLOTS
    """Slots that every scheme is simulated for."""
    worlds: int = 6
    """Worlds that every scheme is played on; the first is the one that is replayed."""
    emulated_slots: int = 3
    """First slots that are replayed with real bytes under `emulated_scheme`."""
    emulated_scheme: str = REFERENCE
    """Scheme, as named in the report, that is replayed."""
    capacity_models: float | None = None
    """Cache of each node in sizes of the largest model kept whole; None: as the scenario says."""
    device_models: float | None = None
    """Room of a device for blocks of earlier models, in sizes of the largest model with the bases of its
    deltas; 0 keeps nothing, as if every request came from a new user; None: as the scenario says."""
    antennas: int = 8
    """Antennas of each node."""
    csi: CsiError = field(default_factory=CsiError)
    """What the nodes do not know of the channels."""
    trace: TraceSource | None = None
    """A file of requests in place of drawn ones."""

    def __post_init__(self) -> None:
        if self.size not in ("small", "full"):
            raise ValueError(f"size must be small or full, got {self.size!r}")
        if not 1 <= self.emulated_slots <= self.num_slots:
            raise ValueError(
                f"need 1 <= emulated_slots <= num_slots, got {self.emulated_slots}, {self.num_slots}"
            )
        if self.worlds < 1:
            raise ValueError(f"worlds must be >= 1, got {self.worlds}")
        if self.emulated_scheme not in replayable():
            near = get_close_matches(self.emulated_scheme, replayable(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(replayable())
            raise ValueError(f"scheme must be one of {known}, got {self.emulated_scheme!r}{hint}")
        for name, least in (("capacity_models", 1e-9), ("device_models", 0.0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise ValueError(f"{name} must be finite and > 0 (device_models: >= 0), got {value}")

    @property
    def radio(self) -> RadioConfig:
        """The radio of the scenario's nodes and users."""
        config = self.scenario
        return RadioConfig(
            num_nodes=config.num_nodes,
            num_users=config.num_users,
            num_antennas=self.antennas,
            area_m=config.area_m,
            bandwidth_hz=config.radio.bandwidth_hz,
        )

    def scenario_on(self, catalog: BlockCatalog) -> ScenarioConfig:
        """The scenario of this run over a catalog."""
        config = replace(self.scenario, num_slots=self.num_slots)
        if self.capacity_models is not None:
            room = self.capacity_models * float(catalog.whole_bytes.max())
            config = replace(config, capacity_bytes=(room,))
        if self.device_models is not None:
            kept = self.device_models * float(catalog.model_bytes.max())
            config = replace(
                config, requests=replace(config.requests, keep_downloads=kept > 0, device_bytes=kept)
            )
        return config

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the scenario is left to itself."""
        trace = None if self.trace is None else str(self.trace.path)
        named = {"scenario": self.scenario.name, "trace": trace, "csi": asdict(self.csi)}
        rest = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in named}
        if self.scenario.air.superpose > 1:  # settings of runs in turn are what they were
            rest["superpose"] = self.scenario.air.superpose
        return {**rest, **named, "store": None if self.store is None else str(self.store)}


def scheme_names() -> tuple[str, ...]:
    """Every scheme of a run that the registry knows, as the report names it."""
    return (*PLACEMENTS, *(f"{REFERENCE}+{lever}" for lever in LEVERS))


def row_names() -> tuple[str, ...]:
    """Every row of a run's table: the schemes, and the reference on other forms of the blocks."""
    return (*scheme_names(), *(REFERENCE + suffix for suffix in FORMS))


def parts_of_row(name: str) -> tuple[str, Form]:
    """Scheme and form of the blocks of a row."""
    for suffix, form in FORMS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), form
    return name, "chosen"


def replayable() -> tuple[str, ...]:
    """Schemes whose plans move stored blocks, so that real stores can follow: neither coarse nor unshared."""
    return tuple(
        name for name in scheme_names() if not name.startswith("whole-model") and "store-sharing" not in name
    )
