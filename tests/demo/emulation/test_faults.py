"""Whatever breaks, nothing wrong is delivered and every user is served; and a script says what breaks."""

from pathlib import Path

import pytest

from demo.emulation.faults.inside import corrupt
from demo.emulation.faults.script import FAULTS, PHASES, Fault, random_script, read_script
from demo.emulation.log import check_log, read_log
from demo.emulation.log.events import Faulted, Recovered, Rejected
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from tests.demo.emulation.conftest import small_run
from tests.demo.emulation.faulty import faulty_round
from tests.thoroughness import TIMES


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4 * TIMES))
def test_nothing_wrong_is_delivered_and_everybody_is_served(family: Path, tmp_path: Path, seed: int) -> None:
    faulty_round(family, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2 * TIMES))
def test_so_it_is_with_processes_that_are_killed(family: Path, tmp_path: Path, seed: int) -> None:
    faulty_round(family, tmp_path, 1000 + seed, "processes")


def test_the_leader_goes_in_the_middle_and_a_disk_is_lost(family: Path, tmp_path: Path) -> None:
    script = (
        Fault(what="die", place="node 0", slot=0, after_s=0.02, back_after_s=0.2),
        Fault(what="lose-disk", place="device 0", slot=0, phase="ask", back_after_s=0.1),
        Fault(what="corrupt", place="node 1", slot=1, phase="ask"),
        Fault(what="clock", place="node 1", slot=1),
    )
    run = small_run(family, slots=2)
    config = EmulateConfig(run=run, clients=0, script=script, patience_s=2.0)
    report = emulate(config, tmp_path, progress=False)
    events = [line.event for line in read_log(tmp_path / LOG_NAME)]
    verdict = check_log(read_log(tmp_path / LOG_NAME))
    assert (verdict.broken, verdict.unserved) == ((), 0)
    assert [one.fault for one in events if isinstance(one, Faulted)] != []
    assert len(report.faults) == len(script)
    assert sum(isinstance(one, Recovered) for one in events) == len(script)
    assert all(row["recovered_s"] is not None for row in report.faults)
    assert report.good
    assert all(one.place.startswith(("node", "device")) for one in events if isinstance(one, Rejected))


SCRIPT = """
[[fault]]
what = "die"
place = "node 1"
slot = 1
after_s = 0.05
"""


def test_a_script_is_read(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(SCRIPT)
    assert read_script(path) == (Fault(what="die", place="node 1", slot=1, after_s=0.05),)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('what = "die"', 'what = "explode"'), "fault 1: what must be one of die"),
        (('place = "node 1"', 'place = "moon"'), "place must be `node N`"),
        (("slot = 1", "slot = -1"), "slot must be >= 0"),
        (("slot = 1", "slot = 1.5"), "slot must be a whole number"),
        (("after_s = 0.05", "after_s = true"), "after_s must be a number"),
        (("after_s = 0.05", "after_s = inf"), "must be >= 0 and finite"),
        (("after_s", "later"), "has no field 'later'"),
        (("slot = 1\n", ""), "missing"),
        (("[[fault]]", "[fault]"), "a list `fault`"),
        (("[[fault]]", "[[fault"), "not valid toml"),
    ],
)
def test_a_script_that_is_none_is_refused(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(SCRIPT.replace(*change))
    with pytest.raises(ValueError, match=says):
        read_script(path)


def test_drawn_scripts_repeat_and_have_every_fault() -> None:
    drawn = [random_script(seed, 3, 3, 3) for seed in range(60)]
    assert drawn == [random_script(seed, 3, 3, 3) for seed in range(60)]
    every = [fault for script in drawn for fault in script]
    assert {fault.what for fault in every} == set(FAULTS)
    assert {fault.phase for fault in every} == set(PHASES)


def test_an_empty_store_has_nothing_to_corrupt(tmp_path: Path) -> None:
    assert corrupt(tmp_path, 3) == "nothing to corrupt"
    (tmp_path / "1.pack").write_bytes(bytes(1000))
    assert "64 bytes" in corrupt(tmp_path, 3)
    assert (tmp_path / "1.pack").read_bytes().count(255) == 64
