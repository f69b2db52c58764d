"""Blocks on the air at once: a live edge sends what `pbcast run` says, at rates of what is on the air."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from demo.cli import main
from demo.emulation.log import Line, check_log, read_log
from demo.emulation.log.events import LATER, Broadcast, Decided, Delivered, Planned, Transferred
from demo.jobs.config import RunConfig
from demo.jobs.deliver import deliver
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.originals import of_store
from demo.jobs.run import offer_of
from demo.jobs.simulate import make_world
from demo.show.timeline import spans_of
from pbstore import open_store
from tests.demo.emulation.conftest import small_run
from tests.demo.emulation.faulty import crowded, faulty_round

Lines = list[Line]
LIVE = ("threads", "processes", "ray")


def superposed(store: Path, at_once: int = 2, seed: int = 0, slots: int = 2) -> RunConfig:
    """Two nodes with antennas to spare and five users, who all ask in every slot."""
    return crowded(small_run(store, seed, slots), at_once)


def planned(run: RunConfig, out: Path) -> Lines:
    """The log of `pbcast run`."""
    assert run.store is not None
    with open_store(run.store, read_only=True) as store:
        originals = of_store(store)
        offer = offer_of(run, store, {name: one.base for name, one in originals.items()})
        out.mkdir()
        world = make_world(run, offer)
        deliver(run, store, offer, world, originals, out / "network", lambda *_: None, log=out / LOG_NAME)
    return list(read_log(out / LOG_NAME))


@pytest.fixture(
    scope="module",
    params=[
        "threads",
        pytest.param("processes", marks=pytest.mark.slow),
        pytest.param(
            "ray",
            marks=[pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here")],
        ),
    ],
)
def logs(
    request: pytest.FixtureRequest, family: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lines, Lines, Path]:
    """Of a run, and of a live edge that loses packets; and where the first lies."""
    run, out = superposed(family), tmp_path_factory.mktemp("superposed")
    config = EmulateConfig(
        run=run,
        clients=0,
        loss=0.05,
        snr_loss=True,
        pace=0.01,
        runtime=request.param,
        patience_s=300.0,
    )
    report = emulate(config, out / "live", progress=False)
    assert report.good
    assert report.wire["together"] > 0
    return planned(run, out / "run"), list(read_log(out / "live" / LOG_NAME)), out / "run"


def of_kind(lines: Lines, kind: type[Any], **blank: object) -> list[Any]:
    return sorted((replace(line.event, **blank) for line in lines if isinstance(line.event, kind)), key=repr)


def casts(lines: Lines) -> list[Broadcast]:
    return [line.event for line in lines if isinstance(line.event, Broadcast)]


def test_the_same_is_decided_and_moved(logs: tuple[Lines, Lines, Path]) -> None:
    plain, live, _ = logs
    times = {"started_s": 0, "ended_s": 0}
    assert of_kind(plain, Decided, decision_ms=0) == of_kind(live, Decided, decision_ms=0)
    assert of_kind(plain, Planned, plan_ms=0) == of_kind(live, Planned, plan_ms=0)
    assert of_kind(plain, Transferred, **times) == of_kind(live, Transferred, **times)


def test_the_same_bytes_go_to_the_same_users(logs: tuple[Lines, Lines, Path]) -> None:
    plain, live, _ = logs
    measured: dict[str, object] = dict.fromkeys(
        ("started_s", "ended_s", "wire_bytes", "repair_bytes", "rate_bit_s", "bound_bit_s", "alone_bit_s"), 0
    )
    assert of_kind(plain, Broadcast, **measured, together=()) == of_kind(
        live, Broadcast, **measured, together=()
    )
    assert not any(cast.is_repair or cast.missed for cast in casts(live))
    assert sum(cast.repair_bytes for cast in casts(live)) > 0
    alone = [{(c.slot, c.number): c.alone_bit_s for c in casts(log)} for log in (plain, live)]
    assert alone[0] == pytest.approx(alone[1])


def test_every_request_is_delivered_whole(logs: tuple[Lines, Lines, Path]) -> None:
    plain, live, _ = logs
    for one in of_kind(live, Delivered):
        assert one.sha256_ok
        assert one.unicast_weight_bytes == 0
    told = [
        sorted((d.slot, d.user, d.model, d.files_sha256, d.received_bytes) for d in of_kind(log, Delivered))
        for log in (plain, live)
    ]
    assert told[0] == told[1] != []


def test_what_is_on_the_air_together_is_told(logs: tuple[Lines, Lines, Path]) -> None:
    for log in logs[:2]:
        assert any(cast.together for cast in casts(log))
        by_number = {(cast.slot, cast.number): cast for cast in casts(log) if cast.number >= 0}
        for (slot, number), cast in by_number.items():
            assert cast.rate_bit_s <= cast.alone_bit_s * (1 + 1e-9)
            assert cast.rate_bit_s <= cast.bound_bit_s * 1.001
            for other in cast.together:
                beside = by_number[slot, other]
                assert number in beside.together
                assert not {*cast.users} & {*beside.users}
                assert min(cast.ended_s, beside.ended_s) > max(cast.started_s, beside.started_s)


def test_nothing_beside_others_has_more_than_it_has_beside_them(logs: tuple[Lines, Lines, Path]) -> None:
    for cast in casts(logs[1]):
        if cast.number >= 0 and not cast.together:
            assert cast.rate_bit_s == pytest.approx(cast.alone_bit_s)


def test_the_tools_of_a_log_take_it(
    logs: tuple[Lines, Lines, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, live, where = logs
    for log in (plain, live):
        verdict = check_log(log)
        assert (verdict.broken, verdict.unserved, verdict.ended) == ((), 0, True)
        lanes = {span.lane for slot in range(2) for span in spans_of(log, slot)}
        assert "band 2" in lanes
    assert "band 3" not in lanes  # of the live edge; a plan also has broadcasts that are pushed aside
    assert main(["replay", str(where)]) == 0
    told = capsys.readouterr().out
    assert "of its rate alone, as number" in told
    assert "every law holds" in told


def test_a_log_in_which_a_user_hears_two_at_once_breaks_a_law(logs: tuple[Lines, Lines, Path]) -> None:
    plain = logs[0]
    first = next(cast for cast in casts(plain) if cast.together)
    other = next(c for c in casts(plain) if c.slot == first.slot and c.number in first.together)
    wrong = [
        replace(line, event=replace(line.event, users=(*line.event.users, *first.users)))
        if line.event is other
        else line
        for line in plain
    ]
    assert any("cannot go together" in fault for fault in check_log(wrong).broken)


def test_in_turn_a_log_has_no_field_of_blocks_at_once(family: Path, tmp_path: Path) -> None:
    run = superposed(family, at_once=1)
    emulate(EmulateConfig(run=run, clients=0, patience_s=300.0), tmp_path / "live", progress=False)
    planned(run, tmp_path / "run")
    for folder in ("live", "run"):
        rows = [json.loads(line) for line in (tmp_path / folder / LOG_NAME).read_text().splitlines()]
        sent = [row for row in rows if row["kind"] == "broadcast"]
        assert sent
        assert not any(LATER[Broadcast].keys() & row.keys() for row in sent)
        assert "superpose" not in json.dumps(rows[0])


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_faults_lose_nothing_while_blocks_go_at_once(family: Path, tmp_path: Path, seed: int) -> None:
    faulty_round(family, tmp_path / "out", seed, at_once=2)
    sent = casts(list(read_log(tmp_path / "out" / LOG_NAME)))
    assert any(cast.together for cast in sent)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["threads", "processes"])
@pytest.mark.parametrize("seed", range(10, 14))
def test_more_faults(family: Path, tmp_path: Path, runtime: str, seed: int) -> None:
    faulty_round(family, tmp_path / "out", seed, runtime, at_once=3)


def test_numbers_count_the_starts_of_the_plan(logs: tuple[Lines, Lines, Path]) -> None:
    plain = logs[0]
    for slot in {cast.slot for cast in casts(plain)}:
        own = sorted((c for c in casts(plain) if c.slot == slot), key=lambda c: c.number)
        if own[0].number >= 0:
            assert [c.number for c in own] == list(range(len(own)))
            assert [c.started_s for c in own] == sorted(c.started_s for c in own)
