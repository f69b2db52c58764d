"""Blocks that somebody waits for, and the batches in which they are asked for."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pbstore.hashing import BlockId
from pbstore.serve.fetch.lanes import Tries
from pbstore.serve.fetch.take import Checked
from pbstore.serve.wire.frames import Partial

BATCH_BYTES = 8 << 20
BATCH_BLOCKS = 256


@dataclass(slots=True, eq=False)
class Job:
    """A block that somebody waits for."""

    block_id: BlockId
    done: "asyncio.Future[Checked]"
    via: tuple[str, ...] = ()
    """Nodes that ask for it through this one."""
    coded: bool = False
    """Whether it is wanted as others store it."""
    as_raw: bool = False
    """Whether it is asked for raw now."""
    no_raw: bool = False
    """Whether a source has not given it raw."""
    tries: Tries = field(default_factory=Tries)
    partial: Partial | None = None
    error: Exception | None = None
    """What went wrong last."""
    asked_upstream: bool = False
    helpers: "list[asyncio.Task[Checked]]" = field(default_factory=list)
    """Blocks that it needs, which are fetched beside it."""

    def give(self, block: Checked) -> None:
        """Let those who wait have the block."""
        if not self.done.done():
            self.done.set_result(block)

    def fail(self, error: Exception) -> None:
        """Let those who wait know that the block cannot be had."""
        if not self.done.done():
            self.done.set_exception(error)


def batches_of(jobs: Sequence[tuple[Job, int]]) -> Iterator[list[tuple[Job, int]]]:
    """Jobs with their sizes, in requests of bounded size."""
    batch: list[tuple[Job, int]] = []
    size = 0
    for job, expected in jobs:
        batch.append((job, expected))
        size += expected
        if size >= BATCH_BYTES or len(batch) >= BATCH_BLOCKS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
