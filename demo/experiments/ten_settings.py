"""The ten settings in which placements are compared on the real chain: real beams, pipelined slots."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from demo.bridge.beamformed import beamformed_world
from demo.jobs.catalogs import catalog_named
from policy.config import LinkConfig, load_config
from policy.scenario import Scenario, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: a preset and what differs from it."""

    name: str
    about: str
    """What it stands for, in words."""
    base: str = "default"
    """Preset, see `policy/scenarios`."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the scenario's config."""
    requests: dict[str, Any] = field(default_factory=dict)
    """Fields of its request config."""
    bandwidth_hz: float | None = None
    """Bandwidth of the band; None: the preset's."""
    antennas: int = 8
    """Antennas of each node, 8 or one of `NAMED_MAKERS`."""

    def scenario(self) -> Scenario:
        """The scenario on the catalog that its preset names.

        Raises:
            ZooError: If it needs real models and none could be had.
        """
        config = load_config(self.base)
        requests = replace(config.requests, **self.requests)
        radio = config.radio
        if self.bandwidth_hz is not None:
            radio = replace(radio, bandwidth_hz=self.bandwidth_hz)
        config = replace(config, name=self.name, requests=requests, radio=radio, **self.changes)
        return Scenario(config, catalog_named(config.catalog))

    def make_world(self) -> Callable[[Scenario, int], World]:
        """What draws its worlds, with real beamformers."""
        return beamformed_world if self.antennas == 8 else NAMED_MAKERS[self.antennas]


def two_antennas_world(scenario: Scenario, seed: int) -> World:
    """Real beamformers of two antennas a node; a function by name, so that its episodes can be kept."""
    return beamformed_world(scenario, seed, num_antennas=2)


NAMED_MAKERS: dict[int, Callable[[Scenario, int], World]] = {2: two_antennas_world}
"""What draws worlds with another number of antennas."""

STICKY = {"stickiness": 0.8, "no_repeat": 2}
"""Users stay within a family of models and do not ask again for what they have just had."""

SETTINGS: tuple[Setting, ...] = (
    Setting(name="p1", about="real models of the small zoo, slow cloud", base="p1"),
    Setting(name="p2", about="10 % room, devices keep what they had", base="p2"),
    Setting(name="p2-sticky", about="p2 with loyal users", base="p2", requests=STICKY),
    Setting(name="v30", about="30 % room: everything fits somewhere; loyal users", base="v30"),
    Setting(name="room-5", about="5 % room", changes={"capacity_share": 0.05}),
    Setting(
        name="narrow",
        about="40 MHz, 2 antennas",
        bandwidth_hz=40e6,
        antennas=2,
        requests={"request_prob": 0.2},
    ),
    Setting(
        name="slow-cloud",
        about="20 % room, cloud at 50 Mbit/s; loyal users",
        base="v30",
        changes={"links": LinkConfig(backhaul_bit_s=1e9, cloud_bit_s=50e6), "capacity_share": 0.2},
    ),
    Setting(
        name="slow-backhaul",
        about="15 % room, 300 Mbit/s between nodes; loyal users",
        base="v30",
        changes={"links": LinkConfig(backhaul_bit_s=300e6, cloud_bit_s=100e6), "capacity_share": 0.15},
    ),
    Setting(name="users-30", about="30 users", changes={"num_users": 30}, requests={"request_prob": 0.3}),
    Setting(
        name="bursts",
        about="flash crowds: a request process that nothing was trained on",
        requests={"process": "bursts"},
    ),
)
