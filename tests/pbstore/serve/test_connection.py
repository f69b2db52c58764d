"""Connections: slow, greedy and broken clients end; files are sent whole; nothing is left behind."""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPResponse
from pathlib import Path
from urllib.request import urlopen

import httpx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from pbstore.serve import serving
from pbstore.serve.http.connection import ZERO_COPY
from pbstore.serve.http.guard import Guards
from pbstore.serve.http.guard_log import ACCESS_LOG
from pbstore.serve.http.guard_settings import GuardSettings

SIZE = 9 << 20
STALL_S = 2.0
PATIENT_S = 60.0
"""How long a slow client goes on, and longer than a busy machine takes to end it."""
LIMITS = GuardSettings(
    connections=24,
    headers=20,
    head_bytes=4096,
    head_s=PATIENT_S,
    body_s=PATIENT_S,
    stall_s=PATIENT_S,
    watch_s=0.1,
    grace_s=PATIENT_S,
    pipelined=4,
)
IMPATIENT = replace(LIMITS, head_s=1, body_s=1, stall_s=STALL_S, least_bytes_s=1 << 16)
"""For what is about time: elsewhere a client that a busy machine holds up must not be ended."""
Parts = list[tuple[str, int, int]]


class Files:
    """An application that answers with parts of a file: sent by the kernel, or through memory."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = [part.split("-") for part in scope["path"].rsplit("/", 1)[1].split(",")]
        length = sum(int(count) for _, _, count in parts)
        headers = [(b"content-length", str(length).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, (kind, start, count) in enumerate(parts, 1):
            offset, size, more = int(start), int(count), number < len(parts)
            if kind == "k":
                about = {"file": self.fd, "offset": offset, "count": size}
                await send({"type": ZERO_COPY, **about, "more_body": more})
            else:
                data = os.pread(self.fd, size, offset)
                await send({"type": "http.response.body", "body": data, "more_body": more})


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def stand(request: Request) -> PlainTextResponse:
    """All of the server stands still, as where its machine is busy or its process is stopped."""
    time.sleep(1.5 * IMPATIENT.head_s)
    return PlainTextResponse("on")


class Node:
    """A server under test."""

    def __init__(self, url: str, data: bytes) -> None:
        self.url, self.data = url, data
        self.address = ("127.0.0.1", int(url.rpartition(":")[2]))

    def connect(self, receive_bytes: int = 0) -> socket.socket:
        opened = socket.socket()
        if receive_bytes:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        opened.settimeout(PATIENT_S)
        opened.connect(self.address)
        return opened

    def works(self) -> None:
        with urlopen(f"{self.url}/files/k-5-7", timeout=PATIENT_S) as answer:  # httpx takes 0.1 s of CPU
            assert answer.read() == self.data[5:12]


@contextmanager
def node(folder: Path, limits: GuardSettings) -> Iterator[Node]:
    path = folder / "file"
    data = os.urandom(1 << 16) * (SIZE >> 16)
    path.write_bytes(data)
    files = Files(path)
    routes = [Mount("/files", files), Route("/echo", echo, methods=["GET", "PUT"]), Route("/stand", stand)]
    app = Starlette(routes=routes, middleware=[*Guards(settings=limits).middleware()])
    with serving(app, limits=limits) as url:
        yield Node(url, data)
    os.close(files.fd)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(tmp_path_factory.mktemp("files"), LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(tmp_path_factory.mktemp("files"), IMPATIENT) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_is_left(served: Node, impatient: Node) -> Iterator[None]:
    served.works()
    before = open_files()
    yield
    served.works()
    assert comes_true(lambda: open_files() <= before)


def comes_true(what: Callable[[], bool]) -> bool:
    """Whether something is so before patience ends."""
    deadline = time.monotonic() + PATIENT_S
    while not (so := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return so


def are_ended(*clients: tuple[str, int]) -> bool:
    """Whether the server, which is this process, has closed its ends of the connections of clients."""
    ends = {tuple(one.raddr) for one in psutil.Process().net_connections("tcp4")}
    return ends.isdisjoint(clients)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not opened


def read_all(opened: socket.socket) -> bytes:
    parts = []
    try:
        while part := opened.recv(1 << 16):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def status_of(opened: socket.socket) -> int:
    """Status of the next answer, which is read to its end."""
    answer = HTTPResponse(opened)
    answer.begin()
    answer.read()
    return answer.status


PARTS = st.lists(
    st.tuples(st.sampled_from("km"), st.integers(0, SIZE - 1), st.integers(0, 3 << 20)).map(
        lambda part: (part[0], part[1], min(part[2], SIZE - part[1]))
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=15)
@given(requests=st.lists(PARTS, min_size=1, max_size=3))
def test_any_mixture_of_parts_arrives_in_order_on_one_connection(served: Node, requests: list[Parts]) -> None:
    with httpx.Client(base_url=served.url) as client:
        for parts in requests:
            path = ",".join(f"{kind}-{start}-{count}" for kind, start, count in parts)
            expected = b"".join(served.data[start : start + count] for _, start, count in parts)
            assert client.get(f"/files/{path}").content == expected
            assert client.head(f"/files/{path}").headers["content-length"] == str(len(expected))


def test_pipelined_requests_are_answered_in_order(served: Node) -> None:
    with served.connect() as opened:
        paths = [f"/files/k-{number}-3000000" for number in range(4)]
        opened.sendall(b"".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for path in paths))
        opened.sendall(b"GET /files/k-0-1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = read_all(opened)
    position = 0
    for number in range(4):
        position = answers.index(b"\r\n\r\n", position) + 4
        assert answers[position : position + 3000000] == served.data[number : number + 3000000]
        position += 3000000


def test_a_flood_of_pipelined_requests_ends_the_connection(served: Node) -> None:
    with served.connect(receive_bytes=4096) as opened:
        opened.sendall(b"GET /files/k-0-3000000 HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
        assert len(read_all(opened)) < 50 * 3000000


def test_a_file_that_ends_early_ends_the_connection_and_not_the_server(served: Node) -> None:
    with served.connect() as opened:
        opened.sendall(f"GET /files/k-{SIZE - 10}-20 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert read_all(opened).endswith(served.data[-10:])


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 6000, b"431"),
        (b"GET /" + b"x" * 6000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 30 + b"\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n", b"400"),
        (b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n", b"413"),
        (b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", b"400"),
        (b"PUT /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", None),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
    ],
    ids=lambda case: case[:40].decode("latin-1") if isinstance(case, bytes) else str(case),
)
def test_what_is_no_request_is_refused_in_one_line(served: Node, head: bytes, code: bytes | None) -> None:
    with served.connect() as opened:
        opened.sendall(head)
        answer = read_all(opened)
    assert answer[9:12] == (code or b"")


def drip(opened: socket.socket, data: bytes) -> None:
    """Send a byte at a time for a minute, or until the other side has had enough."""
    deadline = time.monotonic() + PATIENT_S
    try:
        for byte in data:
            opened.sendall(bytes([byte]))
            time.sleep(0.05)
            if time.monotonic() > deadline:
                return
    except ConnectionError:
        return


SLOW: dict[str, tuple[Callable[[socket.socket], None], bytes]] = {
    "says nothing": (lambda _: None, b"408"),
    "drips its head": (lambda one: drip(one, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 999), b"408"),
    "drips empty lines": (lambda one: drip(one, b"\r\n" * 999), b"408"),
    "drips its body": (
        lambda one: drip(one, b"PUT /echo HTTP/1.1\r\nhost:x\r\ncontent-length: 9999\r\n\r\n" + b"x" * 9998),
        b"408",
    ),
    "sends no body": (
        lambda one: one.sendall(b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\n\r\n"),
        b"408",
    ),
    "stops in a second head": (
        lambda one: one.sendall(b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\nGET /ec"),
        b"200",
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", SLOW)
def test_who_is_slow_to_ask_is_told_so_and_ended(impatient: Node, kind: str) -> None:
    act, code = SLOW[kind]
    with impatient.connect() as opened:
        start = time.monotonic()
        act(opened)
        answer = read_all(opened)
        assert answer[9:12] in (code, b"")  # a reset may overtake the answer while bytes are still sent
        assert kind.startswith("drips") or answer[9:12] == code
        assert time.monotonic() - start < PATIENT_S / 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["k", "m"])
def test_who_stops_reading_is_ended_and_who_reads_slowly_is_not(impatient: Node, kind: str) -> None:
    path = ",".join([f"{kind}-0-{3 << 20}"] * 12)
    request = f"GET /files/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    with impatient.connect(receive_bytes=1 << 16) as stopped:
        stopped.sendall(request)
        with impatient.connect(receive_bytes=1 << 16) as slow:
            slow.sendall(request)
            got, start = 0, time.monotonic()
            while part := slow.recv(1 << 18):
                got += len(part)
                time.sleep(0.02 if time.monotonic() < start + STALL_S + 0.5 else 0)
        assert got > 36 << 20
        # Not after a time: a server that stood still itself waits for longer.
        assert comes_true(lambda: are_ended(stopped.getsockname()))
        assert len(read_all(stopped)) < 36 << 20


def test_time_in_which_the_server_itself_stands_still_counts_against_nobody(impatient: Node) -> None:
    with impatient.connect() as asking, impatient.connect() as other:
        asking.sendall(b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status_of(asking) == 200
        asking.sendall(b"GET /ec")
        other.sendall(b"GET /stand HTTP/1.1\r\nhost: x\r\n\r\n")
        asking.sendall(b"ho HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status_of(asking) == status_of(other) == 200


def test_one_connection_too_many_is_told_to_come_again(served: Node) -> None:
    held = [served.connect() for _ in range(LIMITS.connections)]
    names = [opened.getsockname() for opened in held]
    try:
        for opened in held:
            opened.sendall(b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n")
        assert all(opened.recv(100)[9:12] == b"200" for opened in held)
        with served.connect() as more:
            answer = read_all(more)
        assert answer[9:12] == b"503"
        assert b"retry-after: 1\r\n" in answer
    finally:
        for opened in held:
            opened.close()
    assert comes_true(lambda: are_ended(*names))


def test_clients_that_vanish_in_mid_download_leave_nothing(served: Node) -> None:
    for number in range(20):
        with served.connect() as opened:
            opened.sendall(f"GET /files/{'km'[number % 2]}-0-{SIZE} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            opened.recv(100)
            if number % 3 == 0:  # with a reset
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize("resets", [False, True])
def test_who_leaves_in_mid_body_is_counted_and_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, resets: bool
) -> None:
    head = b"PUT /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n"
    caplog.set_level(logging.INFO)
    with node(tmp_path, LIMITS) as left, left.connect() as opened:  # at its end the server has noticed
        opened.sendall(head)
        assert opened.recv(100).startswith(b"HTTP/1.1 100")  # the body is waited for
        opened.sendall(b"begun")
        if resets:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOG]
    assert [line["code"] for line in lines if line["path"] == "/echo"] == [499]


def slow_download(made: Node, seconds: float, begun: threading.Event, hurry: threading.Event) -> int:
    """Bytes that came when a download was to take so long; tells when it has begun."""
    with made.connect(receive_bytes=1 << 16) as opened:
        opened.sendall(f"GET /files/k-0-{SIZE} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        part = opened.recv(1000)
        begun.set()
        size = len(part) - part.index(b"\r\n\r\n") - 4
        end = time.monotonic() + seconds
        while size < SIZE and (part := opened.recv(1 << 18)):
            size += len(part)
            left = (end - time.monotonic()) * len(part) / max(1, SIZE - size + len(part))
            hurry.wait(min(0.2, max(0, left)))
        return size


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("grace_s", "whole"), [(PATIENT_S, True), (1, False)])
def test_a_download_has_the_grace_to_end_and_no_more(tmp_path: Path, grace_s: float, whole: bool) -> None:
    begun, hurry = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with node(tmp_path, GuardSettings(grace_s=grace_s)) as made:
            download = pool.submit(slow_download, made, 1.0 if whole else PATIENT_S, begun, hurry)
            assert begun.wait(PATIENT_S)
            start = time.monotonic()
        assert time.monotonic() - start < PATIENT_S / 2
        hurry.set()
        if whole:
            assert download.result() == SIZE
        else:
            assert isinstance(download.exception(), ConnectionError) or download.result() < SIZE
