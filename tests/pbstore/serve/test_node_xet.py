"""A node with an empty disk speaks Xet for files that lie upstream only."""

from pathlib import Path

import httpx

from pbstore import open_store
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch.node import NodeLibrary
from tests.pbstore.serve.stores import family_store

FILE = "model.safetensors"


def test_a_xet_hash_that_was_given_out_is_known_as_long_as_upstream_has_the_file(tmp_path: Path) -> None:
    with (
        family_store(tmp_path) as store,
        serving(StoreLibrary(store)) as upstream,
        open_store(tmp_path / "edge", durable=False) as empty,
        serving(create_app(NodeLibrary(empty, upstream=upstream))) as url,
        httpx.Client(base_url=url) as client,
    ):
        for name in ("org/base", "org/tuned", "org/base"):
            for _ in range(2):
                head = client.head(f"/{name}/resolve/main/{FILE}").headers
                token = client.get(f"/api/models/{name}/xet-read-token/main").json()["accessToken"]
                about = {"authorization": f"Bearer {token}"}
                plan = client.get(f"/v2/reconstructions/{head['x-xet-hash']}", headers=about)
                size = sum(term["unpacked_length"] for term in plan.json()["terms"])
                assert (plan.status_code, size) == (200, int(head["x-linked-size"]))
