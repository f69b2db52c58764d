"""A live edge decides and moves what `pbcast run` does, and its log tells all of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from demo.bridge.store_catalog import StoreCatalog
from demo.emulation.log import Line, check_log, read_log
from demo.emulation.log.events import ORIGIN, Broadcast, Decided, Delivered, Planned, Transferred
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.emulate_report import EmulateReport
from demo.jobs.originals import of_store
from demo.jobs.run import offer_of
from demo.jobs.simulate import make_world, play_scheme
from pbstore import open_store
from policy.play.rollout import Step
from policy.scenario import World
from tests.demo.emulation.conftest import small_run


@dataclass(frozen=True)
class Lived:
    report: EmulateReport
    lines: list[Line]
    steps: list[Step]
    world: World
    offer: StoreCatalog


@pytest.fixture(scope="module", params=["threads", pytest.param("processes", marks=pytest.mark.slow)])
def lived(request: pytest.FixtureRequest, family: Path, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """One live edge, and the same world as `pbcast run` plays it."""
    run, out = small_run(family), tmp_path_factory.mktemp("live")
    # no report may be late: decisions would differ
    config = EmulateConfig(run=run, loss=0.05, clients=0, runtime=request.param, patience_s=300.0)
    report = emulate(config, out, progress=False)
    with open_store(family, read_only=True) as store:
        offer = offer_of(run, store, {name: one.base for name, one in of_store(store).items()})
    world = make_world(run, offer)
    steps = list(play_scheme(run, world, run.emulated_scheme)[0])
    return Lived(report, list(read_log(out / LOG_NAME)), steps, world, offer)


def test_nodes_decide_as_the_simulation_does(lived: Lived) -> None:
    held: dict[int, set[int]] = {0: set(), 1: set()}
    seen = []
    for line in lived.lines:
        event = line.event
        if isinstance(event, Decided):
            held[event.node] = (held[event.node] - set(event.dropped)) | set(event.added)
            seen.append((event.slot, event.node))
            expected = lived.steps[event.slot].placement[event.node]
            assert held[event.node] == set(np.flatnonzero(expected))
            assert event.held_bytes == expected @ lived.world.scenario.catalog.sizes_bytes
    assert sorted(seen) == [(slot, node) for slot in range(len(lived.steps)) for node in range(2)]


def test_the_same_bytes_move(lived: Lived) -> None:
    for step in lived.steps:
        slot, outcome = step.outcome.slot, step.outcome
        events = [line.event for line in lived.lines if getattr(line.event, "slot", -1) == slot]
        moves = [one for one in events if isinstance(one, Transferred)]
        casts = [one for one in events if isinstance(one, Broadcast)]
        assert not any(one.why_not for one in moves)
        updates = sum(one.payload_bytes for one in moves if one.cause == "update")
        assert updates == outcome.cache_update_bytes
        served = [one for one in moves if one.cause == "serve"]
        assert sum(one.payload_bytes for one in served if one.source == ORIGIN) == outcome.cloud_bytes
        assert sum(one.payload_bytes for one in served if one.source != ORIGIN) == outcome.migrated_bytes
        assert sum(one.payload_bytes for one in casts) == outcome.sent_bytes
        assert [unit for one in casts for unit in one.units] == [one.block for one in outcome.broadcasts]
        assert [one.users for one in casts for _ in one.units] == [one.users for one in outcome.broadcasts]
        assert [one.holders for one in casts for _ in one.units] == [
            one.holders for one in outcome.broadcasts
        ]
    assert sum(step.outcome.sent_bytes for step in lived.steps) > 0


def test_every_request_is_delivered_whole(lived: Lived) -> None:
    asked = [
        (slot, int(user), lived.offer.catalog.model_names[lived.world.trace.requests[slot, user]])
        for slot in range(len(lived.steps))
        for user in np.flatnonzero(lived.world.asked(slot))
    ]
    delivered = [line.event for line in lived.lines if isinstance(line.event, Delivered)]
    assert sorted((one.slot, one.user, one.model) for one in delivered) == asked
    assert all(one.sha256_ok and one.unicast_weight_bytes == 0 for one in delivered)
    computed = {(one.slot, one.user): one.computed_delay_s for one in delivered}
    assert computed == {(slot, user): lived.steps[slot].outcome.user_delay_s[user] for slot, user, _ in asked}
    assert lived.report.good


def test_a_broadcast_keeps_below_its_bound_and_lost_packets_cost_repair(lived: Lived) -> None:
    casts = [line.event for line in lived.lines if isinstance(line.event, Broadcast)]
    assert all(0 < cast.rate_bit_s <= cast.bound_bit_s * 1.001 for cast in casts)
    assert sum(cast.repair_bytes for cast in casts) > 0
    assert all(cast.wire_bytes > cast.payload_bytes for cast in casts)


def test_the_plan_is_told_with_its_delays(lived: Lived) -> None:
    plans = [line.event for line in lived.lines if isinstance(line.event, Planned)]
    for plan, step in zip(plans, lived.steps, strict=True):
        assert plan.computed_delay_s == tuple(step.outcome.user_delay_s)


def test_the_log_keeps_its_laws(lived: Lived) -> None:
    verdict = check_log(lived.lines)
    assert (verdict.broken, verdict.unserved, verdict.ended) == ((), 0, True)
