"""Held-out worlds are played once: every look is on record, and a second one has to be asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.config import PRESETS
from policy.evaluation import evaluate
from policy.scenario import Scenario
from policy.world.looks import LOOKS, Look, LookedAtError, check_unseen, past_looks, read_looks, record_look
from policy.world.splits import Split
from tests.fakes import fixed_catalog


def _scenario(slots: int = 2) -> Scenario:
    config = replace(PRESETS["findings"], num_users=2, num_slots=slots, capacity_bytes=(120.0,))
    return Scenario(config, fixed_catalog())


def _play(record: Path, **changes: object) -> dict[str, object]:
    settings = {"scenario": _scenario(), "schemes": ["lru"], "worlds": 2, "split": "held-out"}
    result = evaluate(**{**settings, "bound_worlds": 0, "looks": record, **changes})  # type: ignore[arg-type]
    return dict(result.settings)


def test_a_second_look_is_refused_until_it_is_asked_for(tmp_path: Path) -> None:
    record = tmp_path / "looks.json"
    first = _play(record)
    with pytest.raises(
        LookedAtError, match=r"held-out 0..1 of findings on .* \(lru\); take others"
    ) as refused:
        _play(record, schemes=["lfu"])
    again = _play(record, schemes=["lfu"], seen=True)

    assert "\n" not in str(refused.value)
    assert (first["looked_at_before"], again["looked_at_before"]) == (0, 1)
    assert [look.what for look in read_looks(record)] == ["lru", "lfu"]
    with pytest.raises(LookedAtError, match="first world 2"):
        _play(record, first_world=1)


def test_other_worlds_and_other_scenarios_are_new(tmp_path: Path) -> None:
    record = tmp_path / "looks.json"
    _play(record)
    _play(record, first_world=2)
    _play(record, scenario=_scenario(slots=3))

    assert len(read_looks(record)) == 3


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_other_splits_are_neither_refused_nor_recorded(tmp_path: Path, split: Split) -> None:
    record = tmp_path / "looks.json"

    assert _play(record, split=split)["looked_at_before"] == 0
    assert _play(record, split=split)["looked_at_before"] == 0
    assert not record.exists()


def test_a_run_that_fails_is_no_look(tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        _play(tmp_path / "looks.json", make_world=broken)
    assert not (tmp_path / "looks.json").exists()


@given(first=st.integers(0, 50), count=st.integers(1, 20), other=st.integers(0, 50), width=st.integers(1, 20))
def test_a_look_sees_just_its_worlds(first: int, count: int, other: int, width: int) -> None:
    look = Look(
        split="held-out",
        first_world=first,
        worlds=count,
        scenario="s",
        scenario_sha256="a",
        when="2026-01-01",
        what="lru",
    )
    shared = set(range(first, first + count)) & set(range(other, other + width))

    assert look.sees("held-out", other, width, "a") == bool(shared)
    assert not look.sees("held-out", other, width, "b")
    assert not look.sees("test", other, width, "a")
    assert replace(look, scenario_sha256="*").sees("held-out", other, width, "b") == bool(shared)


def test_the_shipped_record_names_the_range_that_was_looked_at_twice() -> None:
    looks = read_looks()

    assert len(past_looks("test", 0, 1, "any scenario")) == 2
    assert all(look.worlds > 0 and look.what and look.when for look in looks)
    assert LOOKS.is_file()


@pytest.mark.parametrize("text", ["", "[]", '{"looks": [{"split": 1}]}', '{"looks": 3}', "[" * 3000])
def test_a_damaged_record_is_one_line(tmp_path: Path, text: str) -> None:
    record = tmp_path / "looks.json"
    record.write_text(text)

    with pytest.raises(ValueError, match="is not a record of looks") as raised:
        check_unseen("held-out", 0, 1, "a", record)
    assert "\n" not in str(raised.value)


def test_looks_are_kept_in_order(tmp_path: Path) -> None:
    look = read_looks()[0]
    for turn in range(3):
        record_look(replace(look, first_world=turn), tmp_path / "looks.json")

    assert [each.first_world for each in read_looks(tmp_path / "looks.json")] == [0, 1, 2]
