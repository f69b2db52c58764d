"""What nodes cost on the wire, measured on sockets: for tests, and for benchmarks beside other servers."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pbstore import DiskBlockStore
from tests.pbstore.serve.nodes import Proxy, edge_node, store_node
from tests.ports import free_ports

Pull = Callable[[str, str], None]
"""Gets a model from a node, by the URL of the node and the model's name, and checks it."""


@contextmanager
def cluster(root: Path, origin: DiskBlockStore, count: int) -> Iterator[tuple[list[str], Proxy]]:
    """Empty nodes, each other's peers, in front of an origin; their URLs, and what counts its bytes."""
    ports = free_ports(count)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(stack.enter_context(store_node(origin, writable=False))))
        for port, url in zip(ports, urls, strict=True):
            peers = [other for other in urls if other != url]
            node = edge_node(root / str(port), peers=peers, upstream=proxy.url, port=port)
            stack.enter_context(node)
        yield urls, proxy


def origin_ratio(
    root: Path, origin: DiskBlockStore, names: Sequence[str], pull: Pull, *, nodes: int = 3, clients: int = 6
) -> float:
    """Bytes that an origin sends while all models are pulled from all nodes, over its stored bytes."""
    with cluster(root, origin, nodes) as (urls, proxy):
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda one: pull(*one), [(url, name) for name in names for url in urls]))
        return proxy.counted.to_client / stored_bytes(origin, names)


def sibling_ratios(
    root: Path, origin: DiskBlockStore, base: str, siblings: Sequence[str], pull: Pull
) -> list[float]:
    """Bytes on the wire for each sibling, pulled behind its base through a node, over what is new of it."""
    with cluster(root, origin, 1) as ((url,), proxy):
        pull(url, base)
        known, ratios = set(origin.blocks(base)), []
        for name in siblings:
            new = set(origin.blocks(name)) - known
            before = proxy.counted.to_client
            pull(url, name)
            sent = proxy.counted.to_client - before
            ratios.append(sent / sum(origin.info(block_id).stored_bytes for block_id in new))
            known |= new
        return ratios


def stored_bytes(store: DiskBlockStore, names: Sequence[str]) -> int:
    """Payload bytes of all blocks that some models need, each once."""
    ids = {block_id for name in names for block_id in store.blocks(name)}
    return sum(store.info(block_id).stored_bytes for block_id in ids)
