"""A log is read back as it was written, folds to what was so at a time, and tells when it was changed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from demo.emulation.log import KINDS, Line, LogWriter, check_log, fold, follow_log, read_log
from demo.emulation.log.check import LogError
from demo.emulation.log.events import (
    LOG_VERSION,
    Broadcast,
    Decided,
    Delivered,
    Ended,
    Event,
    EventError,
    Faulted,
    ModelAbout,
    NodeAbout,
    Recovered,
    Reported,
    Requested,
    SlotBegan,
    Started,
    Transferred,
)

SAMPLE = Path(__file__).parents[3] / "demo" / "emulation" / "log" / "sample.jsonl"


def small_log() -> list[Event]:
    """One model, one node, one user, one slot."""
    return [
        Started(
            version=LOG_VERSION,
            seed=0,
            runtime="threads",
            links="plain",
            scheme="lru",
            pace=0.0,
            loss=0.0,
            num_slots=1,
            slot_s=1.0,
            area_m=500.0,
            num_users=1,
            nodes=(NodeAbout(node=0, x_m=0.0, y_m=0.0, capacity_bytes=100),),
            models=(
                ModelAbout(name="m", base=None, kind="own", raw_bytes=50, files_sha256="aa", units=(0,)),
            ),
            unit_bytes=(50,),
            settings={},
        ),
        Decided(
            slot=0,
            node=0,
            added=(0,),
            dropped=(),
            held_bytes=50,
            worth=(1.5,),
            why="lru on 0 slots",
            decision_ms=1.0,
        ),
        SlotBegan(slot=0, user_xy=((1.0, 2.0),)),
        Requested(slot=0, user=0, model="m", node=0, source="trace"),
        Reported(slot=0, node=0, requests=1, sent_bytes=7, late=()),
        Transferred(
            slot=0,
            unit=0,
            form="kept",
            source=-1,
            target=0,
            cause="serve",
            payload_bytes=50,
            started_s=0.0,
            ended_s=0.1,
        ),
        Faulted(slot=0, fault="cut-off", place="node 0"),
        Recovered(slot=0, fault="cut-off", place="node 0", recovered_s=0.5),
        Broadcast(
            slot=0,
            units=(0,),
            form="kept",
            holders=(0,),
            users=(0,),
            rate_bit_s=1e6,
            bound_bit_s=2e6,
            payload_bytes=50,
            wire_bytes=60,
            repair_bytes=0,
            started_s=0.1,
            ended_s=0.2,
            blake3="bb",
        ),
        Delivered(
            slot=0,
            user=0,
            model="m",
            delay_s=0.2,
            computed_delay_s=0.1,
            wait_s=0.0,
            received_bytes=50,
            unicast_weight_bytes=0,
            files_sha256="aa",
            sha256_ok=True,
        ),
        Ended(
            requests=1,
            deliveries=1,
            origin_bytes=50,
            backhaul_bytes=0,
            broadcast_bytes=50,
            wire_bytes=60,
            repair_bytes=0,
            message_bytes=7,
        ),
    ]


def written(path: Path, events: list[Event]) -> list[Line]:
    with LogWriter(path) as writer:
        return [writer.write(event) for event in events]


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    lines = written(tmp_path / "log", small_log())
    assert [line.event for line in read_log(tmp_path / "log")] == [line.event for line in lines]
    assert list(follow_log(tmp_path / "log", lambda: True)) == list(read_log(tmp_path / "log"))
    check_log(lines).raise_if_broken()


def test_the_fold_says_what_was_so_at_a_time() -> None:
    lines = [Line(seq, float(seq), event) for seq, event in enumerate(small_log())]
    early, broken, late = fold(lines, 3.5), fold(lines, 6.5), fold(lines)
    assert early.device(0).waiting == [(0, "m")]
    assert early.node(0).held == {0}
    assert broken.node(0).fault == "cut-off"
    assert late.node(0).fault == ""
    assert late.device(0).delivered == ["m"]
    assert not late.device(0).waiting
    assert late.totals.wire_bytes == 60
    assert late.device(0).xy == (1.0, 2.0)


def change(place: int, **fields: object) -> Callable[[list[Event]], list[Event]]:
    def changed(events: list[Event]) -> list[Event]:
        events[place] = replace(events[place], **fields)  # type: ignore[arg-type]
        return events

    return changed


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (change(9, files_sha256="cc"), "not those of m"),
        (change(9, sha256_ok=False), "not those of m"),
        (change(9, inference_equal=False), "another answer"),
        (change(9, user=5), "did not ask"),
        (change(1, held_bytes=101), "101 bytes of 100"),
        (change(10, wire_bytes=59), "wire_bytes = 59"),
        (change(8, payload_bytes=49), "broadcast_bytes = 50"),
        (change(8, holders=()), "without holders"),
        (lambda events: events[1:], "first line"),
        (lambda events: [*events, events[2]], "after the end"),
    ],
)
def test_what_was_changed_is_found(lie: Callable[[list[Event]], list[Event]], says: str) -> None:
    lines = [Line(seq, float(seq), event) for seq, event in enumerate(lie(small_log()))]
    with pytest.raises(LogError, match=says):
        check_log(lines).raise_if_broken()


def test_a_gap_and_a_step_back_are_found() -> None:
    lines = [Line(seq, float(seq), event) for seq, event in enumerate(small_log())]
    assert any("expected number" in one for one in check_log([*lines[:4], *lines[5:]]).broken)
    assert any("back in time" in one for one in check_log([lines[0], replace(lines[1], at_s=-1.0)]).broken)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"[]\n", "expected an object"),
        (b'{"seq": 0}\n', "must be numbers"),
        (b'{"seq": 0, "at_s": 0, "kind": "no"}\n', "expected a kind"),
        (b'{"seq": 0, "at_s": 0, "kind": "slotbegan", "slot": true, "user_xy": []}\n', "must be int"),
        (b'{"seq": 0, "at_s": 0, "kind": "slotbegan"}\n', "not whole"),
        (b"\xff\n", "is no event"),
    ],
)
def test_a_line_that_is_no_event_is_refused(tmp_path: Path, line: bytes, says: str) -> None:
    (tmp_path / "log").write_bytes(line)
    with pytest.raises(EventError, match=says):
        list(read_log(tmp_path / "log"))


def test_a_torn_last_line_is_left_out_and_another_version_refused(tmp_path: Path) -> None:
    lines = written(tmp_path / "log", small_log())
    text = (tmp_path / "log").read_bytes()
    (tmp_path / "torn").write_bytes(text[:-20])
    assert len(list(read_log(tmp_path / "torn"))) == len(lines) - 1
    first = {**json.loads(text.splitlines()[0]), "version": LOG_VERSION + 1}
    (tmp_path / "new").write_text(json.dumps(first) + "\n")
    with pytest.raises(EventError, match="version"):
        list(read_log(tmp_path / "new"))


def test_fields_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    written(tmp_path / "log", small_log())
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    more = "".join(json.dumps({**row, "news": 1}) + "\n" for row in rows)
    (tmp_path / "more").write_text(more)
    assert [one.event for one in read_log(tmp_path / "more")] == [
        one.event for one in read_log(tmp_path / "log")
    ]


def test_the_sample_keeps_the_laws_and_every_kind_is_documented() -> None:
    verdict = check_log(read_log(SAMPLE))
    verdict.raise_if_broken()
    assert verdict.ended
    page = (SAMPLE.parents[1] / "EVENTS.md").read_text()
    for kind, made in KINDS.items():
        assert f"### `{kind}`" in page
        section = page.split(f"### `{kind}`")[1].split("###")[0]
        for name in made.__dataclass_fields__:
            assert f"`{name}`" in section, f"EVENTS.md does not say what {kind}.{name} is"
