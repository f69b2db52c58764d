"""The main job, end to end: real checkpoints in, the same models running at the users out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from demo.bridge.store_catalog import catalog_from_store
from demo.jobs.config import RunConfig, scheme_names
from demo.jobs.deliver import deliver
from demo.jobs.report import CatalogReport, RunReport, ZooReport
from demo.jobs.simulate import make_world, simulate
from demo.zoo import ZooModel, build_zoo
from demo.zoo.progress import Bars
from demo.zoo.progress import Step as Progress
from pbstore import DiskBlockStore, open_store
from policy.scenario import World

MARK = ".pbcast-run"
"""File that says that a folder's stores are a run's own and may be replaced."""


def run_end_to_end(
    config: RunConfig, out: Path, *, keep_stores: bool = False, progress: bool = True
) -> RunReport:
    """Run the main job; write `report.json` into a folder.

    What was finished stays: the zoo in its cache, the cloud's store and every scheme's result in `out`. A
    second run with the same settings reuses them.

    Args:
        config: Settings.
        out: Folder of the run, made when missing.
        keep_stores: Leave the emulated nodes' and devices' stores in `out/network`.
        progress: Tell on stderr what is done.

    Raises:
        ValueError: If `out` holds stores that no run made.
        ZooError: If no model could be had.
        EmulationError: If real bytes differ from the plan.
    """
    _claim(out)
    zoo = build_zoo(config.size, progress=progress)
    with Bars(enabled=progress) as bars, open_store(out / "cloud") as cloud:
        with bars.task(f"add {len(zoo)} models to the cloud's store") as step:
            _fill(cloud, zoo, step)
        offer = catalog_from_store(
            cloud, {model.name: model.base for model in zoo if model.kind == "adapter"}
        )
        world = make_world(config, offer)
        schemes = {}
        with bars.task(f"simulate {len(scheme_names())} schemes") as step:
            for done, name in enumerate(scheme_names()):
                schemes[name] = simulate(config, world, name, out / "schemes")
                step(done + 1, len(scheme_names()))
        with bars.task(f"replay {config.emulated_slots} slots of {config.emulated_scheme}") as step:
            deliveries = deliver(
                config, cloud, offer, world, zoo, out / "network", step, keep_stores=keep_stores
            )
        report = RunReport(
            seed=config.seed,
            settings=_settings(config, world),
            catalog=_catalog(cloud),
            schemes=schemes,
            deliveries=tuple(deliveries),
            zoo=tuple(_zoo_row(model) for model in zoo),
        )
    report.write(out)
    return report


def _claim(out: Path) -> None:
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


def _fill(cloud: DiskBlockStore, zoo: Sequence[ZooModel], progress: Progress) -> None:
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
        "nodes": config.radio.num_nodes,
        "users": config.radio.num_users,
        "slots": config.num_slots,
        "capacity_bytes": [int(size) for size in scenario.capacity_bytes],
        "capacity_share": float(scenario.capacity_bytes.mean() / scenario.catalog.dedup_bytes),
        "units": scenario.catalog.num_blocks,
        "trace": world.trace.digest,
        "run": asdict(config),
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


def _zoo_row(model: ZooModel) -> ZooReport:
    return ZooReport(
        model=model.name,
        base=model.base,
        kind=model.kind,
        raw_bytes=model.raw_bytes,
        metric=model.metric,
        value=model.value,
        majority=model.majority,
    )
