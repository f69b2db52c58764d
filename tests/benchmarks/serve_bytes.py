"""Bytes on the wire for the benchmark of serving, counted on the sockets by relays before the servers."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import serve_peers
from serve_peers import PBCAST, Server

from pbstore import open_store
from tests.pbstore.serve.clients import PULL, Relay, relayed, run_client

BASE, SIBLING = 0, 1
WARM_UPS = 4
"""Downloads until the nodes know each other."""


def wire_bytes(work: Path, store: Path, names: Sequence[str]) -> dict[str, Any]:
    """What a sibling costs on the wire, by each of the ways to a client."""
    with open_store(store) as opened:
        opened.put_manifest(type(opened.manifest(names[BASE]))(**_renamed(opened.manifest(names[BASE]))))
        changed, stored = new_bytes(opened, names[BASE], names[SIBLING])
        union = union_bytes(opened, names)
    found: dict[str, Any] = {"changed_raw_bytes": changed, "stored_bytes": stored, "union_bytes": union}
    with serve_peers.ours(store, work) as origin, relayed(origin.url) as relay:
        found |= through_device(work, origin, relay, names)
        found |= through_node(work, relay, names)
    with serve_peers.ours(store, work) as origin, relayed(origin.url) as relay:
        found |= through_three_nodes(work, relay, names)
    found |= from_three_nodes(work, store, names[BASE])
    ratios = {
        "device_sibling": found["device_sibling_bytes"] / changed,
        "node_sibling": found["node_sibling_bytes"] / stored,
        "three_nodes": found["three_nodes_origin_bytes"] / union,
    }
    for key, value in {**found, **ratios}.items():
        print(f"  {key}: " + (f"{value:,.3f}" if isinstance(value, float) else str(value)))
    return {**found, "ratios": ratios}


def _renamed(manifest: Any) -> dict[str, Any]:  # noqa: ANN401
    from dataclasses import fields

    kept = {one.name: getattr(manifest, one.name) for one in fields(manifest) if one.init}
    return {**kept, "name": "other/copy"}


def new_bytes(opened: Any, base: str, sibling: str) -> tuple[int, int]:  # noqa: ANN401
    """Raw and stored bytes of the sibling's blocks that the base does not have."""
    have, closed = set(opened.blocks(base)), opened.blocks(sibling)
    mine = set(opened.manifest(sibling).block_ids())
    new = [opened.info(block) for block in closed if block not in have]
    return sum(one.raw_bytes for one in new if one.block_id in mine), sum(one.stored_bytes for one in new)


def union_bytes(opened: Any, names: Sequence[str]) -> int:  # noqa: ANN401
    blocks = {block for name in names for block in opened.blocks(name)}
    return sum(opened.info(block).stored_bytes for block in blocks)


def through_device(work: Path, origin: Server, relay: Relay, names: Sequence[str]) -> dict[str, int]:
    """The stock client behind `pbcast device`."""
    path = work / "device.sock"
    command = [*PBCAST, "device", "--socket", str(path), "--edge", relay.url, "--cache", str(work / "device")]
    environment = {**os.environ, "PYTHONPATH": str(serve_peers.ROOT)}
    device = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.1)
        found = {}
        wanted = {"base": names[BASE], "sibling": names[SIBLING], "copy": "other/copy"}
        for label, name in wanted.items():
            run_client(PULL, relay.url, work / "home-device", name, socket_path=path)
            found[f"device_{label}_bytes"] = relay.taken()
        return found
    finally:
        device.terminate()
        device.wait(20)


def through_node(work: Path, relay: Relay, names: Sequence[str]) -> dict[str, int]:
    """The stock client of a node on loopback with an empty disk; the relay counts what the node gets."""
    with serve_peers.ours(work / "edge", work, "--upstream", relay.url) as node:
        found = {}
        for label in ("base", "sibling"):
            run_client(PULL, node.url, work / "home-node", names[BASE if label == "base" else SIBLING])
            found[f"node_{label}_bytes"] = relay.taken()
    return found


def through_three_nodes(work: Path, relay: Relay, names: Sequence[str]) -> dict[str, int]:
    """All models on three nodes that know each other."""
    ports = [serve_peers.free_port() for _ in range(3)]
    with ExitStack() as stack:
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for number, port in enumerate(ports):
            peers = [word for url in urls if not url.endswith(f":{port}") for word in ("--peer", url)]
            command = [*PBCAST, "serve", "--store", str(work / f"three-{number}"), "--port", str(port)]
            command += ["--upstream", relay.url, *peers]
            stack.enter_context(serve_peers.running(command, port, serve_peers.hub_path, work))
        for url in urls:
            for name in names:
                run_client(PULL, url, work / f"home-{url[-5:]}", name)
    return {"three_nodes_origin_bytes": relay.taken(), "three_nodes_models": 3 * len(names)}


def from_three_nodes(work: Path, store: Path, name: str) -> dict[str, Any]:
    """One download by the stock client from three nodes that have the model and share a key."""
    key = work / "key"
    key.write_text(os.urandom(32).hex())
    key.chmod(0o600)
    with ExitStack() as stack:
        ports = [serve_peers.free_port() for _ in range(3)]
        relays = [stack.enter_context(relayed(f"http://127.0.0.1:{port}")) for port in ports]
        for number, port in enumerate(ports):
            copy = work / f"holder-{number}"
            subprocess.run(["cp", "-r", str(store), str(copy)], check=True)
            peers = [
                word for other, one in enumerate(relays) if other != number for word in ("--peer", one.url)
            ]
            command = [*PBCAST, "serve", "--store", str(copy), "--port", str(port), "--key", str(key), *peers]
            stack.enter_context(serve_peers.running(command, port, serve_peers.hub_path, work))
        for number in range(WARM_UPS):
            run_client(PULL, relays[0].url, work / f"home-spread-{number}", name)
            moved = [relay.taken() for relay in relays]
            if min(moved) > 0.05 * sum(moved):
                break
    return {"one_download_bytes_of_each_node": moved}
