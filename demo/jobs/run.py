"""The main job, end to end: real checkpoints in, the same models running at the users out."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from demo.bridge.store_catalog import StoreCatalog, catalog_from_store
from demo.jobs.config import RunConfig, row_names
from demo.jobs.deliver import deliver
from demo.jobs.originals import of_store, of_zoo
from demo.jobs.report import CatalogReport, RunReport, commit
from demo.jobs.simulate import least_delay_s, make_world, simulate
from demo.zoo import ZooModel, build_zoo
from demo.zoo.progress import Bars
from demo.zoo.progress import Step as Progress
from pbstore import DiskBlockStore, open_store
from policy.scenario import Scenario, World

LOG_NAME = "events.jsonl"
MARK = ".pbcast-run"
"""File that says that a folder's stores are a run's own and may be replaced."""


def run_end_to_end(
    config: RunConfig, out: Path, *, keep_stores: bool = False, progress: bool = True, workers: int = 1
) -> RunReport:
    """Run the main job; write `report.json` and `events.jsonl` into a folder.

    What was finished stays: the zoo in its cache, the cloud's store and every scheme's result in `out`. A
    second run with the same settings reuses them.

    Args:
        config: Settings.
        out: Folder of the run, made when missing.
        keep_stores: Leave the emulated nodes' and devices' stores in `out/network`.
        progress: Tell on stderr what is done.
        workers: Processes that simulate.

    Raises:
        ValueError: If `out` holds stores that no run made, or `config.store` no model.
        NotAStoreError: If `config.store` is no block store.
        ZooError: If no model could be had.
        EmulationError: If real bytes differ from the plan.
    """
    claim(out)
    with ExitStack() as stack:
        if config.store is None:
            zoo = build_zoo(config.size, progress=progress)
            bars = stack.enter_context(Bars(enabled=progress))
            cloud = stack.enter_context(open_store(out / "cloud"))
            with bars.task(f"add {len(zoo)} models to the cloud's store") as step:
                fill(cloud, zoo, step)
            originals = of_zoo(zoo)
        else:
            cloud = stack.enter_context(open_store(config.store, read_only=True))
            bars = stack.enter_context(Bars(enabled=progress))
            with bars.task("read what is in the store"):
                originals = of_store(cloud)
        with bars.task(f"size {len(originals)} models in every form"):
            offer = offer_of(config, cloud, {name: one.base for name, one in originals.items()})
        world = make_world(config, offer)
        with bars.task(f"simulate {len(row_names())} rows on {config.worlds} worlds") as step:
            schemes = simulate(config, offer, row_names(), out / "schemes", workers=workers, progress=step)
        bounds = {}
        if config.scenario.air.superpose == 1:  # with blocks at once there is no such bound
            with bars.task("bound what any scheme can do"):
                bounds = {"unlimited_s": least_delay_s(config, offer)}
        with bars.task(f"replay {config.emulated_slots} slots of {config.emulated_scheme}") as step:
            deliveries = deliver(
                config,
                cloud,
                offer,
                world,
                originals,
                out / "network",
                step,
                log=out / LOG_NAME,
                keep_stores=keep_stores,
            )
        report = RunReport(
            seed=config.seed,
            settings=_settings(config, world),
            catalog=_catalog(cloud),
            schemes=schemes,
            bounds=bounds,
            deliveries=tuple(deliveries),
            zoo=tuple(one.row for one in originals.values()),
        )
    report.write(out)
    return report


def offer_of(config: RunConfig, cloud: DiskBlockStore, bases: Mapping[str, str | None]) -> StoreCatalog:
    """The cloud's catalog, in units that fit the nodes."""
    offer = catalog_from_store(cloud, bases)
    room = Scenario(config.scenario_on(offer.catalog), offer.catalog).capacity_bytes.min()
    return catalog_from_store(cloud, bases, room_bytes=float(room))


def claim(out: Path) -> None:
    """Make the folder of a run, or refuse one whose stores some other work has put there.

    Raises:
        ValueError: If it is no folder, or has a `cloud` or `network` that no run made.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"expected a folder for the run, {out} is a file")
    taken = [name for name in ("cloud", "network") if (out / name).exists()]
    if taken and not (out / MARK).exists():
        raise ValueError(
            f"{out / taken[0]} was not made by a run and would be replaced: choose another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def fill(cloud: DiskBlockStore, zoo: Sequence[ZooModel], progress: Progress) -> None:
    """Make the store hold exactly the zoo."""
    for name in set(cloud.models()) - {model.name for model in zoo}:
        cloud.remove(name)
    for done, model in enumerate(zoo):
        base = model.base if model.base in cloud.models() else None
        cloud.add(model.folder, name=model.name, base=base, thorough=True)
        progress(done + 1, len(zoo))


def _settings(config: RunConfig, world: World) -> dict[str, Any]:
    scenario = world.scenario
    return {
        "nodes": scenario.config.num_nodes,
        "users": scenario.config.num_users,
        "slots": config.num_slots,
        "capacity_bytes": [int(size) for size in scenario.capacity_bytes],
        "capacity_share": float(scenario.capacity_bytes.mean() / scenario.catalog.dedup_bytes),
        "units": scenario.catalog.num_blocks,
        "trace": world.trace.digest,
        "commit": commit(),
        "run": config.to_dict(),
        "scenario": scenario.config.to_dict(),
    }


def _catalog(cloud: DiskBlockStore) -> CatalogReport:
    savings = cloud.savings()
    return CatalogReport(
        models=savings.models,
        blocks=savings.blocks,
        raw_bytes=savings.raw_bytes,
        file_dedup_bytes=savings.file_dedup_bytes,
        block_dedup_bytes=savings.block_dedup_bytes,
        disk_bytes=savings.disk_bytes,
    )
