"""One round of faults drawn by a seed, and what must hold after it."""

from dataclasses import replace
from pathlib import Path

from demo.emulation.faults.script import random_script
from demo.emulation.log import check_log, read_log
from demo.emulation.log.events import Faulted
from demo.jobs.config import RunConfig
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from policy.config import AirConfig
from tests.demo.emulation.conftest import small_run

NODES, USERS, SLOTS = 3, 3, 3


def crowded(run: RunConfig, at_once: int) -> RunConfig:
    """A run with so many users and antennas that blocks do go at once: all ask in every slot."""
    requests = replace(run.scenario.requests, request_prob=1.0)
    air = AirConfig(superpose=at_once)
    return replace(
        run, antennas=8, scenario=replace(run.scenario, num_users=USERS + 2, requests=requests, air=air)
    )


def faulty_round(store: Path, out: Path, seed: int, runtime: str = "threads", at_once: int = 1) -> str:
    """Live through one script; nothing wrong is delivered, every request is served. Says what broke."""
    run = small_run(store, seed, SLOTS)
    run = replace(run, scenario=replace(run.scenario, num_nodes=NODES, num_users=USERS))
    if at_once > 1:
        run = crowded(run, at_once)
    script = random_script(seed, SLOTS, NODES, USERS)
    config = EmulateConfig(run=run, runtime=runtime, loss=0.05, clients=0, script=script, patience_s=2.0)
    report = emulate(config, out, progress=False)
    verdict = check_log(read_log(out / LOG_NAME))
    verdict.raise_if_broken()
    assert report.good
    assert verdict.unserved == 0
    assert verdict.state.totals.deliveries == verdict.state.totals.requests
    faults = [line.event for line in read_log(out / LOG_NAME) if isinstance(line.event, Faulted)]
    assert len(faults) == len(script)
    told = ", ".join(f"{one.what} {one.place} in {one.phase} {one.slot}" for one in script)
    beside = f", {report.wire['together']} broadcasts beside others" if at_once > 1 else ""
    return f"{verdict.state.totals.deliveries} served{beside}; {told}"
