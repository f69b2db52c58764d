"""Reading an origin from end to end: every object that a model needs, every payload."""

from dataclasses import dataclass

from pbstore.errors import PBStoreError
from pbstore.serve.origin.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginVerifyReport:
    """What was read, and what was not as it should be."""

    models: int
    packs: int
    blocks: int
    """Forms of blocks whose payloads were compared with their checksums."""
    read_bytes: int
    damaged: tuple[str, ...]
    """What is wrong, a line each."""


def verify(catalog: Catalog) -> OriginVerifyReport:
    """Check that each model has all of its blocks, and each payload that a model may need its checksum.

    Whether a payload decodes to its id is checked by whoever takes it in.
    """
    damaged: list[str] = []
    packs: dict[str, None] = {}
    records = [record for record in catalog.names().values() if not record.removed]
    for record in records:
        packs.update(dict.fromkeys(record.packs))
        try:
            catalog.read_tables(record.packs)
            ids = catalog.manifest(record).block_ids()
            if missing := [one for one in ids if catalog.resolve(one, record.packs) is None]:
                damaged.append(f"{record.name}: {len(missing)} blocks are not there, the first {missing[0]}")
        except (PBStoreError, FileNotFoundError) as error:
            damaged.append(f"{record.name}: {str(error).splitlines()[0]}")
    blocks = read_bytes = 0
    for key in packs:
        try:
            for stored in catalog.read_blocks(catalog.forms_in(key)):
                blocks += 1
                read_bytes += stored.stored_bytes
        except PBStoreError as error:
            damaged.append(str(error))
    return OriginVerifyReport(
        models=len(records), packs=len(packs), blocks=blocks, read_bytes=read_bytes, damaged=tuple(damaged)
    )
