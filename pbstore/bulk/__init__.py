"""Many models with one call: found under a folder, added, and gone on with after an interrupt."""

from pbstore.bulk.add import BadItem, BulkReport, ToAdd, add_all
from pbstore.bulk.find import Found, FoundModel, find_models

__all__ = ["BadItem", "BulkReport", "Found", "FoundModel", "ToAdd", "add_all", "find_models"]
