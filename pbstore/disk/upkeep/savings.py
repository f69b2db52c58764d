"""What a store saves: raw, file-deduplicated, block-deduplicated and real bytes."""

from pbstore.disk.index import database, locations, model_rows
from pbstore.disk.models import Models
from pbstore.disk.upkeep import trash
from pbstore.savings import Savings


def savings(models: Models) -> Savings:
    """Raw, file-deduplicated, block-deduplicated and real bytes."""
    connection = models.connection
    if not models.read_only:
        database.shorten_log(connection)
    count, raw, files = model_rows.totals(connection)
    named, unique = locations.totals(connection)
    orphans = sum(item.record.stored_bytes for item in locations.orphans(connection))
    trashed = trash.blocks_only_here(models)
    trash_bytes = sum(item.record.stored_bytes for item in trashed)
    return Savings(
        models=count,
        blocks=named - len(trashed),
        raw_bytes=raw,
        file_dedup_bytes=files,
        block_dedup_bytes=unique - sum(item.record.raw_bytes for item in trashed),
        stored_bytes=locations.used_bytes(connection) - orphans - trash_bytes,
        orphan_bytes=orphans,
        trash_bytes=trash_bytes,
        disk_bytes=models.disk_bytes(),
        by_kind=locations.by_codec(connection),
    )
