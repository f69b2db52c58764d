"""A live edge, end to end: roles start, nodes decide, blocks are broadcast, devices have their models."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from demo.emulation.log.check import check_log
from demo.emulation.log.events import Event
from demo.emulation.log.reader import read_log
from demo.emulation.runtime.base import ORIGIN, Runtime
from demo.emulation.runtime.threads import ThreadRuntime
from demo.emulation.world import Wanted, World
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.emulate_report import EmulateReport, report_of
from demo.jobs.originals import Original, of_store, of_zoo
from demo.jobs.run import claim, fill, offer_of
from demo.jobs.simulate import make_world
from demo.jobs.stage import Stage, ThreadRoles, about_run
from demo.zoo import build_zoo
from demo.zoo.progress import Bars
from pbstore import DiskBlockStore, open_store

LOG_NAME = "events.jsonl"
MEND_S = 120.0
"""How long the end waits for users who are not served, s."""


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
    with ExitStack() as stack:
        bars = stack.enter_context(Bars(enabled=progress))
        cloud, originals = _models(config, out, stack, bars)
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
        verdict = check_log(read_log(out / LOG_NAME))
        verdict.raise_if_broken()
        if not keep_stores:
            shutil.rmtree(stage.folder, ignore_errors=True)
    report = report_of(config, verdict, read_log(out / LOG_NAME), time.perf_counter() - began)
    report.write(out)
    return report


def _models(
    config: EmulateConfig, out: Path, stack: ExitStack, bars: Bars
) -> tuple[DiskBlockStore, Mapping[str, Original]]:
    """The origin's store, and what deliveries are compared with."""
    if config.run.store is not None:
        cloud = stack.enter_context(open_store(config.run.store, read_only=True))
        return cloud, of_store(cloud)
    zoo = build_zoo(config.run.size, progress=False)
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
    with World(_runtime(stage, cloud), started, path, listener, config.patience_s) as world:
        for slot, wanted in enumerate(requests_of(stage)):
            world.step(wanted)
            progress(slot + 1, slots)
        world.mend(MEND_S)
        world.end()


def requests_of(stage: Stage) -> Iterator[Wanted]:
    """Places and requests of each slot: those of the first world of `pbcast run`."""
    trace = make_world(stage.config.run, stage.offer).trace
    for slot in range(stage.config.run.emulated_slots):
        yield Wanted(user_xy=np.array(trace.user_xy[slot]), requests=np.array(trace.requests[slot]))


def _runtime(stage: Stage, cloud: DiskBlockStore) -> Runtime:
    roles = ThreadRoles(stage, cloud)
    return _OriginFirst(ThreadRuntime(roles), roles)


class _OriginFirst:
    """Tells the roles where the origin is as soon as that is known."""

    def __init__(self, inner: ThreadRuntime, roles: ThreadRoles) -> None:
        self._inner, self._roles = inner, roles

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """See `Runtime`."""
        url = self._inner.start(place, comes_back=comes_back)
        if place == ORIGIN:
            self._roles.origin_url = url
        return url

    def kill(self, place: str) -> None:
        """See `Runtime`."""
        self._inner.kill(place)

    def close(self) -> None:
        """See `Runtime`."""
        self._inner.close()
