"""`GET /metrics`: counters of one server, by the official Prometheus client, with bounded sets of labels."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response

from pbstore.blocks import RAW
from pbstore.disk.index import locations, model_rows
from pbstore.disk.store import DiskBlockStore
from pbstore.pool import Pool
from pbstore.serve.http.answers import Answers
from pbstore.serve.http.context import name_route

SOURCES = ("pack", "memory", "peer", "upstream")
"""Where bytes came from: sent by the kernel from a pack, through memory, or from other nodes."""
RESULTS = ("hit", "peer", "upstream", "missing")
"""Where blocks that were asked for were found."""
FORMS = ("raw", "coded")
"""Forms of stored blocks."""
MOST_LABELS = 64
"""Most routes, and most peers, that are told apart; what comes later is `other`."""
OTHER = "other"
_FRESH_S = 10.0
"""How long figures of the whole store are shown before they are read again, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFigures:
    """What a store holds, bytes."""

    logical_bytes: int
    """All files of all models, as plain copies."""
    stored_bytes: Mapping[str, int] = field(default_factory=dict)
    """Payloads by form, one of `FORMS`."""


def store_figures(store: DiskBlockStore) -> StoreFigures:
    """What a store on the disk holds, from its index."""
    stored = dict.fromkeys(FORMS, 0)
    for codec, about in locations.by_codec(store.disk.connection).items():
        stored["raw" if codec == RAW else "coded"] += about["stored_bytes"]
    return StoreFigures(logical_bytes=model_rows.totals(store.disk.connection)[1], stored_bytes=stored)


class Metrics:
    """Counters of one server, a `Meter`; each server has a registry of its own.

    Args:
        figures: Reads what the store holds; it may take a while, and is called at most every ten seconds.
    """

    def __init__(self, figures: Callable[[], StoreFigures] | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody plots when a counter was made
        self.registry = registry = CollectorRegistry()
        self._figures, self._read_at = figures, float("-inf")
        self._mutex = threading.Lock()
        self._pool: Pool | None = None
        self._labels: dict[str, set[str]] = {"peer": set()}
        self._answers = Answers(MOST_LABELS, OTHER)
        registry.register(self._answers)
        self._served = Counter(
            "pbcast_served_bytes",
            "Bytes of answers, and of blocks from others.",
            ("source",),
            registry=registry,
        )
        self._served_from = {source: self._served.labels(source) for source in (*SOURCES, OTHER)}
        self._blocks = Counter("pbcast_block_requests", "Blocks asked for.", ("result",), registry=registry)
        self._found_at = {result: self._blocks.labels(result) for result in (*RESULTS, OTHER)}
        self._evictions = Counter("pbcast_evictions", "Let go of to make room.", registry=registry)
        self._stored = Gauge("pbcast_store_bytes", "Payload bytes on the disk.", ("form",), registry=registry)
        self._logical = Gauge("pbcast_logical_bytes", "All models as plain copies.", registry=registry)
        self._peers = Gauge("pbcast_peer_up", "Whether a peer answers.", ("peer",), registry=registry)
        self._failures = Counter(
            "pbcast_integrity_failures",
            "Bytes that did not hash to their id.",
            ("origin",),
            registry=registry,
        )
        self._show_zeros()

    def answered(self, route: str, code: int, seconds: float) -> None:
        """A request was answered; to be called by the event loop's thread."""
        self._answers.note(route, code, seconds)

    def served(self, source: str, num_bytes: int) -> None:
        """Bytes of an answer's body went out."""
        self._served_from.get(source, self._served_from[OTHER]).inc(num_bytes)

    def block_requests(self, result: str, count: int = 1) -> None:
        """See `Meter`."""
        self._found_at.get(result, self._found_at[OTHER]).inc(count)

    def fetched_bytes(self, source: str, num_bytes: int) -> None:
        """See `Meter`."""
        self.served(source, num_bytes)

    def evictions(self, count: int = 1) -> None:
        """See `Meter`."""
        self._evictions.inc(count)

    def peer_up(self, peer: str, up: bool) -> None:
        """See `Meter`."""
        self._peers.labels(self._bounded("peer", peer)).set(up)

    def integrity_failure(self, origin: str) -> None:
        """See `Meter`."""
        self._failures.labels(origin if origin == "local" else self._bounded("peer", origin)).inc()

    def page(self) -> bytes:
        """All of them in Prometheus' text form."""
        self._read_figures()
        return generate_latest(self.registry)

    async def endpoint(self, request: Request) -> Response:
        """`GET /metrics`."""
        name_route(request, "metrics")
        if self._pool is None:
            self._pool = Pool(
                1, "serve-metrics"
            )  # one: each thread that reads the index keeps files of it open
        page = await asyncio.get_running_loop().run_in_executor(self._pool, self.page)
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    def close(self) -> None:
        """Let go of the thread that makes pages; the next one that is asked for starts another."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    def _show_zeros(self) -> None:
        """What never happened is shown as 0, so that a rate over it is one."""
        self._failures.labels("local")

    def _bounded(self, kind: str, label: str) -> str:
        known = self._labels[kind]
        with self._mutex:
            if label not in known and len(known) < MOST_LABELS:
                known.add(label)
            return label if label in known else OTHER

    def _read_figures(self) -> None:
        with self._mutex:
            if self._figures is None or time.monotonic() - self._read_at < _FRESH_S:
                return
            self._read_at = time.monotonic()
        figures = self._figures()
        self._logical.set(figures.logical_bytes)
        for form in FORMS:
            self._stored.labels(form).set(figures.stored_bytes.get(form, 0))
