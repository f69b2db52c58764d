"""A live run is one process at a time, ended before the next, each with a log of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.cli.options import parse_capacity
from demo.dashboard import LiveRun, live
from tests.demo.dashboard.logs import SAMPLE
from tests.demo.dashboard.test_app import wait_for

STUB = f"""
import pathlib, shutil, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
(out / "words").write_text(" ".join(sys.argv[1:]))
shutil.copy({str(SAMPLE)!r}, out / "events.jsonl")
try:
    time.sleep(60)
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
    one.restart("lru", "20%")
    wait_for(watched[0].exists)
    one.restart("rendezvous", "")
    wait_for(watched[1].exists)
    assert (tmp_path / "1/ended").exists()
    assert watched == [tmp_path / "1/events.jsonl", tmp_path / "2/events.jsonl"]
    words = [(path.parent / "words").read_text() for path in watched]
    assert words[0] == f"emulate --scheme lru --capacity 20% --out {tmp_path / '1'} --minutes 1"
    assert "--capacity" not in words[1]
    assert one.about()["scheme"] == "rendezvous"


@pytest.mark.parametrize(("scheme", "capacity"), [("nothing", ""), ("lru", "lots"), ("lru", "-1")])
def test_what_is_no_setting_leaves_the_run_alone(
    run: tuple[LiveRun, list[Path]], scheme: str, capacity: str
) -> None:
    one, watched = run
    with pytest.raises(ValueError, match=r"must be|expected"):
        one.restart(scheme, capacity)
    assert watched == []
