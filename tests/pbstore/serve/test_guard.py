"""The guards: who may do what, how much of it, what is counted, and what is never written down."""

import json
import logging
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pbstore.serve.http import guard_tokens
from pbstore.serve.http.guard import Guards
from pbstore.serve.http.guard_access import Access, Rule
from pbstore.serve.http.guard_log import ACCESS_LOG
from pbstore.serve.http.guard_settings import GuardSettings
from pbstore.serve.http.guard_tokens import TokenFile, TokensError, new_token
from pbstore.serve.http.metrics import MOST_LABELS, OTHER, Metrics, StoreFigures
from pbstore.serve.wire.signed import Signer

SIGNER = Signer.fresh()
RULES = (
    Rule(("GET", "HEAD"), "/signed/.*", Access.SIGNED),
    Rule(("POST",), "/ask", Access.READ),
)
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())}")


async def fail(request: Request) -> PlainTextResponse:
    raise RuntimeError("a bug")


def application(guards: Guards) -> Starlette:
    echoes = [
        Route(path, echo, methods=METHODS) for path in ("/healthz", "/ask", "/signed/x", "/x/{rest:path}")
    ]
    routes = [*guards.routes(None), Route("/fail", fail), *echoes]
    return Starlette(routes=routes, middleware=[*guards.middleware()])


def client(guards: Guards) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(guards), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://node")


def call(guards: Guards, method: str, url: str, **how: object) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(guards) as http:
            return await http.request(method, url, **how)  # type: ignore[arg-type]

    return anyio.run(ask)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenFile, dict[str, str]]:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    made = {role: new_token(role, f"may-{role}") for role in ("read", "write")}
    path.write_text("# who may\n\n" + "\n".join(line for _, line in made.values()))
    path.chmod(0o600)
    return TokenFile(path), {role: token for role, (token, _) in made.items()}


def credentials(secret: dict[str, str]) -> dict[str, str]:
    now = int(time.time())
    return {
        "read": f"Bearer {secret['read']}",
        "write": f"bearer  {secret['write']}",
        "granted read": f"Bearer {SIGNER.token('read', now + 60)}",
        "granted write": f"Bearer {SIGNER.token('write', now + 60)}",
        "ended": f"Bearer {SIGNER.token('write', now - 1)}",
        "of another node": f"Bearer {Signer.fresh().token('write', now + 60)}",
        "other": f"Bearer {new_token('write', 'nobody')[0]}",
        "a hash from the file": "Bearer " + new_token("write", "x")[1].split()[1],
        "basic": f"Basic {secret['write']}",
        "bare": secret["write"],
        "empty": "",
        "none": "none",
    }


def permitted(who: str, method: str, path: str) -> int:
    """The law: reading needs any token, all else one that may write; rules make exceptions."""
    if path == "/healthz" and method in ("GET", "HEAD"):
        return 200
    role = who.removeprefix("granted ")
    if path == "/signed/x" and method in ("GET", "HEAD") and who == "none":
        return 403
    if role not in ("read", "write"):
        return 401
    reading = method in ("GET", "HEAD") or (method, path) == ("POST", "/ask")
    return 200 if reading or role == "write" else 403


@pytest.mark.parametrize("path", ["/healthz", "/ask", "/signed/x", "/x/y"])
def test_each_request_is_permitted_exactly_as_the_law_says(
    path: str, tokens: tuple[TokenFile, dict[str, str]]
) -> None:
    guards = Guards(tokens=tokens[0], signer=SIGNER, rules=RULES)

    async def ask_all() -> dict[tuple[str, str], int]:
        found = {}
        async with client(guards) as http:
            for who, header in credentials(tokens[1]).items():
                headers = {} if who == "none" else {"authorization": header}
                for method in METHODS:
                    answer = await http.request(method, path, headers=headers)
                    found[who, method] = answer.status_code
                    assert answer.status_code != 401 or answer.headers["www-authenticate"] == "Bearer"
        return found

    found = anyio.run(ask_all)
    assert found == {(who, method): permitted(who, method, path) for who, method in found}


def test_two_authorization_headers_are_none(tokens: tuple[TokenFile, dict[str, str]]) -> None:
    header = ("authorization", f"Bearer {tokens[1]['write']}")
    guards = Guards(tokens=tokens[0], signer=SIGNER)
    assert call(guards, "GET", "/x/y", headers=[header]).status_code == 200
    assert call(guards, "GET", "/x/y", headers=[header, header]).status_code == 401


def test_a_signed_address_opens_its_path_and_range_only_with_tokens_or_without(
    tokens: tuple[TokenFile, dict[str, str]],
) -> None:
    query = SIGNER.query("GET", "/signed/x", int(time.time()) + 60, ((0, 9),))
    old = SIGNER.query("GET", "/signed/x", int(time.time()), ((0, 9),))
    for held in (None, tokens[0]):
        guards = Guards(tokens=held, signer=SIGNER, rules=RULES)
        codes = [
            call(guards, "GET", url, headers={"range": asked}).status_code
            for url, asked in [
                (f"/signed/x?{query}", "bytes=2-9"),
                (f"/signed/x?{query}", "bytes=2-10"),
                (f"/signed/x?{query}&more=1", "bytes=2-9"),
                (f"/signed/x?{old}", "bytes=2-9"),
                ("/signed/x", "bytes=2-9"),
            ]
        ]
        assert codes == [200, 403, 403, 403, 403]


@pytest.mark.parametrize("anyone", ["read", "write"])
@pytest.mark.parametrize("headers", [{}, {"origin": "http://elsewhere"}, {"authorization": "Bearer x"}])
def test_without_tokens_anyone_has_one_role_and_web_pages_never_write(
    anyone: str, headers: dict[str, str]
) -> None:
    guards = Guards(anyone=anyone, rules=RULES)
    codes = [call(guards, method, "/x/y", headers=headers).status_code for method in METHODS]
    may_write = anyone == "write" and "origin" not in headers
    assert codes == [200, 200] + [200 if may_write else 403] * 4
    assert call(guards, "POST", "/ask", headers=headers).status_code == 200


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o777, 0o620])
def test_a_file_of_tokens_that_others_may_use_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(new_token("read", "me")[1])
    path.chmod(mode)
    with pytest.raises(TokensError, match="chmod 600"):
        TokenFile(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "read",
        "read abc me",
        "admin " + "0" * 64,
        "read " + "G" * 64,
        "read " + "0" * 64 + " a b",
    ],
)
def test_a_line_that_is_no_token_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(TokensError, match=r"line 1|expected 1 to"):
        TokenFile(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none"):
        with pytest.raises(TokensError):
            TokenFile(path)


def test_a_changed_file_counts_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_tokens, "_LOOK_AGAIN_S", 0.0)
    path = tmp_path / "tokens"
    (first, one), (second, two) = new_token("read", "first"), new_token("write", "second")
    path.write_text(one)
    path.chmod(0o600)
    file = TokenFile(path)
    path.write_text(f"{one}\n{two}")
    assert [file.bearer(token).role for token in (first, second)] == ["read", "write"]
    path.write_text("broken")
    assert file.bearer(second) is not None
    path.write_text(two)
    assert (file.bearer(first), file.bearer(second).name) == (None, "second")


@pytest.mark.parametrize("role", ["admin", "", "read\nwrite"])
def test_a_token_of_no_role_is_not_made(role: str) -> None:
    with pytest.raises(ValueError, match="expected a role"):
        new_token(role, "me")


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 100


@pytest.mark.parametrize("size", [0, 1, 1000, 1001, 5000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_taken_up_to_its_limit_however_it_states_its_length(size: int, chunked: bool) -> None:
    guards = Guards(settings=GuardSettings(body_bytes=1000))
    size = size // 100 * 100 if chunked else size
    content = pieces(size // 100) if chunked else b"x" * size
    answer = call(guards, "PUT", "/x/y", content=content)
    assert answer.status_code == (200 if size <= 1000 else 413)
    assert answer.status_code == 200 or answer.headers["connection"] == "close"


def test_a_busy_node_says_so_and_still_tells_of_its_health() -> None:
    guards = Guards(settings=GuardSettings(requests=3))
    go = anyio.Event()

    async def wait(request: Request) -> StreamingResponse:
        await go.wait()
        return PlainTextResponse("done")

    async def main() -> None:
        app = application(guards)
        app.router.routes.append(Route("/wait", wait))
        transport = httpx.ASGITransport(app)
        codes = []
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://node") as http,
            anyio.create_task_group() as tasks,
        ):

            async def one() -> None:
                codes.append((await http.get("/wait")).status_code)

            for _ in range(3):
                tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            refused = await http.get("/wait")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert (await http.get("/healthz")).status_code == (await http.get("/metrics")).status_code == 200
            go.set()
        assert codes == [200, 200, 200]
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
            assert (await http.get("/x/y")).status_code == 200

    anyio.run(main)


def test_the_log_has_a_line_for_each_request_and_no_secret(
    tokens: tuple[TokenFile, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    guards = Guards(tokens=tokens[0], signer=SIGNER, rules=RULES)
    query = SIGNER.query("GET", "/signed/x", int(time.time()) + 60)
    access = SIGNER.token("read", int(time.time()) + 60)
    with caplog.at_level(logging.INFO, ACCESS_LOG):
        call(guards, "GET", f"/signed/x?{query}")
        call(guards, "GET", "/x/y?secret=1", headers={"authorization": f"Bearer {tokens[1]['read']}"})
        call(guards, "GET", "/x/y", headers={"authorization": f"Bearer {access}"})
        call(guards, "PUT", "/x/%0a%1b[31m" + "y" * 2000, headers={"authorization": "Bearer hunter2"})
        call(guards, "GET", "/fail", headers={"authorization": f"Bearer {tokens[1]['write']}"})
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOG]
    assert [line["code"] for line in lines] == [200, 200, 200, 401, 500]
    assert [line["who"] for line in lines] == [None, "may-read", None, None, "may-write"]
    assert [line["route"] for line in lines] == ["echo", "echo", "echo", "other", "fail"]
    assert all(
        len(record.getMessage()) < 1000 and record.getMessage().isprintable()
        for record in caplog.records
        if record.name == ACCESS_LOG
    )
    signature = query.rpartition("=")[2]
    for secret in (signature, "secret", access.rpartition(".")[2], "hunter2", *tokens[1].values()):
        assert secret not in caplog.text


NAMES = {
    "pbcast_http_requests_total": {"route", "code"},
    "pbcast_http_request_duration_seconds_bucket": {"le"},
    "pbcast_served_bytes_total": {"source"},
    "pbcast_block_requests_total": {"result"},
    "pbcast_evictions_total": set(),
    "pbcast_store_bytes": {"form"},
    "pbcast_logical_bytes": set(),
    "pbcast_peer_up": {"peer"},
    "pbcast_integrity_failures_total": {"origin"},
}


def samples(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_the_page_has_the_agreed_names_and_counts_what_happened() -> None:
    figures = StoreFigures(logical_bytes=100, stored_bytes={"raw": 30, "coded": 12})
    metrics = Metrics(lambda: figures)
    guards = Guards(metrics=metrics)
    for _ in range(3):
        call(guards, "PUT", "/x/y", content=b"12345")
    call(guards, "GET", "/nowhere")
    metrics.block_requests("peer", 2)
    metrics.evictions()
    metrics.peer_up("http://peer", True)
    metrics.integrity_failure("http://peer")
    page = call(guards, "GET", "/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    found = samples(metrics)
    for name, labels in NAMES.items():
        assert {frozenset(each) for each, _ in found[name]} == {frozenset(labels)}, name
    assert ({"route": "echo", "code": "200"}, 3.0) in found["pbcast_http_requests_total"]
    assert ({"route": "other", "code": "404"}, 1.0) in found["pbcast_http_requests_total"]
    assert found["pbcast_logical_bytes"] == [({}, 100.0)]
    assert found["pbcast_store_bytes"] == [({"form": "raw"}, 30.0), ({"form": "coded"}, 12.0)]
    served = {each["source"]: value for each, value in found["pbcast_served_bytes_total"]}
    assert served["memory"] == 3 * len("5") + len("Not Found") + len(page.content)
    assert "_created" not in page.text
    assert re.findall(r"^(?!#|pbcast_)", page.text.strip(), re.MULTILINE) == []


def test_labels_stay_few_whatever_clients_send() -> None:
    metrics = Metrics()
    for number in range(3 * MOST_LABELS):
        metrics.answered(f"route-{number}", 200, 0.1)
        metrics.peer_up(f"http://peer-{number}", False)
        metrics.integrity_failure(f"http://peer-{number}")
        metrics.served(f"source-{number}", 1)
        metrics.block_requests(f"result-{number}")
    found = samples(metrics)
    for name in NAMES:
        assert len(found.get(name, ())) <= MOST_LABELS + 2, name
    assert ({"source": OTHER}, 3.0 * MOST_LABELS) in found["pbcast_served_bytes_total"]


@pytest.mark.parametrize("name", ["connections", "head_s", "least_bytes_s", "body_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), None, True])
def test_limits_that_limit_nothing_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        GuardSettings(**{name: value})  # type: ignore[arg-type]
