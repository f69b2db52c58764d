"""The way past the parser gives what the full way gives, to any requests in any order; and no more."""

import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from pbstore import DiskBlockStore, open_store
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch import names
from pbstore.serve.fetch.node import NodeLibrary
from pbstore.serve.http import guard_tokens
from pbstore.serve.http.answers import BUCKETS, Answers
from pbstore.serve.http.express import Express
from pbstore.serve.http.guard import Guards
from pbstore.serve.http.guard_settings import GuardSettings
from pbstore.serve.http.guard_tokens import TokenFile, new_token
from tests.pbstore.serve.stores import family_store

PATH = "/org/base/resolve/main/model.safetensors"
Answer = tuple[int, tuple[tuple[str, str], ...], bytes]


def get(*lines: str, path: str = PATH, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *lines, "\r\n"]).encode() + body


PATIENT_S = 60.0
"""How long a test waits for what does come."""
REQUESTS = [
    get(),
    get("Range: bytes=0-99"),
    get("range:bytes=70000-90000"),
    get("Range: bytes=5-99999999"),
    get("RANGE: bytes=1-2"),
    get("Range: bytes=3-3", "Accept: */*"),
    get("Accept: */*", "Range: bytes=3-3"),
    get("Range: bytes=1-2", "Range: bytes=5-9"),
    get("Range: bytes=9-5"),
    get("Range: bytes=-7"),
    get("Range: bytes=999999999-9999999999"),
    get("Range: lines=1-2"),
    get("If-None-Match: *"),
    get("If-Range: x", "Range: bytes=0-9"),
    get("Connection: keep-alive"),
    get("Authorization: Bearer nonsense"),
    get(method="HEAD"),
    get("Content-Length: 3", body=b"abc"),
    get("Content-Length: 60", body=get("Range: bytes=0-9").ljust(60)[:60]),
    get("Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    get(path=PATH + "?x=1"),
    get(path=PATH + "x"),
    get(path="/org/tuned/resolve/main/config.json"),
    get(path="/healthz"),
    get(method="POST"),
]


def talk(url: str, requests: Sequence[bytes], *, together: bool) -> list[Answer]:
    """What a server answers on one connection."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), PATIENT_S) as opened:
        stream = opened.makefile("rb")
        if together:
            opened.sendall(b"".join(requests))
        found = []
        for request in requests:
            if not together:
                opened.sendall(request)
            found.append(read_answer(stream, is_head=request.startswith(b"HEAD")))
        return found


def read_answer(stream: BinaryIO, *, is_head: bool) -> Answer:
    status, headers = int(stream.readline().split()[1]), []
    while line := stream.readline().decode().strip():
        name, _, value = line.partition(": ")
        headers.append((name, "" if name == "date" else re.sub(r"127.0.0.1:\d+", "here", value)))
    length = int(dict(headers).get("content-length", 0))
    body = b"" if is_head or status == 304 else stream.read(length)
    return status, tuple(sorted(headers)), body


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("express")) as opened:
        yield opened


@pytest.fixture(scope="module")
def taken() -> Iterator[list[bytes]]:
    """Heads that were answered the short way."""
    found: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Express, "answer", noting(Express.answer, found))
        yield found


def noting(answer: Callable[..., Any], found: list[bytes]) -> Callable[..., Any]:
    def noted(self: Express, data: bytes, default_headers: Any) -> Any:  # noqa: ANN401
        key, prepared = answer(self, data, default_headers)
        if prepared is not None:
            found.append(data)
        return key, prepared

    return noted


def without_short_way(app: Starlette) -> Starlette:
    app.state.express = None
    return app


@pytest.fixture(scope="module")
def both(store: DiskBlockStore, taken: list[bytes]) -> Iterator[tuple[str, str]]:
    """URLs of two servers: with the short way, and without."""
    plain = without_short_way(create_app(StoreLibrary(store)))
    limits = GuardSettings(head_s=1.0, watch_s=0.05)
    with (
        serving(create_app(StoreLibrary(store)), limits=limits) as quick,
        serving(plain, limits=limits) as full,
    ):
        for url in (quick, full):
            talk(url, [get()] * 3, together=False)
        yield quick, full


@given(requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=12), together=st.booleans())
@example(requests=REQUESTS, together=False)
@example(requests=REQUESTS * 2, together=False)
@settings(max_examples=25)
def test_any_requests_are_answered_as_by_the_full_way(
    both: tuple[str, str], requests: list[bytes], together: bool
) -> None:
    quick, full = (talk(url, requests[:14] if together else requests, together=together) for url in both)
    assert quick == full


def test_what_was_answered_before_takes_the_short_way(both: tuple[str, str], taken: list[bytes]) -> None:
    requests = [get("Accept: a"), get("Range: bytes=0-9", "Accept: a"), get("Accept: a", "range:bytes=4-8")]
    talk(both[0], requests, together=False)
    taken.clear()
    talk(both[0], requests, together=False)
    assert taken == requests


EDITS = st.tuples(
    st.integers(0, 200),
    st.sampled_from([b"", *(bytes([one]) for one in b"\r\n :-=,0a\0\xff")]),
    st.booleans(),
)


def edited(data: bytes, edits: Sequence[tuple[int, bytes, bool]]) -> bytes:
    """Bytes with some put in, or in the place of others."""
    for at, put, instead in edits:
        at %= len(data)
        data = data[:at] + put + data[at + instead :]
    return data


def first_answer(url: str, data: bytes) -> Answer | None:
    """The first answer to some bytes, None if there is none; known heads came before on its connection."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), PATIENT_S) as opened:
        stream = opened.makefile("rb")
        for _ in range(2):
            opened.sendall(get("Range: bytes=0-9"))
            read_answer(stream, is_head=False)
        opened.sendall(data)
        try:
            return read_answer(stream, is_head=data.startswith(b"HEAD"))
        except (IndexError, ConnectionError):
            return None


@given(edits=st.lists(EDITS, max_size=3))
@settings(max_examples=30)
def test_a_head_that_is_almost_known_is_answered_as_by_the_full_way(
    both: tuple[str, str], edits: list[tuple[int, bytes, bool]]
) -> None:
    data = edited(get("Range: bytes=0-9"), edits)
    quick, full = (first_answer(url, data) for url in both)
    assert quick == full


@pytest.fixture(scope="module")
def patient(store: DiskBlockStore) -> Iterator[str]:
    """URL of a server that gives a head in a hundred pieces the time it takes on a busy machine."""
    with serving(create_app(StoreLibrary(store)), limits=GuardSettings(head_s=PATIENT_S)) as url:
        talk(url, [get()] * 3, together=False)
        yield url


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_request_in_pieces_is_one_request(both: tuple[str, str], patient: str, size: int) -> None:
    wanted = talk(both[1], [get("Range: bytes=0-9")] * 2, together=False)
    with socket.create_connection(("127.0.0.1", int(patient.rpartition(":")[2])), PATIENT_S) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = opened.makefile("rb")
        for answer in wanted:
            data = get("Range: bytes=0-9")
            for start in range(0, len(data), size):
                opened.sendall(data[start : start + size])
                time.sleep(0.001)
            assert read_answer(stream, is_head=False) == answer


def test_requests_that_come_while_an_answer_goes_out_wait_for_it(both: tuple[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", int(both[0].rpartition(":")[2])), PATIENT_S) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        stream = opened.makefile("rb")
        requests = [get(), get("Range: bytes=0-9"), get("Range: bytes=3-5"), get(path="/healthz"), get()]
        for request in requests:
            opened.sendall(request)
            time.sleep(0.01)
        answers = [read_answer(stream, is_head=False) for _ in requests]
    assert answers == talk(both[1], requests, together=False)


def test_both_ways_count_alike(store: DiskBlockStore, taken: list[bytes], tmp_path: Path) -> None:
    def samples(short: bool) -> dict[str, float]:
        app = create_app(StoreLibrary(store))
        taken.clear()
        with serving(app if short else without_short_way(app)) as url:
            talk(url, [get(), get("Range: bytes=0-9"), get("Range: bytes=5-5")] * 3, together=False)
            page = httpx.get(f"{url}/metrics").text
        assert bool(taken) == short
        found = {}
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if "seconds_sum" not in sample.name and "le" not in sample.labels:
                    found[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value
        return found

    assert samples(True) == samples(False)


def test_a_token_that_is_taken_away_opens_nothing(
    store: DiskBlockStore, taken: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_tokens, "_LOOK_AGAIN_S", 0.0)
    (token, line), (other, other_line) = new_token("read", "alice"), new_token("read", "bob")
    path = tmp_path / "tokens"
    path.write_text(f"{line}\n{other_line}\n")
    path.chmod(0o600)
    app = create_app(StoreLibrary(store), guards=Guards(tokens=TokenFile(path)))
    with serving(app) as url:

        def codes(*tokens: str) -> list[int]:
            heads = [get(f"Authorization: Bearer {one}") for one in tokens]
            return [answer[0] for answer in talk(url, heads, together=False)]

        taken.clear()
        assert codes(token, token, token, other, other, "wrong") == [200] * 5 + [401]
        assert len(taken) >= 1
        assert talk(url, [get()], together=False)[0][0] == 401
        path.write_text(f"{other_line}\n")
        assert codes(token, token, other, other, other) == [401, 401, 200, 200, 200]


def test_no_more_is_worked_on_than_may_be(store: DiskBlockStore, taken: list[bytes]) -> None:
    app = create_app(StoreLibrary(store), guards=Guards(settings=GuardSettings(requests=1)))
    with serving(app) as url:
        talk(url, [get()] * 3, together=False)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            app.state.express.guards.work.in_work += 1
            assert talk(url, [get()], together=False)[0][0] == 503
            app.state.express.guards.work.in_work -= 1
        assert talk(url, [get()], together=False)[0][0] == 200
    assert app.state.express.guards.work.in_work == 0  # once it has ended, not once its answer is read


def test_an_answer_in_progress_ends_before_the_server_stops(tmp_path: Path) -> None:
    patient = GuardSettings(grace_s=60)
    with family_store(tmp_path) as store, serving(StoreLibrary(store), limits=patient) as url:
        wanted = talk(url, [get()] * 3, together=False)[0][2]
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        opened.settimeout(60)
        opened.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        opened.sendall(get())
        stream = opened.makefile("rb")
        stream.peek(1)  # it is in progress: a server that stops reads no more requests
        answers: list[Answer] = []
        reading = threading.Timer(0.3, lambda: answers.append(read_answer(stream, is_head=False)))
        reading.start()
    reading.join()
    opened.close()
    assert answers[0][2] == wanted


@pytest.mark.slow
def test_an_idle_connection_is_closed_behind_the_short_way_too(both: tuple[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", int(both[0].rpartition(":")[2])), PATIENT_S) as opened:
        stream = opened.makefile("rb")
        for _ in range(3):
            start = time.monotonic()
            opened.sendall(get("Range: bytes=0-9"))
            read_answer(stream, is_head=False)
        opened.settimeout(120)
        assert stream.read(1) == b""
        assert time.monotonic() - start > 4


def test_a_pack_that_was_changed_is_looked_at_again(tmp_path: Path, taken: list[bytes]) -> None:
    with family_store(tmp_path) as store, serving(StoreLibrary(store)) as url:
        right = talk(url, [get()] * 4, together=False)[-1][2]
        taken.clear()
        assert talk(url, [get()], together=False)[0][2] == right
        assert taken
        for pack in (store.path / "packs").iterdir():
            position = pack.read_bytes().find(right[-2000:-1000])
            if position >= 0:
                with pack.open("r+b") as file:
                    os.pwrite(file.fileno(), b"\xff" * 8, position + 100)
        taken.clear()
        with pytest.raises((IndexError, AssertionError, ConnectionError)):
            assert talk(url, [get()], together=False)[0] == (200, (), right)
        assert not taken


def test_a_node_with_misses_takes_the_short_way_as_long_as_the_name_means_the_same(
    tmp_path: Path, taken: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "FRESH_S", math.inf)
    with (
        family_store(tmp_path) as origin,
        open_store(tmp_path / "edge", durable=False) as store,
        serving(StoreLibrary(origin)) as upstream,
        serving(NodeLibrary(store, upstream=upstream)) as url,
    ):
        first = talk(url, [get()] * 6, together=False)
        assert {answer[2] for answer in first} == {first[0][2]}
        assert taken
        tuned = tmp_path / "folders" / "org/tuned"
        origin.remove("org/base", trash=False)
        origin.add(tuned, "org/base", form="hot")
        monkeypatch.setattr(names, "FRESH_S", 0.0)
        talk(url, [get()], together=False)
        monkeypatch.setattr(names, "FRESH_S", math.inf)
        taken.clear()
        later = talk(url, [get()] * 6, together=False)
        assert {answer[2] for answer in later} == {(tuned / "model.safetensors").read_bytes()}
        assert taken


@given(seconds=st.lists(st.floats(0, 1000), max_size=30))
@settings(max_examples=30)
def test_durations_are_counted_up_to_each_bound(seconds: list[float]) -> None:
    answers = Answers(2, "other")
    for number, one in enumerate(seconds):
        answers.note(f"route-{number % 4}", 200, one)
    requests, durations = answers.collect()
    routes = {sample.labels["route"]: sample.value for sample in requests.samples}
    assert sum(routes.values()) == len(seconds)
    assert set(routes) <= {"route-0", "route-1", "other"}
    by_name = {(sample.name[-6:], sample.labels.get("le")): sample.value for sample in durations.samples}
    for bound in BUCKETS:
        assert by_name["bucket", str(bound)] == sum(one <= bound for one in seconds)
    assert by_name["bucket", "+Inf"] == len(seconds)
