"""Questions between roles: a verb and JSON there, JSON back; and blocks by their protocol."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from demo.blame import is_expected
from demo.emulation.wire import token
from pbstore import BlockCorruptError, BlockId, Manifest, StoredBlock, hash_block
from pbstore.serve.http.context import Context, RouteGroup
from pbstore.serve.wire import blocks as block_wire
from pbstore.serve.wire.blocks import Want
from pbstore.serve.wire.frames import BlockReader

PREFIX = "/-/pbcast/edge/v1"
"""Where a role answers questions; no model's name begins with `-`."""
Answer: TypeAlias = dict[str, Any]
Verb: TypeAlias = Callable[[Mapping[str, Any]], Answer]
"""Answers a question; it may take its time, for it runs in a thread of its own."""
PATIENCE_S = 20.0
"""How long an answer is waited for unless the question says otherwise, s."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
log = logging.getLogger(__name__)


class NotReachedError(Exception):
    """A role does not answer: it is gone, cut off, or too slow."""

    exit_code = 1

    def __init__(self, url: str, verb: str, why: str) -> None:
        super().__init__(url, verb, why)
        self.url, self.verb, self.why = url, verb, why

    def __str__(self) -> str:
        return f"{self.url} does not answer {self.verb}: {self.why}"


class RefusedError(NotReachedError):
    """A role answers that it cannot."""

    def __str__(self) -> str:
        return f"{self.url} refuses {self.verb}: {self.why}"


class Wire:
    """The questions that one role asks, with the token of its run; safe to use from many threads.

    A role that is cut off hears and reaches nobody: `cut` is for the faults of an emulation.
    """

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.Client(verify=False, trust_env=False, timeout=PATIENCE_S, limits=limits)
        self._mutex, self._token = threading.Lock(), token.header(token.mine())
        self.cut = False
        self.block_bytes = 0
        """Payload bytes of blocks that were fetched."""

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def ask(self, url: str, verb: str, patience_s: float = PATIENCE_S, **question: Any) -> Answer:  # noqa: ANN401
        """Ask a role; the answer.

        Raises:
            RefusedError: If it answers with an error.
            NotReachedError: If it does not answer.
        """
        return self.ask_counted(url, verb, patience_s, **question)[0]

    def ask_counted(
        self,
        url: str,
        verb: str,
        patience_s: float = PATIENCE_S,
        **question: Any,  # noqa: ANN401
    ) -> tuple[Answer, int]:
        """`ask`; the answer, and the bytes of the question."""
        body = json.dumps(question, separators=(",", ":")).encode()
        response = self._send("POST", f"{url}{PREFIX}/{verb}", verb, body, patience_s, self._token)
        try:
            tree = response.json()
        except ValueError:  # it was ended in the middle of its answer
            raise NotReachedError(url, verb, f"status {response.status_code}") from None
        if response.status_code != 200:
            raise RefusedError(url, verb, f"{tree.get('type')}: {tree.get('error')}"[:300])
        return tree, len(body)

    def manifest(self, url: str, name: str) -> Manifest:
        """A model's manifest, as a server of the block protocol has it."""
        path = f"{url}{block_wire.PREFIX}/manifests/{name}"
        response = self._send("GET", path, "manifest", b"", PATIENCE_S)
        if response.status_code != 200:
            raise RefusedError(url, "manifest", response.text[:200])
        return Manifest.from_json(response.content)

    def blocks(self, url: str, block_ids: Sequence[BlockId]) -> Iterator[StoredBlock]:
        """Raw blocks in the order in which they are asked for, each checked against its id.

        Raises:
            NotReachedError: If the role does not answer, or stops.
            BlockCorruptError: If a block is not what its id says.
        """
        wants = block_wire.encode_wants([Want(block_id=one) for one in block_ids])
        reader, path = BlockReader(), f"{url}{block_wire.PREFIX}/blocks"
        self._refuse_if_cut(url, "blocks")
        try:
            with self._client.stream("POST", path, content=wants) as response:
                if response.status_code != 200:
                    raise RefusedError(url, "blocks", f"status {response.status_code}")
                for data in response.iter_raw():
                    for item in reader.feed(data):
                        if isinstance(item, StoredBlock):
                            yield self._checked(item)
        except httpx.HTTPError as error:
            raise NotReachedError(url, "blocks", _why(error)) from None

    def _checked(self, stored: StoredBlock) -> StoredBlock:
        if hash_block(stored.payload) != stored.block_id:
            raise BlockCorruptError(stored.block_id, "it came with other bytes")
        with self._mutex:
            self.block_bytes += len(stored.payload)
        return stored

    def _send(
        self,
        method: str,
        path: str,
        verb: str,
        body: bytes,
        patience_s: float,
        token: Mapping[str, str] = NO_HEADERS,
    ) -> httpx.Response:
        url = path.split("/-/")[0]
        self._refuse_if_cut(url, verb)
        heads = {"content-type": "application/json", **token}
        try:
            return self._client.request(method, path, content=body, headers=heads, timeout=patience_s)
        except httpx.HTTPError as error:
            raise NotReachedError(url, verb, _why(error)) from None

    def _refuse_if_cut(self, url: str, verb: str) -> None:
        if self.cut:
            raise NotReachedError(url, verb, "this role is cut off")


def _why(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def control_routes(verbs: Mapping[str, Verb], is_deaf: Callable[[], bool] = lambda: False) -> RouteGroup:
    """Routes that answer questions with the token of this process's run; others are refused unread.

    Args:
        verbs: What answers each.
        is_deaf: Whether the role is cut off now: then it answers nobody, but to `fault`.
    """
    ours = token.mine()

    async def answer(request: Request) -> Response:
        if not token.is_right(ours, request.headers.get("authorization")):
            why = f"a question needs the token of this run ({token.VARIABLE})"
            return JSONResponse({"type": "PermissionError", "error": why}, status_code=401)
        name = str(request.path_params["verb"])
        if name not in verbs or (is_deaf() and name != "fault"):
            return JSONResponse({"type": "ValueError", "error": f"no verb {name!r} here"}, status_code=404)
        try:
            question = json.loads(await request.body())
            return JSONResponse(await run_in_threadpool(verbs[name], question))
        except Exception as error:
            (log.info if is_expected(error) else log.exception)("%s failed: %r", name, error)
            return JSONResponse({"type": type(error).__name__, "error": str(error)}, status_code=500)

    def routes(context: Context) -> Sequence[BaseRoute]:
        return [Route(f"{PREFIX}/{{verb}}", answer, methods=["POST"])]

    return routes
