"""A live edge, end to end: roles start, nodes decide, blocks are broadcast, devices have their models."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from demo.console import warn
from demo.emulation.faults.play import FaultPlayer
from demo.emulation.log.check import check_log
from demo.emulation.log.events import Event
from demo.emulation.log.reader import read_log
from demo.emulation.runtime.base import device_place
from demo.emulation.world import MEND_S, Wanted, World
from demo.jobs.emulate_clients import Clients
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.emulate_report import EmulateReport, report_of
from demo.jobs.originals import Original, of_store, of_zoo
from demo.jobs.run import LOG_NAME, claim, fill, offer_of
from demo.jobs.runtimes import runtime_of, warm_up
from demo.jobs.simulate import make_world, world_seed
from demo.jobs.stage import Stage, about_run
from demo.zoo import ZooModel, build_zoo
from demo.zoo.progress import Bars
from pbstore import DiskBlockStore, open_store
from policy.world.trace import start_world, step_world


def emulate(
    config: EmulateConfig,
    out: Path,
    *,
    progress: bool = True,
    keep_stores: bool = False,
    listener: Callable[[Event], None] | None = None,
) -> EmulateReport:
    """Run a live edge; write its log and report into a folder.

    Args:
        config: Settings.
        out: Folder of the run, made when missing; a log that is there is replaced.
        progress: Tell on stderr what is done.
        keep_stores: Leave the disks of nodes and devices in `out/network`.
        listener: Called with each event.

    Raises:
        ValueError: If `out` holds what no run made, or settings do not fit together.
        StalledError: If the live edge does not go on.
        LogError: If its log breaks a law.
    """
    claim(out)
    warm_up(config)
    with ExitStack() as stack:
        zoo = build_zoo(config.run.size, progress=progress) if config.run.store is None else []
        bars = stack.enter_context(Bars(enabled=progress))
        cloud, originals = _models(config, zoo, out, stack, bars)
        with bars.task(f"size {len(originals)} models in every form"):
            offer = offer_of(config.run, cloud, {name: one.base for name, one in originals.items()})
        stage = Stage(
            config=config,
            offer=offer,
            bases={name: one.base for name, one in originals.items()},
            folder=out / "network",
        )
        shutil.rmtree(stage.folder, ignore_errors=True)
        (out / LOG_NAME).unlink(missing_ok=True)
        began = time.perf_counter()
        with bars.task(f"run {config.run.emulated_slots} slots") as step:
            _play(stage, cloud, originals, out / LOG_NAME, listener, step)
        with bars.task("check the log"):
            verdict = check_log(read_log(out / LOG_NAME))
        verdict.raise_if_broken()
        if not keep_stores:
            shutil.rmtree(stage.folder, ignore_errors=True)
    report = report_of(config, verdict, read_log(out / LOG_NAME), time.perf_counter() - began)
    report.write(out)
    return report


def _models(
    config: EmulateConfig, zoo: Sequence[ZooModel], out: Path, stack: ExitStack, bars: Bars
) -> tuple[DiskBlockStore, Mapping[str, Original]]:
    """The origin's store, and what deliveries are compared with."""
    if config.run.store is not None:
        cloud = stack.enter_context(open_store(config.run.store, read_only=True))
        with bars.task("read what is in the store"):
            return cloud, of_store(cloud)
    cloud = stack.enter_context(open_store(out / "cloud"))
    with bars.task(f"add {len(zoo)} models to the origin's store") as step:
        fill(cloud, zoo, step)
    return cloud, of_zoo(zoo)


def _play(
    stage: Stage,
    cloud: DiskBlockStore,
    originals: Mapping[str, Original],
    path: Path,
    listener: Callable[[Event], None] | None,
    progress: Callable[[int, int], None],
) -> None:
    config = stage.config
    slots = config.run.emulated_slots
    started = about_run(stage, originals, slots)
    clients = Clients(config.clients, cloud, originals, stage.folder / "originals")

    def heard(event: Event) -> None:
        clients.note(event)
        if listener is not None:
            listener(event)

    with (
        runtime_of(stage, cloud) as runtime,
        World(runtime, started, path, heard, config.patience_s) as world,
    ):
        faults = FaultPlayer(config.script, world)
        world.on_phase = faults.begin
        if config.requests == "clients":
            _wait_on_clients(stage, world)
        else:
            for wanted in _until(stage, requests_of(stage)):
                world.step(wanted)
                clients.ask(world)
                progress(world.slot, slots)
        world.mend(MEND_S)
        faults.join()
        clients.ask(world)
        world.end()


def _wait_on_clients(stage: Stage, world: World) -> None:
    """Tell people where the devices are, and live by what they ask for."""
    for user in range(world.num_users):
        warn(f"user {user}: HF_ENDPOINT={world.urls[device_place(user)]}")
    end = time.monotonic() + 60 * stage.config.minutes
    first = next(requests_of(stage))
    world.serve_clients(first.user_xy, lambda: time.monotonic() > end)


def _until(stage: Stage, wanted: Iterator[Wanted]) -> Iterator[Wanted]:
    """As many slots as were asked for, or as long as was asked for."""
    config, end = stage.config, time.monotonic() + 60 * stage.config.minutes
    for slot, one in enumerate(wanted):
        if time.monotonic() > end and slot >= config.run.emulated_slots:
            return
        yield one


def requests_of(stage: Stage) -> Iterator[Wanted]:
    """Places and requests, slot after slot: the first world of `pbcast run`, without an end if drawn."""
    config, scenario = stage.config.run, stage.scenario
    if config.trace is not None:
        trace = make_world(config, stage.offer).trace
        for user_xy, requests in zip(trace.user_xy, trace.requests, strict=True):
            yield Wanted(user_xy=np.array(user_xy), requests=np.array(requests))
        return
    rng = np.random.default_rng(world_seed(config, 0))
    state = start_world(rng, scenario.config, scenario.families.size)
    while True:
        state, xy, asked = step_world(rng, state, scenario.config, scenario.families)
        yield Wanted(user_xy=xy, requests=asked)
