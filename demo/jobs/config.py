"""Settings of a run."""

import math
from dataclasses import dataclass, field, replace

from policy.config import ScenarioConfig
from policy.interfaces import BlockCatalog
from radio import RadioConfig

PLACEMENTS = ("whole-model", "popularity", "ewma-greedy", "learned")
"""Schemes of a run, by their names in the registry of `policy.schemes`."""
VARIANTS = ("", "+no-migration", "+no-comp", "+no-comp+no-migration")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What one run does. The scenario is the design's default on the zoo's real catalog."""

    size: str = "small"
    """Size of the zoo: `small` or `full`."""
    seed: int = 0
    """Seeds places, motion, requests, channels and beamformer starts."""
    num_slots: int = 24
    """Slots that every scheme is simulated for."""
    emulated_slots: int = 3
    """First slots that are replayed with real bytes under `emulated_scheme`."""
    emulated_scheme: str = "learned"
    """Scheme, as named in the report, that is replayed."""
    capacity_models: float = 1.1
    """Cache of each node in sizes of the largest model kept whole: room for one, so that whole-model caching
    is not shut out."""
    device_models: float = 0.0
    """Room of a device for blocks of earlier models, in sizes of the largest model with the bases of its
    deltas; 0 keeps nothing, as if every request came from a new user."""
    radio: RadioConfig = field(default_factory=RadioConfig)
    """Geometry, antennas, band, powers."""

    def __post_init__(self) -> None:
        if self.size not in ("small", "full"):
            raise ValueError(f"size must be small or full, got {self.size!r}")
        if not 1 <= self.emulated_slots <= self.num_slots:
            raise ValueError(
                f"need 1 <= emulated_slots <= num_slots, got {self.emulated_slots}, {self.num_slots}"
            )
        if self.emulated_scheme not in replayable():
            raise ValueError(f"scheme must be one of {', '.join(replayable())}, got {self.emulated_scheme!r}")
        if not (0 <= self.device_models < math.inf and 0 < self.capacity_models < math.inf):
            raise ValueError(
                "need finite device_models >= 0 and capacity_models > 0, "
                f"got {self.device_models} and {self.capacity_models}"
            )

    def scenario(self, catalog: BlockCatalog) -> ScenarioConfig:
        """The scenario of this run over a catalog."""
        base = ScenarioConfig()
        room = self.device_models * float(catalog.model_bytes.max())
        return replace(
            base,
            name=f"zoo-{self.size}",
            num_nodes=self.radio.num_nodes,
            num_users=self.radio.num_users,
            num_slots=self.num_slots,
            area_m=self.radio.area_m,
            capacity_bytes=(self.capacity_models * float(catalog.whole_bytes.max()),),
            requests=replace(base.requests, keep_downloads=room > 0, device_bytes=room),
        )


def scheme_names() -> tuple[str, ...]:
    """Every scheme of a run, as the report names it."""
    return tuple(placement + variant for placement in PLACEMENTS for variant in VARIANTS)


def replayable() -> tuple[str, ...]:
    """Schemes whose plans move stored blocks, so that real stores can follow: not the coarse ones."""
    return tuple(name for name in scheme_names() if not name.startswith("whole-model"))
