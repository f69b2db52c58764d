"""The Hugging Face cache and the Hub: models from there into a store, and from a store into such a cache."""

from pbstore.bulk.add import BadItem
from pbstore.hfcache.cache import (
    CacheContent,
    ImportReport,
    Snapshot,
    choose,
    default_cache,
    import_cache,
    look_into,
)
from pbstore.hfcache.export import ExportedModel, export_to_cache
from pbstore.hfcache.hub import HubAddress, add_from_hub

__all__ = [
    "BadItem",
    "CacheContent",
    "ExportedModel",
    "HubAddress",
    "ImportReport",
    "Snapshot",
    "add_from_hub",
    "choose",
    "default_cache",
    "export_to_cache",
    "import_cache",
    "look_into",
]
