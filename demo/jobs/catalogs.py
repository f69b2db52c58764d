"""Catalogs by name: exact shapes that come with the package, and real models of the zoo."""

import hashlib
from collections.abc import Callable
from functools import partial

from demo.bridge.store_catalog import catalog_from_store
from demo.zoo import build_zoo
from demo.zoo.cache import cache_root
from pbstore import open_store
from policy.evaluation.closure import closure_of
from policy.interfaces import BlockCatalog
from policy.scenario import shipped_catalog


def zoo_catalog(size: str, form: str = "cold") -> BlockCatalog:
    """Blocks of the zoo's real models as a store holds them; the store is kept in pbcast's cache folder.

    Args:
        size: `small` or `full`.
        form: `cold` stores deltas and compressed blocks, `hot` every distinct block raw.
    """
    zoo = build_zoo(size, progress=True)
    folders = "\n".join(str(model.folder) for model in zoo)
    code = closure_of(["pbstore.disk.store"]).digest  # another coder stores other sizes
    key = hashlib.sha256(f"{folders}\n{code}".encode()).hexdigest()[:12]
    with open_store(cache_root() / "experiments" / f"zoo-{size}-{form}-{key}") as store:
        for model in zoo:
            if model.name not in store.models():
                base = model.base if model.base in store.models() else None
                store.add(model.folder, name=model.name, base=base, form=form, thorough=True)
        bases = {model.name: model.base for model in zoo if model.kind == "adapter"}
        return catalog_from_store(store, bases).catalog


def catalog_named(name: str) -> BlockCatalog:
    """A catalog of `CATALOGS`.

    Raises:
        ValueError: If there is no such catalog.
        ZooError: If it needs real models and none could be had.
    """
    if name not in CATALOGS:
        raise ValueError(f"catalog must be one of {', '.join(CATALOGS)}, got {name!r}")
    return CATALOGS[name]()


CATALOGS: dict[str, Callable[[], BlockCatalog]] = {
    "findings": partial(shipped_catalog, "findings"),
    "trio": partial(shipped_catalog, "trio"),
    "vision": partial(shipped_catalog, "vision"),
    "shapes": partial(shipped_catalog, "shapes"),
    "zoo-small": partial(zoo_catalog, "small"),
    "zoo-full": partial(zoo_catalog, "full"),
}
"""Catalogs by name: those that come with the package, and those made of the zoo's real models."""
