"""The OpenAPI page says what routes there are, and there are no others."""

import re
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Match, Route

from pbstore import DiskBlockStore
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch.local import StoreSink
from pbstore.serve.http import hub
from pbstore.serve.http.blocks import put_routes
from pbstore.serve.http.openapi import OPERATIONS, Operation, document
from pbstore.serve.http.push import push_routes
from pbstore.serve.push import Intake
from tests.pbstore.serve.stores import family_store

HEX = "0" * 64
VALUES = {
    "owner": "org",
    "model": "base",
    "revision": "main",
    "path": "model.safetensors",
    "file_id": HEX,
    "block_id": HEX,
    "digest": HEX,
    "prefix": "default",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("served")) as opened:
        yield opened


def everything(store: DiskBlockStore) -> Starlette:
    """A server with all routes."""
    library = StoreLibrary(store)
    return create_app(library, groups=[put_routes(StoreSink(store)), push_routes(Intake(store, library))])


def filled(one: Operation) -> str:
    return re.sub(r"{(\w+)}", lambda match: VALUES[match[1]], one.path)


def test_every_route_is_on_the_page_and_every_line_of_the_page_is_a_route(store: DiskBlockStore) -> None:
    routes = [route for route in everything(store).routes if isinstance(route, Route)]
    seen = set()
    for one in OPERATIONS:
        scope = {"type": "http", "path": filled(one), "method": one.method.upper(), "root_path": ""}
        found = [route for route in routes if route.matches(scope)[0] == Match.FULL]
        assert found, one
        seen |= {(route.path, one.method.upper()) for route in found}
    there = {(route.path, method) for route in routes for method in route.methods or ()}
    refused = {"HEAD", "OPTIONS", "PATCH", "DELETE"}  # of GET, or answered by what takes any path with 404
    assert {(path, method) for path, method in there if method not in refused} == seen


def test_every_question_about_a_model_is_on_the_page(store: DiskBlockStore) -> None:
    app = everything(store)
    with serving(app) as url:
        httpx.get(f"{url}/healthz")
        answers = {*hub._ANSWERS, *app.state.context.answers}
    listed = {
        (one.method.upper(), one.route.removeprefix("hub.").replace("model", ""))
        for one in OPERATIONS
        if one.path.startswith("/api/models/")
    }
    assert answers == listed


def test_each_line_takes_the_route_that_it_names(store: DiskBlockStore) -> None:
    app = everything(store)
    with serving(app) as url, httpx.Client(base_url=url) as client:
        token = app.state.context.signer.token("write", 1 << 40)
        for one in OPERATIONS:
            query = ""
            if one.route == "xet.xorb":
                query = "?" + app.state.context.signer.query("GET", filled(one), 1 << 40)
            before = routes_seen(client)
            answer = client.request(
                one.method, filled(one) + query, headers={"authorization": f"Bearer {token}"}
            )
            assert answer.status_code < 500, one
            counts = routes_seen(client)
            changed = {route for route in counts if counts[route] != before.get(route)} - {"metrics"}
            assert changed == {one.route} - {"metrics"}, one
        assert client.get("/openapi.json").json() == document()


def routes_seen(client: httpx.Client) -> dict[str, float]:
    """How often each route was taken."""
    found: dict[str, float] = {}
    page = client.get("/metrics").text
    for route, count in re.findall(r'pbcast_http_requests_total{code="\d+",route="([^"]*)"} (\S+)', page):
        found[route] = found.get(route, 0) + float(count)
    return found
