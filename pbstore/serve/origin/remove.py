"""Removing a model: its objects stay until a collection, and `Writer.restore` brings it back."""

from dataclasses import replace

from pbstore.errors import ModelMissingError
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.errors import OriginError
from pbstore.serve.origin.records import NameRecord

ATTEMPTS = 5


def remove(catalog: Catalog, name: str) -> NameRecord:
    """Put a model into the trash; its name is free.

    Raises:
        ModelMissingError: If there is no such model.
        OriginError: If others give the name another content all the time.
    """
    for _ in range(ATTEMPTS):
        current = catalog.find(name)
        if current is None or current.removed:
            raise ModelMissingError(name, f"in {catalog.objects.url}")
        record = replace(current, generation=current.generation + 1, removed=True)
        if catalog.objects.create(record.key, record.encode()):
            return record
    raise OriginError(catalog.objects.url, f"{name} is given another content all the time")
