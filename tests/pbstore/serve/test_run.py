"""A server starts, says where, serves, and stops in good order."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from demo.cli import main
from demo.cli.serve import NodeOptions
from pbstore import DiskBlockStore, ServerStartError
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.http.context import Context
from pbstore.serve.http.guard_tokens import new_token
from pbstore.serve.run import is_loopback
from tests.pbstore.serve.stores import family_store

PBCAST = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("served")) as opened:
        yield opened


def test_a_library_is_served_as_long_as_the_context_lasts(store: DiskBlockStore) -> None:
    before = threading.active_count()
    with serving(StoreLibrary(store)) as url:
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok", "models": 2}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")
    assert threading.active_count() <= before + 4  # reading threads may still be ending


def test_a_taken_address_is_one_line(store: DiskBlockStore) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(ServerStartError, match="cannot serve at"),
            serving(StoreLibrary(store), port=taken.getsockname()[1]),
        ):
            pass


def test_route_groups_and_what_runs_beside_are_hooks(store: DiskBlockStore) -> None:
    seen = []

    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    @asynccontextmanager
    async def beside(context: Context) -> AsyncIterator[None]:
        seen.append("in")
        yield
        seen.append("out")

    app = create_app(StoreLibrary(store), groups=[lambda _: [Route("/hello", hello)]], beside=[beside])
    with serving(app) as url:
        assert httpx.get(f"{url}/hello").text == "hello"
        assert seen == ["in"]
    assert seen == ["in", "out"]


def test_the_command_serves_until_it_is_told_to_stop(store: DiskBlockStore) -> None:
    command = [*PBCAST, "serve", "--store", str(store.path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            url = re.fullmatch(r"serving 2 models of .* at (http://127\.0\.0\.1:\d+)\n", line)[1]
            assert httpx.get(f"{url}/healthz").json()["models"] == 2
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


def test_a_folder_that_is_no_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--store", str(tmp_path), "--port", "0"]) == 1
    line = f"pbcast: no block store at {tmp_path}: make one with `pbcast store add`\n"
    assert capsys.readouterr().err == line


def test_a_key_that_nobody_shares_is_one_line(
    store: DiskBlockStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "--store", str(store.path), "--port", "0", "--key", str(tmp_path / "key")]
    assert main([*words, "--upstream", "http://127.0.0.1:9"]) == 1
    told = capsys.readouterr().err
    assert told == "pbcast: --key is for nodes that share it: name them, too, by --peer URL\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--peer", "foo"], "expected a URL such as http://edge:8080, got 'foo'"),
        (["--upstream", "edge:80"], "expected a URL such as http://edge:8080, got 'edge:80'"),
        (["--peer", "http://a", "--capacity", "1XB"], "expected a size such as 500MB or 2GiB, got '1XB'"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_makes_no_store(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--store", str(tmp_path / "new"), "--port", "0", *words]) == 1
    assert capsys.readouterr().err == f"pbcast: {told}\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("peers", "upstream", "told"),
    [
        ((), None, ""),
        (("http://a",), None, ", and what 1 peer can give,"),
        (("http://a", "http://b"), "http://c", ", and what http://c and 2 peers can give,"),
    ],
)
def test_a_node_says_where_more_comes_from(peers: tuple[str, ...], upstream: str | None, told: str) -> None:
    assert NodeOptions(peers, upstream, None).behind == told


def test_the_command_guards_and_counts(store: DiskBlockStore, tmp_path: Path) -> None:
    (token, line), log = new_token("read", "me"), tmp_path / "access.jsonl"
    (tmp_path / "tokens").write_text(line)
    (tmp_path / "tokens").chmod(0o600)
    options = ["--tokens", str(tmp_path / "tokens"), "--access-log", str(log)]
    command = [*PBCAST, "serve", "--store", str(store.path), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            assert httpx.get(f"{url}/metrics").status_code == 401
            page = httpx.get(f"{url}/metrics", headers={"authorization": f"Bearer {token}"}).text
        finally:
            process.terminate()
    assert process.returncode == 0
    logical = re.search(r"^pbcast_logical_bytes (\S+)$", page, re.MULTILINE)
    assert float(logical[1]) == store.savings().raw_bytes
    assert [json.loads(line)["who"] for line in log.read_text().splitlines()] == [None, "me"]
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
