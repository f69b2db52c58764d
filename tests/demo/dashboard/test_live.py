"""A live run is one process at a time, ended before the next, each with a log of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.cli.options import parse_capacity
from demo.dashboard import Chosen, LiveRun, live
from demo.emulation.faults.script import read_script
from tests.demo.dashboard.logs import SAMPLE
from tests.demo.dashboard.test_app import wait_for

STUB = f"""
import pathlib, shutil, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
try:
    out.mkdir(parents=True, exist_ok=True)
    (out / "words").write_text(" ".join(sys.argv[1:]))
    shutil.copy({str(SAMPLE)!r}, out / "events.jsonl")
    time.sleep(600)
except KeyboardInterrupt:
    (out / "ended").touch()
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LiveRun, list[Path]]]:
    monkeypatch.setattr(live, "_MAIN", STUB)
    watched: list[Path] = []
    one = LiveRun(tmp_path, ["--minutes", "1"], watched.append, parse_capacity)
    yield one, watched
    one.end()


def test_each_run_has_its_settings_and_its_folder(run: tuple[LiveRun, list[Path]], tmp_path: Path) -> None:
    one, watched = run
    one.restart(Chosen(scheme="lru", capacity="20%", nodes="3", faults="a node dies"))
    wait_for(watched[0].exists)
    one.restart(Chosen(scheme="rendezvous"))
    wait_for(watched[1].exists)
    assert (tmp_path / "1/ended").exists()
    assert watched == [tmp_path / "1/events.jsonl", tmp_path / "2/events.jsonl"]
    words = [(path.parent / "words").read_text() for path in watched]
    script = tmp_path / "1/faults.json"
    chosen = f"--scheme lru --capacity 20% --nodes 3 --faults {script}"
    assert words[0] == f"emulate {chosen} --out {tmp_path / '1'} --minutes 1"
    assert [(one.what, one.place) for one in read_script(script)] == [("die", "node 1")]
    assert words[1] == f"emulate --scheme rendezvous --out {tmp_path / '2'} --minutes 1"
    assert one.about()["scheme"] == "rendezvous"


@pytest.mark.parametrize(
    "settings",
    [
        {"scheme": "nothing"},
        {"capacity": "lots"},
        {"capacity": "-1"},
        {"nodes": "0"},
        {"nodes": "17"},
        {"nodes": "--out"},
        {"faults": "all"},
        {"faults": "a node dies", "nodes": "1"},
    ],
)
def test_what_is_no_setting_leaves_the_run_alone(
    run: tuple[LiveRun, list[Path]], settings: dict[str, str]
) -> None:
    one, watched = run
    with pytest.raises(ValueError, match=r"must be|expected|where there are two"):
        one.restart(Chosen(**settings))
    assert watched == []


@pytest.mark.parametrize("name", live.FAULTS)
def test_each_fault_of_the_page_is_a_script(tmp_path: Path, name: str) -> None:
    words = Chosen(faults=name).options(tmp_path / "out")
    assert ("--faults" in words) == (name != "none")
    for path in (tmp_path / "out").glob("*.json"):
        assert all(fault.slot == 1 for fault in read_script(path))
