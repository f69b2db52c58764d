"""An evaluation, its catalog, worlds and radio from wherever they come: presets, files, stores, traces."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from demo.bridge.beamformed import beamformed_world
from demo.bridge.csi import CsiError
from demo.bridge.store_catalog import catalog_from_store
from demo.console import busy, tell_count
from demo.jobs.catalogs import catalog_named
from demo.jobs.originals import of_store
from demo.jobs.overrides import Overrides
from demo.zoo.cache import usable_root
from demo.zoo.errors import ZooError
from pbstore import open_store
from policy.config import load_config
from policy.evaluation import Evaluation, WorldMaker, draw_world, evaluate, playable
from policy.evaluation.traces import TraceSource, account, replayed, trace_world
from policy.interfaces import BlockCatalog
from policy.scenario import Scenario, World
from policy.schemes import scheme_names
from policy.world.public_traces import PublicName
from policy.world.ranges import in_ranges
from policy.world.replay import Objects
from policy.world.request_files import FileFormat, TimeUnit
from policy.world.splits import Split

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worlds:
    """Which problem is played, and on which worlds."""

    scenario: str
    """Preset or file, see `policy.scenario.load_scenario`."""
    catalog: Path | None = None
    """A catalog's `.npz`."""
    catalog_from: Path | None = None
    """A block store whose models are the catalog."""
    trace: TraceSource | None = None
    """A file of requests in place of drawn ones."""
    beamformers: bool = False
    """Whether rates come from real beamformers."""
    changes: Overrides = field(default_factory=Overrides)
    """What differs from the scenario."""
    antennas: int = 8
    """Antennas of each node, for beamformers."""
    csi: CsiError = field(default_factory=CsiError)
    """What the nodes do not know of the channels, for beamformers."""
    unit_bytes: float | None = None
    """Cut blocks into byte ranges of at most so many bytes; None: as the catalog has them."""
    split: Split = "validation"
    first: int = 0
    count: int = 16

    def __post_init__(self) -> None:
        if self.catalog is not None and self.catalog_from is not None:
            raise ValueError("name one catalog: --catalog or --catalog-from")
        if not self.beamformers and (self.csi.size > 0 or self.antennas != 8):
            raise ValueError(
                "--csi-error and --antennas are of --radio beamformers: the cheap radio has none"
            )


def trace_source(
    path: Path, time_unit: TimeUnit, columns: str, objects: Objects, public: PublicName | None = None
) -> TraceSource:
    """A file of requests as the command line describes it; `columns` is `time=ts,model=object`.

    A public trace asks for objects that are no models: they are ranked by demand.

    Raises:
        ValueError: If a column is not `field=name`, or its field is unknown.
    """
    pairs = [item.partition("=") for item in columns.split(",") if item.strip()]
    wrong = next((key for key, equals, value in pairs if not equals or not value.strip()), None)
    if wrong is not None:
        raise ValueError(f"columns are field=name pairs such as time=ts,model=object, got {wrong!r}")
    named = {key.strip(): value.strip() for key, _, value in pairs}
    how = FileFormat(time_unit=time_unit, columns=named, public=public)
    return TraceSource(path=path, how=how, objects=objects if public is None else "rank")


def scenario_of(worlds: Worlds) -> Scenario:
    """The scenario on the catalog that is given, else on the one it names."""
    config = load_config(worlds.scenario)
    catalog = BlockCatalog.load(worlds.catalog) if worlds.catalog is not None else None
    if worlds.catalog_from is not None:
        with open_store(worlds.catalog_from, read_only=True) as store:
            bases = {name: one.base for name, one in of_store(store).items()}
            catalog = catalog_from_store(store, bases).catalog
    named = catalog if catalog is not None else catalog_named(config.catalog)
    cut = named if worlds.unit_bytes is None else in_ranges(named, worlds.unit_bytes).catalog
    return Scenario(worlds.changes.on(config), cut)


def run_evaluation(
    worlds: Worlds,
    schemes: list[str] | None,
    *,
    seeds: int,
    bound_worlds: int,
    workers: int,
    ray: bool,
    folder: Path | None,
    boot_seed: int,
    seen: bool = False,
) -> Evaluation:
    """Play and compare, telling progress on stderr; the settings say what became of a trace's requests.

    Schemes None: all that can run on the scenario; why others cannot is logged.
    """
    scenario = scenario_of(worlds)
    if schemes is None:
        schemes, reasons = playable(scenario, scheme_names())
        for name, reason in reasons.items():
            log.warning("without %s: %s", name, reason)
    beams: Callable[..., World] = beamformed_world
    if worlds.csi.size > 0 or worlds.antennas != 8:
        beams = partial(beamformed_world, csi=worlds.csi, num_antennas=worlds.antennas)
    maker: WorldMaker = beams if worlds.beamformers else draw_world
    about = None
    if worlds.trace is not None:
        about = account(replayed(scenario, worlds.trace), scenario.config.num_slots)
        if worlds.first + worlds.count > about["worlds"]:
            raise ValueError(
                f"{worlds.trace.path} has {about['slots']} slots, which are {about['worlds']} worlds of "
                f"{scenario.config.num_slots}; {worlds.first + worlds.count} were asked for"
            )
        maker = partial(beams if worlds.beamformers else trace_world, source=worlds.trace)
    with busy("play worlds") as step:
        result = evaluate(
            scenario,
            schemes,
            worlds.count,
            seeds,
            split=worlds.split,
            first_world=worlds.first,
            bound_worlds=bound_worlds,
            workers=workers,
            ray=ray,
            make_world=maker,
            folder=folder,
            progress=partial(_tell, step),
            boot_seed=boot_seed,
            seen=seen,
        )
    return result if about is None else replace(result, settings={**result.settings, "trace": about})


def kept_in(folder: Path | None) -> Path | None:
    """Where episodes are kept: a folder, or pbcast's cache; None and a warning if that cannot be used."""
    if folder is not None:
        return folder
    try:
        return usable_root() / "evaluations"
    except ZooError as error:
        log.warning("episodes are not kept: %s", error)
        return None


def _tell(step: Callable[[int, int], None], done: int, total: int) -> None:
    step(done, total)
    if not sys.stderr.isatty():
        tell_count("worlds", done, total)
