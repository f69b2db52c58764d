"""The dashboard's server: what it gives out, to whom, and how it follows a log that grows or is replaced."""

import csv
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from demo.cli.dashboard import log_at
from demo.dashboard import Chosen, LogFeed, create_app
from demo.dashboard.app import STATIC
from demo.dashboard.tables import TABLES
from demo.emulation.log import fold, read_log
from tests.demo.dashboard.logs import SAMPLE

LINES = SAMPLE.read_text().splitlines(keepends=True)


@pytest.fixture(scope="module")
def feed() -> Iterator[LogFeed]:
    feed = LogFeed(SAMPLE)
    wait_for(lambda: len(feed.lines()) == len(LINES))
    yield feed
    feed.close()


@pytest.fixture(scope="module")
def client(feed: LogFeed) -> TestClient:
    return TestClient(create_app(feed), base_url="http://127.0.0.1")


def wait_for(true: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_every_answer_forbids_what_comes_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/static/main.js", "/data/wire.csv", "/nowhere"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


def test_pages_name_nothing_elsewhere() -> None:
    for path in STATIC.rglob("*"):
        if path.suffix in (".html", ".js", ".css") and "vendor" not in path.parts:
            links = set(re.findall(r"https?://[^\s\"'`]+", path.read_text()))
            assert links <= {"http://www.w3.org/2000/svg"}, path.name


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.example.org"])
def test_other_names_of_this_machine_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "vendor"])
def test_no_file_but_the_page_s_own_is_given_out(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_each_link_of_the_page_leads_somewhere(client: TestClient) -> None:
    links = set(re.findall(r'(?:href|src)="([^"]+)"', client.get("/").text))
    assert {f"data/{name}.csv" for name in TABLES} < links
    for link in links:
        assert client.get(f"/{link}").status_code == 200, link


def table(client: TestClient, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(client.get(f"/data/{name}.csv").text)))


def test_tables_add_up_to_the_fold(client: TestClient) -> None:
    state = fold(read_log(SAMPLE))
    sums = {row["what"]: int(row["sum"]) for row in table(client, "wire")}
    assert sums["broadcast_bytes"] == state.totals.broadcast_bytes
    assert sum(int(row["payload_bytes"]) for row in table(client, "broadcasts")) == sums["broadcast_bytes"]
    assert len(table(client, "deliveries")) == state.totals.deliveries
    held = {int(row["node"]): {int(unit) for unit in row["units"].split()} for row in table(client, "nodes")}
    assert held == {number: node.held for number, node in state.nodes.items()}
    assert sum(len(row["models"].split()) for row in table(client, "sharing")) == sum(
        len(model.units) for model in state.run.models
    )


def test_a_log_is_followed_from_any_line_to_its_end(feed: LogFeed) -> None:
    gathered: list[dict[str, Any]] = []
    while batch := feed.batch(len(gathered), 100).texts:
        gathered += map(json.loads, batch)
    assert [row["seq"] for row in gathered] == list(range(len(LINES)))
    assert json.loads(feed.batch(425, 1).texts[0])["seq"] == 425


def test_a_log_may_come_later_grow_be_torn_and_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    feed = LogFeed(path)
    try:
        assert feed.batch(0, 10).run == ""
        path.write_text("".join(LINES[:3]) + LINES[3][:20])
        wait_for(lambda: len(feed.lines()) == 3)
        first = feed.batch(0, 10).run
        with path.open("a") as file:
            file.write(LINES[3][20:] + LINES[4])
        wait_for(lambda: len(feed.lines()) == 5)
        assert feed.batch(0, 10).run == first
        other = tmp_path / "other"
        other.write_text("".join(LINES[:2]))
        other.replace(path)
        wait_for(lambda: feed.batch(0, 10).run != first and len(feed.lines()) == 2)
        path.unlink()
        shutil.copy(SAMPLE, path)
        wait_for(lambda: len(feed.lines()) == len(LINES))
    finally:
        feed.close()


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(LINES[0] + "nonsense\n")
    feed = LogFeed(path)
    try:
        wait_for(lambda: feed.batch(0, 1).problem)
        assert "line 2 is no event" in feed.batch(0, 1).problem
        assert len(feed.lines()) == 1
    finally:
        feed.close()


def test_nothing_is_started_where_no_run_is_live(client: TestClient) -> None:
    assert client.post("/live", json={"scheme": "lru", "capacity": ""}).status_code == 404


def test_a_live_run_is_started_anew_by_this_page_only(feed: LogFeed) -> None:
    class Run:
        asked: Chosen | None = None

        def about(self) -> dict[str, Any]:
            return {"schemes": ["lru"], "known_faults": ["none"], "scheme": "lru", "capacity": ""}

        def restart(self, chosen: Chosen) -> None:
            if chosen.scheme != "lru":
                raise ValueError(f"no scheme {chosen.scheme}")
            self.asked = chosen

    run = Run()
    client = TestClient(create_app(feed, run), base_url="http://127.0.0.1")
    form = client.post("/live", data={"scheme": "lru", "capacity": ""})
    assert form.status_code == 415
    assert client.post("/live", json={"scheme": "other", "capacity": ""}).json() == {
        "error": "no scheme other"
    }
    assert run.asked is None
    assert client.post("/live", json=["lru"]).status_code == 400
    assert client.post("/live", json={"scheme": "lru", "capacity": "20%", "nodes": 3}).status_code == 200
    assert run.asked == Chosen(scheme="lru", capacity="20%", nodes="3")


def test_the_newest_log_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no events\.jsonl below out/"):
        log_at(None)
    (tmp_path / "out/run").mkdir(parents=True)
    shutil.copy(SAMPLE, tmp_path / "out/run/events.jsonl")
    assert log_at(None) == Path("out/run/events.jsonl")
    assert log_at(tmp_path) == tmp_path / "events.jsonl"
