"""Another pbcast node over HTTP, as a source and as a sink."""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.errors import (
    BlockCorruptError,
    BlockMissingError,
    CapacityError,
    ManifestError,
    ModelExistsError,
    ModelMissingError,
)
from pbstore.hashing import BlockId
from pbstore.manifest import MAX_MANIFEST_BYTES, Manifest, check_name
from pbstore.serve.fetch.source import AnswerError, Asked, CutShortError, NotANodeError, SourceError
from pbstore.serve.wire import blocks as wire
from pbstore.serve.wire import frames
from pbstore.serve.wire.frames import BlockReader, Head, Partial

CONNECT_S = 3.0
"""How long a node may take to answer a connection, s."""
SILENCE_S = 8.0
"""How long a node may send nothing, s; one that fetches itself sends something every two seconds."""
PUT_S = 120.0
"""How long a node may take to make what it was given durable, s."""
IDLE_S = 2.0
"""How long an idle connection is kept, s: less than servers keep it."""
_JSON_BYTES = 64 << 20
_XET = re.compile("[0-9a-f]{64}")
_PART_BYTES = 1 << 18


def new_client(urls: Sequence[str], token: str | None = None, connections: int = 32) -> httpx.AsyncClient:
    """A client for some nodes; its owner closes it.

    Args:
        urls: Addresses of the nodes: reading the certificates for https takes time.
        token: Bearer token for all of them.
        connections: Most connections at a time.
    """
    return httpx.AsyncClient(
        headers={"Accept-Encoding": "identity"}
        | ({} if token is None else {"Authorization": f"Bearer {token}"}),
        timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=IDLE_S
        ),
        trust_env=False,
        verify=any(url.startswith("https:") for url in urls),
    )


def check_url(url: str) -> str:
    """A node's address, without a slash at its end.

    Raises:
        ValueError: If it is no http or https URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"expected a URL such as http://edge:8080, got {url[:80]!r}")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class HttpNode:
    """A node: a `Source`, and a `Sink` where it lets others write."""

    url: str
    client: httpx.AsyncClient = field(repr=False)
    asked: Asked = field(default_factory=Asked)

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.url

    def on_behalf(self, asked: Asked) -> "HttpNode":
        """The same node, asked for others."""
        return replace(self, asked=asked)

    async def identity(self) -> tuple[str, tuple[str, ...]]:
        """The id that the node has given itself, and those of the nodes upstream of it."""
        try:
            tree = await self._json("GET", "/node")
        except AnswerError as error:
            if error.status not in (404, 405, 501):
                raise
            tree = {}
        if not isinstance(tree.get("node"), str):
            raise NotANodeError(self.name, "speaks no block protocol")
        upstream = tree.get("upstream")
        chain = upstream[: wire.MAX_HOPS] if isinstance(upstream, list) else []
        return str(tree.get("node", ""))[:64], tuple(str(node_id)[:64] for node_id in chain)

    async def names(self) -> tuple[str, ...]:
        """See `Source`."""
        tree = await self._json("GET", "/models")
        names = tree.get("models")
        if not isinstance(names, list):
            raise SourceError(self.name, "expected a list of models")
        with self._its_fault():
            return tuple(sorted(map(check_name, names)))

    async def manifest(self, name: str) -> Manifest:
        """See `Source`."""
        path = f"/manifests/{quote(check_name(name))}"
        async with self._reply("GET", path, model=name) as reply:
            text = await self._whole(reply, MAX_MANIFEST_BYTES)
        with self._its_fault():
            manifest = Manifest.from_json(text)
        if manifest.name != name:
            raise SourceError(self.name, f"gave the manifest of {manifest.name!r} for {name!r}")
        return manifest

    async def xet_hash(self, commit: str, name: str, path: str) -> str:
        """What the node says is the Xet hash of a file in a commit of a model; empty if it does not know."""
        params = {"commit": commit, "path": path}
        async with self._reply("GET", f"/hashes/{quote(name)}", model=name, params=params) as reply:
            xet = (_object(await self._whole(reply, _JSON_BYTES)) or {}).get("xet")
        return xet if isinstance(xet, str) and _XET.fullmatch(xet) else ""

    async def infos(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        """See `Source`."""
        found: dict[BlockId, BlockInfo] = {}
        asked = dict.fromkeys(block_ids)
        for start in range(0, len(block_ids), wire.MAX_IDS):
            body = wire.encode_ids(block_ids[start : start + wire.MAX_IDS])
            async with self._reply("POST", "/which", content=body, kind=wire.IDS_TYPE) as reply:
                async for item in self._items(reply, BlockReader()):
                    if isinstance(item, Head) and item.kind == frames.INFO and item.block_id in asked:
                        found[item.block_id] = item.info
        return found

    def blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `Source`."""
        return self._wanted(block_ids, partial, {})

    def raw_blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `GivesRaw`."""
        return self._wanted(block_ids, partial, {"raw": "1"})

    async def _wanted(
        self, block_ids: Sequence[BlockId], partial: Partial | None, params: Mapping[str, str]
    ) -> AsyncGenerator[StoredBlock, None]:
        for start in range(0, len(block_ids), wire.MAX_WANTS):
            some = block_ids[start : start + wire.MAX_WANTS]
            mine = partial if partial is not None and partial.head.block_id in some else None
            wants = [
                mine.want if mine and block_id == mine.head.block_id else wire.Want(block_id=block_id)
                for block_id in some
            ]
            body = wire.encode_wants(wants)
            reading = self._reply("POST", "/blocks", content=body, kind=wire.WANTS_TYPE, params=params)
            async with reading as reply:
                async for item in self._items(reply, BlockReader(mine)):
                    if isinstance(item, StoredBlock) and item.block_id in some:
                        yield item

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """See `Sink`."""
        return set(await self.infos(tuple(block_ids)))

    async def put_blocks(self, blocks: Sequence[StoredBlock]) -> None:
        """See `Sink`."""
        content = _stream(blocks)
        async with self._reply("PUT", "/blocks", content=content, kind=wire.STREAM_TYPE) as reply:
            await self._whole(reply, _JSON_BYTES)

    async def put_manifest(self, manifest: Manifest) -> None:
        """See `Sink`."""
        path, body = f"/manifests/{quote(manifest.name)}", manifest.to_json().encode()
        async with self._reply("PUT", path, content=body, model=manifest.name) as reply:
            await self._whole(reply, _JSON_BYTES)

    async def close(self) -> None:
        """See `Source`; the client is its owner's."""

    async def _json(self, method: str, path: str) -> dict[str, Any]:
        async with self._reply(method, path) as reply:
            text = await self._whole(reply, _JSON_BYTES)
        return _object(text) or {}

    @asynccontextmanager
    async def _reply(
        self,
        method: str,
        path: str,
        *,
        content: "bytes | AsyncIterator[bytes] | None" = None,
        kind: str = "application/json",
        model: str = "",
        params: Mapping[str, str] = MappingProxyType({}),
    ) -> AsyncIterator[httpx.Response]:
        """A good reply, to be read; what goes wrong is an error of this source."""
        headers = {"Content-Type": kind} if content is not None else {}
        if self.asked.via:
            headers[wire.VIA_HEADER] = ",".join(self.asked.via)
        params = {**params, **({"fetch": "1"} if self.asked.fetch else {})}
        url = f"{self.url}{wire.PREFIX}{path}"
        patience = PUT_S if method == "PUT" else SILENCE_S
        timeout = httpx.Timeout(patience, connect=CONNECT_S)
        request = self.client.build_request(
            method, url, content=content, headers=headers, params=params, timeout=timeout
        )
        try:
            async with aclosing(await self._send(request)) as reply:
                if reply.status_code >= 300:
                    tree = _object(await self._whole(reply, _JSON_BYTES)) or {}
                    raise self._error(reply, tree, model)
                yield reply
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(self.name, str(error) or type(error).__name__) from error

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """An answer; asked for once more where an idle connection turns out to be closed."""
        try:
            return await self.client.send(request, stream=True)
        except httpx.RemoteProtocolError:
            if request.method == "PUT":  # its body may be gone
                raise
            return await self.client.send(request, stream=True)

    async def _whole(self, reply: httpx.Response, most_bytes: int) -> bytes:
        data = bytearray()
        async for part in reply.aiter_raw():
            data += part
            if len(data) > most_bytes:
                raise SourceError(self.name, f"an answer has more than {most_bytes} bytes")
        return bytes(data)

    async def _items(self, reply: httpx.Response, reader: BlockReader) -> AsyncIterator[StoredBlock | Head]:
        """What a stream has; how far it came when it broke is told."""
        try:
            async for data in reply.aiter_raw():
                with self._its_fault():
                    for item in reader.feed(data):
                        yield item
            with self._its_fault():
                reader.finish()
        except (httpx.HTTPError, SourceError) as error:
            why = error.why if isinstance(error, SourceError) else str(error) or type(error).__name__
            raise CutShortError(self.name, why, reader.partial) from error

    @contextmanager
    def _its_fault(self) -> Iterator[None]:
        """A message that breaks a rule is the source's error."""
        try:
            yield
        except (wire.WireError, ManifestError) as error:
            raise SourceError(self.name, str(error)) from error

    def _error(self, reply: httpx.Response, tree: Mapping[str, Any], model: str) -> Exception:
        """The error that an answer tells of."""
        kind, block_id = tree.get("type"), str(tree.get("block", ""))[:64]
        if kind == "ModelMissingError" and model:
            return ModelMissingError(model, f"at {self.name}")
        if kind == "ModelExistsError" and model:
            return ModelExistsError(model)
        if kind == "BlockMissingError":
            return BlockMissingError(block_id, str(tree.get("needed_by", ""))[:200])
        if kind == "BlockCorruptError":
            return BlockCorruptError(block_id, f"{self.name} refuses it: {str(tree.get('error'))[:200]}")
        if kind == "CapacityError":
            sizes = [tree.get(key, 0) for key in ("wanted_bytes", "used_bytes", "capacity_bytes")]
            if all(isinstance(size, int) for size in sizes):
                return CapacityError(*sizes)
        why = str(tree.get("error") or reply.reason_phrase)[:200]
        return AnswerError(self.name, reply.status_code, why)


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


async def _stream(blocks: Sequence[StoredBlock]) -> AsyncIterator[bytes]:
    yield frames.STREAM_START
    for stored in blocks:
        yield frames.block_head(stored, frames.stored_check(stored))
        payload = memoryview(stored.payload)
        for start in range(0, len(payload), _PART_BYTES):
            yield bytes(payload[start : start + _PART_BYTES])
    yield frames.end_frame(len(blocks))
