"""What a live edge is made of before it starts: models, their units, and what decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from demo.bridge.radio_delay import RadioDelay
from demo.bridge.store_catalog import StoreCatalog
from demo.emulation.log.events import Started
from demo.emulation.roles import EdgeRole, Minds
from demo.emulation.roles.device import DeviceRole
from demo.emulation.roles.origin import OriginRole
from demo.emulation.roles.settings import EdgeSettings
from demo.emulation.runtime.addresses import address_in
from demo.emulation.runtime.base import ORIGIN
from demo.emulation.runtime.threads import Role
from demo.emulation.wire.band import Band, MemoryBand, MulticastBand
from demo.emulation.wire.shaped_band import ShapedBand
from demo.emulation.wire.token import take
from demo.jobs.config import RunConfig
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.originals import Original
from demo.jobs.simulate import world_seed
from demo.jobs.started import started_of
from pbstore import DiskBlockStore, open_store
from policy.play.growing import Decider, GrowingWorld
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.world.mobility import grid_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that roles are made of."""

    config: EmulateConfig
    offer: StoreCatalog
    bases: Mapping[str, str | None]
    """The base that each adapter cannot run without."""
    folder: Path
    """Where nodes and devices have their disks."""

    @property
    def scenario(self) -> Scenario:
        """Settings and catalog."""
        return Scenario(self.config.run.scenario_on(self.offer.catalog), self.offer.catalog)

    def edge_settings(self, node: int, origin_url: str) -> EdgeSettings:
        """What a node is."""
        catalog = self.offer.catalog
        return EdgeSettings(
            node=node,
            folder=self.folder / f"node{node}",
            capacity_bytes=int(self.scenario.capacity_bytes[node]),
            units=self.offer.units,
            num_users=self.scenario.config.num_users,
            unit_bytes=tuple(catalog.sizes_bytes.tolist()),
            model_names=catalog.model_names,
            bases=self.bases,
            origin_url=origin_url,
            scheme=self.config.run.emulated_scheme,
            pace=self.config.pace,
            at_once=self.scenario.config.air.superpose,
            snr_loss=self.config.snr_loss,
        )


def make_decider(config: RunConfig, scenario: Scenario) -> Decider:
    """What decides, before anything has happened: the same as `pbcast run` plays on its first world."""
    seed = world_seed(config, 0)
    nodes = grid_nodes(scenario.config.num_nodes, scenario.config.area_m)
    growing = GrowingWorld(scenario, nodes, lambda places: RadioDelay(config.radio, places, seed, config.csi))
    entry = find_scheme(config.emulated_scheme)
    return Decider(growing, entry, np.random.default_rng([config.seed, 2, 0]))


class ThreadRoles:
    """Makes the roles of one process: nodes share what decides, devices the band."""

    def __init__(self, stage: Stage, store: DiskBlockStore) -> None:
        self._stage, self._store = stage, store
        config, scenario = stage.config, stage.scenario
        self._minds = Minds(lambda: make_decider(config.run, scenario))
        self._band = MemoryBand(config.loss, config.run.seed)
        self.origin_url = ""
        """Set when the origin has started."""

    def __call__(self, place: str, comes_back: bool) -> Role:
        """See `ThreadRuntime`."""
        kind, _, number = place.partition(" ")
        if place == ORIGIN:
            return OriginRole(self._store)
        if kind == "node":
            settings = self._stage.edge_settings(int(number), self.origin_url)
            return EdgeRole(settings, self._minds, self._band, comes_back=comes_back)
        folder = self._stage.folder / f"device{number}"
        return DeviceRole(int(number), folder, self._band, comes_back=comes_back)


@dataclass(slots=True)
class ProcessRoles:
    """Makes a role in a process of its own; it travels there whole."""

    stage: Stage
    store: Path
    """Store of the origin."""
    port: int
    """UDP port of the air."""
    token: str
    """Of the run."""
    origin_url: str = ""
    """Set when the origin has started."""
    air_of: Mapping[str, str] = field(default_factory=dict)
    """Address of each place on the air; empty: that at which it listens."""

    def _band(self, place: str) -> Band:
        config = self.stage.config
        if not self.air_of:
            interface = address_in(config.listen)
            return MulticastBand(self.port, interface, loss=config.loss, seed=config.run.seed)
        return ShapedBand(self.port, self.air_of[place], loss=config.loss, seed=config.run.seed)

    def __call__(self, place: str, comes_back: bool) -> Role:
        """See `ProcessRuntime`."""
        take(self.token)
        kind, _, number = place.partition(" ")
        if place == ORIGIN:
            return OriginRole(open_store(self.store, read_only=True))
        config = self.stage.config
        band = self._band(place)
        if kind == "node":
            scenario = self.stage.scenario
            minds = Minds(lambda: make_decider(config.run, scenario))
            settings = self.stage.edge_settings(int(number), self.origin_url)
            return EdgeRole(settings, minds, band, comes_back=comes_back)
        return DeviceRole(int(number), self.stage.folder / f"device{number}", band, comes_back=comes_back)


def about_run(stage: Stage, originals: Mapping[str, Original], num_slots: int) -> Started:
    """The first line of the log."""
    config = stage.config
    return started_of(
        config.run,
        stage.offer,
        originals,
        runtime=config.runtime,
        links=config.links,
        pace=config.pace,
        loss=config.loss,
        num_slots=num_slots,
        settings=config.to_dict(),
    )
