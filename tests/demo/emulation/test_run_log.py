"""The log of `pbcast run` tells what the live edge's log of the same scenario and seed tells."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.cli import main
from demo.emulation.log import Line, check_log, read_log
from demo.emulation.log.events import (
    Broadcast,
    Decided,
    Delivered,
    Planned,
    Requested,
    SlotBegan,
    Transferred,
)
from demo.jobs.deliver import deliver
from demo.jobs.emulate import emulate
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.originals import of_store
from demo.jobs.run import LOG_NAME, offer_of
from demo.jobs.simulate import make_world
from pbstore import open_store
from tests.demo.emulation.conftest import small_run

Lines = list[Line]


@pytest.fixture(scope="module")
def logs(family: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lines, Lines, Path]:
    """Of a run, and of a live edge without losses; and where the first lies."""
    config, out = small_run(family, slots=2), tmp_path_factory.mktemp("run")
    emulate(EmulateConfig(run=config, clients=0, patience_s=300.0), out / "live", progress=False)
    with open_store(family, read_only=True) as store:
        originals = of_store(store)
        offer = offer_of(config, store, {name: one.base for name, one in originals.items()})
        world, where = make_world(config, offer), out / "plain"
        where.mkdir()
        (where / LOG_NAME).write_text("of an earlier run")
        network = where / "network"
        deliver(config, store, offer, world, originals, network, lambda *_: None, log=where / LOG_NAME)
    return list(read_log(where / LOG_NAME)), list(read_log(out / "live" / LOG_NAME)), where


def of_kind(lines: Lines, kind: type[Any], *apart: str, key: Callable[[Any], object] = repr) -> list[Any]:
    """Events of a kind without what is measured on a clock."""
    blank = {name: () if name in ("users", "missed") else 0 for name in apart}
    return sorted((replace(line.event, **blank) for line in lines if isinstance(line.event, kind)), key=key)


def test_the_same_is_decided(logs: tuple[Lines, Lines, Path]) -> None:
    plain, live, _ = logs
    assert plain[0].event.nodes == live[0].event.nodes
    assert plain[0].event.models == live[0].event.models
    for kind, apart in (
        (Decided, ("decision_ms",)),
        (SlotBegan, ()),
        (Requested, ()),
        (Planned, ("plan_ms",)),
    ):
        assert of_kind(plain, kind, *apart) == of_kind(live, kind, *apart), kind


def test_the_same_bytes_go_the_same_ways(logs: tuple[Lines, Lines, Path]) -> None:
    plain, live, _ = logs
    times = ("started_s", "ended_s")
    assert of_kind(plain, Transferred, *times) == of_kind(live, Transferred, *times)
    apart = (*times, "wire_bytes", "rate_bit_s", "bound_bit_s")
    ours, theirs = of_kind(plain, Broadcast, *apart), of_kind(live, Broadcast, *apart)
    assert ours == theirs
    assert all(len(one.blake3) == 64 for one in ours)
    rates = [
        [(c.units, c.rate_bit_s, c.bound_bit_s) for c in of_kind(log, Broadcast)] for log in (plain, live)
    ]
    for (units, rate, bound), (same, other, other_bound) in zip(*map(sorted, rates), strict=True):
        assert units == same
        assert (rate, bound) == pytest.approx((other, other_bound))


def test_the_same_models_arrive(logs: tuple[Lines, Lines, Path]) -> None:
    plain, live, _ = logs
    measured = ("delay_s", "wait_s", "lived_s")
    ours, theirs = of_kind(plain, Delivered), of_kind(live, Delivered)
    assert all(one.delay_s == one.computed_delay_s for one in ours)
    strip = dict.fromkeys(measured, 0) | {"inference_equal": None, "answer": ""}
    assert [replace(one, **strip) for one in ours] == [replace(one, **strip) for one in theirs]


def test_times_are_those_of_the_plan(logs: tuple[Lines, Lines, Path]) -> None:
    plain, _, _ = logs
    about = plain[0].event
    began = {line.event.slot: line.at_s for line in plain if isinstance(line.event, SlotBegan)}
    assert [began[slot] - began[0] for slot in began] == pytest.approx([about.slot_s * k for k in began])
    for line in plain:
        event = line.event
        if isinstance(event, Delivered):
            assert line.at_s == pytest.approx(began[event.slot] + event.delay_s, abs=1e-5)
        elif isinstance(event, Broadcast) or (isinstance(event, Transferred) and event.cause == "serve"):
            assert line.at_s == pytest.approx(event.ended_s, abs=1e-5)
            assert began[event.slot] - 1e-5 <= event.started_s <= event.ended_s


def test_the_tools_of_a_live_edge_take_it(
    logs: tuple[Lines, Lines, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _, where = logs
    verdict = check_log(plain)
    assert (verdict.broken, verdict.unserved, verdict.ended) == ((), 0, True)
    assert main(["replay", str(where)]) == 0
    assert "every law holds" in capsys.readouterr().out


@pytest.mark.slow
def test_a_report_draws_its_slot(logs: tuple[Lines, Lines, Path]) -> None:
    where = logs[2]
    assert main(["report", str(where)]) == 0
    assert "Timeline of one slot" in (where / "report.html").read_text()
