"""Does everything in a store still hash to what it should?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pbstore.disk.blocks import manifests_found, recount
from pbstore.disk.files import pack
from pbstore.disk.index import database, locations, model_rows
from pbstore.disk.index.locations import Location
from pbstore.disk.models import Models
from pbstore.disk.upkeep import concerned as where
from pbstore.errors import IntegrityError, PBStoreError
from pbstore.hashing import BlockId

MAX_PROBLEMS = 1000
"""Further problems are counted, not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a check of a store found."""

    models: int
    blocks: int
    """Blocks that were read and decoded."""
    raw_bytes: int
    problems: tuple[str, ...]
    """One line each; empty if all is well. Of a block it says which models, files and tensors need it."""
    damaged_models: tuple[str, ...] = ()
    """Models with a damaged manifest or block, also those in the trash."""

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.problems


def verify(
    models: Models,
    sample: float = 1.0,
    rng: "np.random.Generator | None" = None,
    progress: Callable[[int], None] | None = None,
    names: Sequence[str] | None = None,
) -> VerifyReport:
    """Check manifests, record headers, payloads and hashes.

    Args:
        models: The store.
        sample: Share of the blocks to read, 0..1; manifests and references are always all checked.
        rng: Draws the sample; needed if `sample` is below 1.
        progress: Called with the raw bytes just checked.
        names: Only these models or revisions, with all that their blocks need; None for the whole store.

    Raises:
        ValueError: If `sample` is outside 0..1, or below 1 without `rng`.
    """
    if not 0 <= sample <= 1 or (sample < 1 and rng is None):
        raise ValueError(f"sample must be in 0..1, and below 1 with an rng, got {sample}")
    if names is not None:
        return _verify_some(models, names, sample, rng, progress)
    problems: list[str] = []
    lost: dict[str, None] = {}
    bad: dict[BlockId, str] = {}
    looks = (_index_problems, lambda models: _model_problems(models, lost, bad), recount.problems)
    for look in looks:
        try:
            problems.extend(look(models))
        except IntegrityError as error:  # of the index itself
            problems.append(str(error))
    blocks = raw_bytes = 0
    for location in models.locations(problems):
        if rng is not None and sample < 1 and rng.random() >= sample:
            continue
        if problem := _block_problem(models, location):
            bad.setdefault(location.record.block_id, problem)
        blocks, raw_bytes = blocks + 1, raw_bytes + location.record.raw_bytes
        if progress is not None:
            progress(location.record.raw_bytes)
    concerned = where.find(models, bad)
    problems += [f"{problem}{concerned.told(block_id)}" for block_id, problem in bad.items()]
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"and {len(problems) - MAX_PROBLEMS} more"]
    return VerifyReport(
        models=len(models.models()),
        blocks=blocks,
        raw_bytes=raw_bytes,
        problems=tuple(problems),
        damaged_models=tuple(sorted({**lost, **concerned.models})),
    )


def _verify_some(
    models: Models,
    names: Sequence[str],
    sample: float,
    rng: "np.random.Generator | None",
    progress: Callable[[int], None] | None,
) -> VerifyReport:
    problems: list[str] = []
    lost: dict[str, None] = {}
    wanted: dict[BlockId, None] = {}
    for name in names:
        row = models.model_row(name)
        try:
            wanted.update(dict.fromkeys(models.manifest_of(row).block_ids()))
        except IntegrityError as error:
            lost[row.title] = None
            problems.append(str(error))
    known = locations.find_many(models.connection, list(wanted))  # with what they need
    bad = {one: f"block {one[:12]} is missing" for one in wanted if one not in known}
    blocks = raw_bytes = 0
    for one, location in known.items():
        if rng is not None and sample < 1 and rng.random() >= sample:
            continue
        if problem := _block_problem(models, location):
            bad.setdefault(one, problem)
        blocks, raw_bytes = blocks + 1, raw_bytes + location.record.raw_bytes
        if progress is not None:
            progress(location.record.raw_bytes)
    concerned = where.find(models, bad)
    problems += [f"{problem}{concerned.told(block_id)}" for block_id, problem in bad.items()]
    return VerifyReport(
        models=len(names),
        blocks=blocks,
        raw_bytes=raw_bytes,
        problems=tuple(problems),
        damaged_models=tuple(sorted({**lost, **concerned.models})),
    )


def block_problem(models: Models, location: Location) -> str | None:
    """What is wrong with a block: its header, its payload, or its hash; None if nothing is."""
    return _block_problem(models, location)


def _model_problems(models: Models, lost: dict[str, None], bad: dict[BlockId, str]) -> Iterator[str]:
    """What is wrong with manifests; their models go into `lost`, blocks that are missing into `bad`."""
    bad.update(_needs_problems(models))
    rows = model_rows.all_models(models.connection)
    for row in rows:
        try:
            manifest = model_rows.read_manifest(models.layout, row)
        except (PBStoreError, OSError) as error:
            lost[row.title] = None
            yield str(error)
            continue
        for piece in dict.fromkeys(manifest.pieces()):
            location = models.find(piece.block_id)
            if location is None:
                bad[piece.block_id] = f"block {piece.block_id[:12]} is missing"
            elif location.record.raw_bytes != piece.raw_bytes:
                bad[piece.block_id] = f"block {piece.block_id[:12]} has another size than a manifest says"
    files = {row.file for row in rows}
    for file, loaded in manifests_found.unknown(models.layout, files):
        if loaded is None:
            yield f"manifest file {file} is damaged"


def _needs_problems(models: Models) -> dict[BlockId, str]:
    why = "needs a block that is missing or has a form that no base may have"
    return {block_id: f"block {block_id[:12]} {why}" for block_id in locations.unclosed(models.connection)}


def _block_problem(models: Models, location: Location) -> str | None:
    for _ in range(2):
        try:
            return _record_problem(models, location)
        except FileNotFoundError:  # perhaps collected since it was looked up
            found = models.find(location.record.block_id)
            if found is None:
                return None
            location = found
    return f"block {location.record.block_id[:12]} is lost: pack {location.pack} is missing"


def _record_problem(models: Models, location: Location) -> str | None:
    record = location.record
    try:
        header = models.record_header(location)
        if pack.decode_header(header, record.offset, location.pack) != record:
            return f"block {record.block_id[:12]}: its record and the index disagree"
        if any(header[len(pack.encode_header(record)) :]):
            return f"block {record.block_id[:12]}: the padding before its payload is not empty"
        models.check_block(location)
    except (IntegrityError, PBStoreError) as error:
        return str(error)
    return None


def _index_problems(models: Models) -> Iterator[str]:
    try:
        rows = database.check(models.connection)
    except IntegrityError as error:
        yield str(error)
    else:
        yield from (f"index: {text}" for text in rows)


def reference_problems(models: Models) -> list[str]:
    """Compare the index's counts with the manifests and the packs."""
    return recount.problems(models)
