"""Many models with one call: found under a folder, added, and gone on with after an interrupt."""

from pbstore.bulk.add import BadItem, BulkReport, ToAdd, add_all
from pbstore.bulk.archive import ArchiveReport, export_archive, import_archive
from pbstore.bulk.find import Found, FoundModel, find_models

__all__ = [
    "ArchiveReport",
    "BadItem",
    "BulkReport",
    "Found",
    "FoundModel",
    "ToAdd",
    "add_all",
    "export_archive",
    "find_models",
    "import_archive",
]
