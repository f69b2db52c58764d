"""Nodes on real sockets for tests: servers in threads, and bytes counted on the way to them."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from pbstore import DiskBlockStore, open_store
from pbstore.blocks import StoredBlock
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch.local import StoreSink
from pbstore.serve.fetch.node import NodeLibrary
from pbstore.serve.http.blocks import put_routes
from pbstore.serve.http.context import Context
from pbstore.serve.meter import NoMeter


@contextmanager
def store_node(store: DiskBlockStore, *, writable: bool = True) -> Iterator[str]:
    """A node that serves a store and lets others write to it; its URL."""
    groups = [file_routes, *([put_routes(StoreSink(store))] if writable else [])]
    with serving(create_app(StoreLibrary(store), groups=groups)) as url:
        yield url


class Liar(StoreLibrary):
    """A library whose large blocks are not what they should be."""

    def __init__(self, store: DiskBlockStore, lie: Callable[[StoredBlock], StoredBlock]) -> None:
        super().__init__(store)
        self._lie = lie

    async def export(self, block_id: BlockId) -> StoredBlock:
        stored = await super().export(block_id)
        return self._lie(stored) if stored.raw_bytes > 10_000 else stored


def file_routes(context: Context) -> list[Route]:
    """Plain files of models, as any client asks for them."""

    async def answer(request: Request) -> StreamingResponse:
        revision = await context.library.revision(request.query_params["model"])
        file = revision.by_path[request.query_params["path"]]
        start = int(request.query_params.get("start", 0))
        return StreamingResponse(context.library.read(file, start, file.size_bytes))

    return [Route("/file", answer)]


def get_file(url: str, model: str, path: str) -> bytes:
    query = urlencode({"model": model, "path": path})
    with urlopen(f"{url}/file?{query}", timeout=60) as reply:  # httpx takes 0.1 s of CPU for a new client
        data: bytes = reply.read()
        return data


def get_model(url: str, manifest: Manifest) -> dict[str, bytes]:
    """All files of a model, from a node."""
    return {entry.path: get_file(url, manifest.name, entry.path) for entry in manifest.files}


class Counts(NoMeter):
    """Counts what the tests ask about."""

    def __init__(self) -> None:
        self.corrupt_blocks: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.evicted_blocks = 0

    def block_requests(self, result: str, count: int = 1) -> None:
        self.results[result] += count

    def evictions(self, count: int = 1) -> None:
        self.evicted_blocks += count

    def integrity_failure(self, origin: str) -> None:
        self.corrupt_blocks[origin] += 1


@dataclass
class Node:
    """A node with misses, with its own store."""

    url: str
    library: NodeLibrary
    counts: Counts


@contextmanager
def edge_node(
    root: Path,
    *,
    peers: Sequence[str] = (),
    upstream: str | None = None,
    capacity: int | None = None,
    port: int = 0,
) -> Iterator[Node]:
    """A node with an empty store, at a free port."""
    counts = Counts()
    with open_store(root, capacity, durable=False) as store:
        library = NodeLibrary(store, peers=peers, upstream=upstream, meter=counts)
        with serving(create_app(library, groups=[file_routes]), port=port) as url:
            yield Node(url, library, counts)


def mostly_slow(cases: Iterable[object], plain: Collection[object]) -> list[object]:
    """Cases of a test, of which only some run in the plain suite."""
    return [
        case
        if case in plain
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]


@dataclass
class Counted:
    """What went through a proxy."""

    to_server: int = 0
    to_client: int = 0
    requests: list[bytes] = field(default_factory=list)
    """First line of the first request of each connection."""
    connections: int = 0

    @property
    def both(self) -> int:
        """Bytes to the server and to the client."""
        return self.to_server + self.to_client


class Proxy:
    """Forwards connections to a server, counts their bytes, and may cut or change them."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self.counted = Counted()
        self.cut_after: int | None = None
        """Die behind so many bytes to the client, counted from the start of the proxy."""
        self.change: Callable[[bytes], bytes] | None = None
        """Applied to what goes to the client; must keep the length."""
        self.hold_after: int | None = None
        """Forward nothing more behind so many bytes, both ways together, for ever."""
        self.held = threading.Event()
        self.delay_s = 0.0
        self.dies_once = False
        """Whether it is back at once behind a cut."""
        self.is_dead = False
        """Whether connections are closed as they come; so it is behind a cut."""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counted.connections += 1
        if self.is_dead:
            writer.close()
            return
        with suppress(OSError, asyncio.CancelledError):
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            await asyncio.gather(
                self._pump(reader, upstream_writer, to_client=False),
                self._pump(upstream_reader, writer, to_client=True),
                return_exceptions=True,
            )
        writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_client: bool
    ) -> None:
        counted = self.counted
        try:
            while data := await reader.read(1 << 16):
                if self.hold_after is not None and counted.both >= self.hold_after:
                    self.held.set()
                    await asyncio.Event().wait()
                if not to_client:
                    counted.to_server += len(data)
                    writer.write(data)
                    await writer.drain()
                    continue
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.cut_after is not None and counted.to_client + len(data) > self.cut_after:
                    data = data[: max(0, self.cut_after - counted.to_client)]
                    counted.to_client += len(data)
                    self.is_dead = not self.dies_once
                    self.cut_after = None
                    writer.write(data)
                    await writer.drain()
                    return
                counted.to_client += len(data)
                writer.write(data if self.change is None else self.change(data))
                await writer.drain()
        finally:
            writer.close()


@contextmanager
def proxied(urls: Sequence[str]) -> Iterator[list[Proxy]]:
    """A counting proxy before each server."""
    with ExitStack() as stack:
        yield [stack.enter_context(Proxy(url)) for url in urls]
