"""Adding a model to a store: plan it, store its new blocks, file its manifest."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pbstore.blocks import FOLLOWERS, RAW, StoredBlock
from pbstore.codecs.sketch import Sketch, probe
from pbstore.disk import revisions
from pbstore.disk.add import again, undo
from pbstore.disk.add.encode import Encoder
from pbstore.disk.add.intake import Intake
from pbstore.disk.add.next_base import Guess, Trail
from pbstore.disk.add.next_text import TextTrail
from pbstore.disk.add.untried import key_untried, sketch_untried
from pbstore.disk.blocks import raw
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import names, sketches
from pbstore.disk.index.model_rows import COLD, HOT
from pbstore.disk.index.sketches import CastKeys
from pbstore.disk.models import Models
from pbstore.errors import CapacityError, PBStoreError, SourceChangedError
from pbstore.folders.feed import Feed, FreshBlock
from pbstore.folders.ingest import AddReport, Origin, Reading, scan_folder
from pbstore.formats.known import KnownTensor, KnownTensors
from pbstore.hashing import BlockId
from pbstore.manifest import BaseLink
from pbstore.pool import Pool, settle
from pbstore.store import raw_block

ENCODERS = 1
"""Blocks encoded at a time, while the next ones are read and hashed: two take an eighth more CPU time and are
not done earlier, for their steps are short and each waits for the interpreter."""
QUEUED = 6
"""Blocks that are being encoded, wait for it, or wait to be written behind one of them."""
QUEUED_BYTES = 64 << 20
"""Raw bytes of these, beyond the first."""
COMMIT_BYTES = 256 << 20
"""An add makes its blocks durable each time it has read so many raw bytes of new blocks."""
_NOTHING = memoryview(b"")


@dataclass(slots=True)
class _Tally:
    """What an add has stored so far."""

    new_ids: list[BlockId] = field(default_factory=list)
    new_bytes: int = 0
    stored_bytes: int = 0
    open_bytes: int = 0
    codecs: dict[str, int] = field(default_factory=dict)

    def count(self, block: FreshBlock, stored: StoredBlock) -> None:
        """Take a new block into account."""
        self.new_ids.append(block.block_id)
        self.new_bytes += stored.raw_bytes
        self.open_bytes += stored.raw_bytes
        self.stored_bytes += stored.stored_bytes
        self.codecs[stored.codec] = self.codecs.get(stored.codec, 0) + 1

    def clear(self) -> None:
        """Count from nothing again."""
        self.new_ids.clear()
        self.codecs.clear()
        self.new_bytes = self.stored_bytes = self.open_bytes = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HowStored:
    """How an add stores new blocks.

    Attributes:
        form: `cold` or `hot`.
        thorough: Whether cold blocks are also tried in slow forms.
        unread: Whether a folder whose files have the stamps that they had when the model was made of it
            is taken for unchanged.

    Raises:
        ValueError: If the form is another one.
    """

    form: str = COLD
    thorough: bool = False
    unread: bool = False

    def __post_init__(self) -> None:
        if self.form not in (HOT, COLD):
            raise ValueError(f"form must be {HOT!r} or {COLD!r}, got {self.form!r}")


class _Job(NamedTuple):
    """A block that is being encoded, or waits behind one."""

    block: FreshBlock
    num_bytes: int
    guess: Guess | None
    """None if there was nothing to encode."""
    result: Future[tuple[StoredBlock, Sketch | CastKeys | None]]


def add_model(
    models: Models, origin: Origin, how: HowStored, check: Callable[[], None] = lambda: None
) -> AddReport:
    """Store a model; see `DiskBlockStore.add`. `check` is called before anything is changed."""
    origin = _with_known(models, origin, how)
    if models.has_model(origin.name):
        check()
        if how.unread and (commit := again.is_seen(models, origin)):
            return _unread(models, origin, commit)
        same = again.add_again(models, origin)
        if same is not None:
            return _already_there(models, same)
    tally = _Tally()
    try:
        reading, before = _add(models, origin, how, tally, check)
    except again.SameContentError:
        same = again.add_again(models, origin, whole=True)
        if same is None:
            raise SourceChangedError(str(origin.folder), "it was as it is stored a moment ago") from None
        return _already_there(models, same)
    report = _report(reading, how.form, tally)
    return replace(report, commit=models.model_row(origin.name).commit, follows=before)


def _unread(models: Models, origin: Origin, commit: str) -> AddReport:
    """What is said of a model that is there, and whose folder was not read."""
    row = models.model_row(origin.name)
    return AddReport.known(row.name, row.num_files, row.num_blocks, row.raw_bytes, row.form, commit)


def _with_known(models: Models, origin: Origin, how: HowStored) -> Origin:
    """The same model, with the stored tensors to be looked for in its opaque files if it is to be small."""

    def known() -> KnownTensors:
        return KnownTensors([KnownTensor(*row) for row in names.heads(models.connection)])

    return replace(origin, known=known if how.form == COLD else None)


def _already_there(models: Models, reading: Reading) -> AddReport:
    row = models.model_row(reading.manifest.name)
    return replace(_report(reading, row.form, _Tally()), already_there=True, commit=row.commit)


def _add(
    models: Models, origin: Origin, how: HowStored, tally: _Tally, check: Callable[[], None]
) -> tuple[Reading, str]:
    """Store blocks and file the manifest; also gives the commit of the revision that was there before."""
    with models.writing() as tx:
        check()
        try:
            reading = _store_or_alone(models, tx, origin, how, tally)
            if how.form == HOT:
                raw.make_raw(models, tx, reading.manifest.block_ids())
            again.refuse_same(models, tx, reading.manifest)
            before = revisions.file(models, tx, reading.manifest, how.form, own=True)
            commit = models.model_row(origin.name).commit
            again.note_seen(tx.connection, origin, reading.fingerprint, commit)
            return reading, before
        except (PBStoreError, OSError, again.SameContentError):
            with suppress(OSError):  # the first error tells it better
                undo.drop_unused(models, tx, tally.new_ids)
            raise
        finally:
            tx.spared.clear()


def try_blocks(models: Models, tx: Transaction, origin: Origin, how: HowStored) -> AddReport:
    """Encode a model's new blocks without keeping them, and say what they would cost."""
    sketch_untried(models, tx)
    tally, origin = _Tally(), _with_known(models, origin, how)
    feed = Feed(lambda sink: scan_folder(origin, sink), models.buffers)
    intake = Intake(models, tx)
    with closing(_encoded(models, tx, feed, origin.base, how, intake)) as blocks:
        for block, stored, _ in blocks:
            tally.count(block, stored)
    return _report(feed.result, how.form, tally)


def _store_or_alone(
    models: Models, tx: Transaction, origin: Origin, how: HowStored, tally: _Tally
) -> Reading:
    """Store a model's blocks; where looking at bases keeps room from being made, without looking.

    What an encoder looks at may not go meanwhile, and how far ahead it looks depends on who is faster:
    whether a model gets in must not.
    """
    try:
        return _store_blocks(models, tx, origin, how, tally)
    except CapacityError:
        if how.form == HOT or not (tx.spared or tx.has_looked):
            raise
        undo.drop_unused(models, tx, tally.new_ids)
        tx.spared.clear()
        tx.has_looked = False
        tx.looked_at.clear()
        tally.clear()
        return _store_blocks(models, tx, origin, how, tally, alone=True)


def _store_blocks(
    models: Models,
    tx: Transaction,
    origin: Origin,
    how: HowStored,
    tally: _Tally,
    *,
    alone: bool = False,
) -> Reading:
    if how.form == COLD:
        sketch_untried(models, tx)
    feed = Feed(lambda sink: scan_folder(origin, sink), models.buffers)
    intake = Intake(models, tx)
    with closing(_encoded(models, tx, feed, origin.base, how, intake, alone=alone)) as blocks:
        for block, stored, found in blocks:
            tried = how.form == COLD and not alone
            intake.keep(stored, block.spec, found, tried=tried, name=block.name, probed=block.probed)
            tally.count(block, stored)
            if tally.open_bytes >= COMMIT_BYTES:
                intake.flush()
                tx.commit_so_far()
                tally.open_bytes = 0
            del block, stored  # or large ones stay until the next ones are there
    intake.flush()
    return feed.result


def _encoded(
    models: Models,
    tx: Transaction,
    feed: Feed[Reading],
    base: BaseLink | None,
    how: HowStored,
    intake: Intake,
    *,
    alone: bool = False,
) -> Generator[tuple[FreshBlock, StoredBlock, Sketch | CastKeys | None], None, None]:
    """The blocks of a feed that the store does not have, encoded, in order, while the next ones are read."""
    encoder = Encoder(models, tx, thorough=how.thorough, alone=alone, spared=tx.spared)
    trail = Trail(models, base if how.form == COLD else None)
    with (
        Pool(ENCODERS, "pbstore-encode") as pool,
        closing(_Queue(models, tx, encoder, feed, trail, pool)) as queue,
    ):
        for run in feed.runs():
            known = models.which([block.block_id for block in run])
            tx.spared |= known
            while run:
                block = run.popleft()
                if block.block_id in known:
                    queue.texts.follow(block.block_id)
                    if block.spec is not None:
                        trail.follow(block.block_id)
                    feed.release(block)
                elif how.form == HOT:
                    yield block, _as_it_is(block), None
                    feed.release(block)
                else:
                    queue.put(block, intake.newest)
                del block
                while queue.is_full:  # not earlier: the result must not depend on who is faster
                    yield queue.take()
        while queue.jobs:
            yield queue.take()


class _Queue:
    """Blocks that are being encoded, or wait for it, in order."""

    def __init__(
        self,
        models: Models,
        tx: Transaction,
        encoder: Encoder,
        feed: Feed[Reading],
        trail: Trail,
        pool: Executor,
    ) -> None:
        self._models, self._tx, self._encoder, self._feed, self._pool = models, tx, encoder, feed, pool
        self._trail = trail
        self.texts = TextTrail(models)
        self._dtypes: set[str] = set()
        self.jobs: deque[_Job] = deque()
        self._bytes = self._coded = 0
        self._casts = False
        """Whether the model is a cast of another one, or derived from some, as far as is known."""

    @property
    def is_full(self) -> bool:
        """Whether the first block must be taken before another one is put; one that was not coded must."""
        waits = bool(self.jobs) and self.jobs[0].guess is None
        return waits or self._coded > QUEUED or self._bytes > QUEUED_BYTES

    def put(self, block: FreshBlock, newest: int) -> None:
        """Encode a block soon; only bases up to place `newest` are looked at. Its bytes go with the job."""
        probed = None if block.spec is None else probe(block.raw, block.spec)
        head = FreshBlock(block.block_id, _NOTHING, block.spec, block.name, block.hashed, probed)
        if block.spec is not None and block.spec.dtype not in self._dtypes:
            self._dtypes.add(block.spec.dtype)
            key_untried(self._models, self._tx, block.spec.dtype)
            if sketches.has_casts(self._tx.connection):
                self._encoder.may_be_casts = True
        scale = block.name is not None and names.owner(block.name) is not None
        if block.spec is not None and len(block.raw) < sketches.MIN_BYTES and not (self._casts or scale):
            done: Future[tuple[StoredBlock, Sketch | CastKeys | None]] = Future()
            done.set_result((raw_block(block.raw, block.block_id), None))
            self.jobs.append(_Job(head, 0, None, done))
            self._feed.release(block)
        else:
            guess = self._trail.guess(block.spec)
            result = self._pool.submit(self._encode, block, guess, self.texts.guess(block), newest)
            self.jobs.append(_Job(head, len(block.raw), guess, result))
            self._bytes += len(block.raw)
            self._coded += 1

    def take(self) -> tuple[FreshBlock, StoredBlock, Sketch | CastKeys | None]:
        """Wait for the first block."""
        job = self.jobs[0]
        stored, found = job.result.result()  # while it is still among the jobs: `close` waits for it
        self.jobs.popleft()
        self._bytes -= job.num_bytes
        self._coded -= job.guess is not None
        self._casts |= stored.codec in FOLLOWERS
        if job.guess is not None:
            self._trail.learn(job.guess, stored)
        return job.block, stored, found

    def close(self) -> None:
        """Let go of the blocks that were not taken; nothing of them is in use afterwards."""
        settle(job.result for job in self.jobs)

    def _encode(
        self, block: FreshBlock, guess: Guess, text: BlockId | None, newest: int
    ) -> tuple[StoredBlock, Sketch | CastKeys | None]:
        try:
            return self._encoder.smallest(
                block.block_id,
                block.raw,
                block.spec,
                block.name,
                likely=guess.base,
                text=text,
                near=guess.near,
                newest=newest,
            )
        finally:
            self._feed.release(block)


def _as_it_is(block: FreshBlock) -> StoredBlock:
    """A raw block that lies in the feed's memory."""
    return StoredBlock(block_id=block.block_id, raw_bytes=len(block.raw), codec=RAW, payload=block.raw)


def _report(reading: Reading, form: str, tally: _Tally) -> AddReport:
    manifest = reading.manifest
    return AddReport(
        name=manifest.name,
        files=len(manifest.files),
        blocks=len(manifest.block_ids()),
        new_blocks=len(tally.new_ids),
        raw_bytes=manifest.raw_bytes,
        new_bytes=tally.new_bytes,
        shared_bytes=manifest.raw_bytes - tally.new_bytes,
        stored_bytes=tally.stored_bytes,
        form=form,
        codecs=tally.codecs,
        skipped=reading.skipped,
        damaged=reading.damaged,
        left_out=reading.left_out,
    )
