"""What a store saves: raw, file-deduplicated, block-deduplicated and real bytes."""

from pbstore.disk.index import database
from pbstore.disk.index import locations as index
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.models import Models
from pbstore.disk.upkeep import collect, trash
from pbstore.savings import Savings


def savings(models: Models) -> Savings:
    """Raw, file-deduplicated, block-deduplicated and real bytes."""
    connection = models.connection
    if not models.read_only:
        database.shorten_log(connection)
    count, raw = connection.execute(
        f"SELECT COUNT(*), COALESCE(SUM(raw_bytes), 0) FROM models WHERE NOT ({catalog.IN_TRASH})"
    ).fetchone()
    files = connection.execute("SELECT COALESCE(SUM(size_bytes), 0) FROM files").fetchone()[0]
    unique = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(raw_bytes), 0) FROM blocks WHERE refs > 0"
    ).fetchone()
    orphans = collect.orphan_bytes(connection)
    trashed = trash.blocks_only_here(models)
    trash_bytes = sum(item.record.stored_bytes for item in trashed)
    return Savings(
        models=count,
        blocks=unique[0] - len(trashed),
        raw_bytes=raw,
        file_dedup_bytes=files,
        block_dedup_bytes=unique[1] - sum(item.record.raw_bytes for item in trashed),
        stored_bytes=index.used_bytes(connection) - orphans - trash_bytes,
        orphan_bytes=orphans,
        trash_bytes=trash_bytes,
        disk_bytes=models.disk_bytes(),
        by_kind={
            codec: {"blocks": number, "raw_bytes": raw_bytes, "stored_bytes": stored}
            for codec, number, raw_bytes, stored in connection.execute(
                "SELECT codec, COUNT(*), SUM(raw_bytes), SUM(stored_bytes) FROM blocks GROUP BY codec"
            )
        },
    )
