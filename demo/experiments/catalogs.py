"""The catalogs that the experiments run on."""

import hashlib
from collections.abc import Callable
from functools import partial

from demo.bridge.architectures import architecture_catalog
from demo.bridge.store_catalog import catalog_from_store
from demo.zoo import build_zoo
from demo.zoo.cache import cache_root
from pbstore import open_store
from policy.evaluation.closure import closure_of
from policy.interfaces import BlockCatalog
from policy.world.synthetic import findings_catalog


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


def shapes_catalog() -> BlockCatalog:
    """Exact shapes of the ResNet and ViT families with frozen-bottom fine-tunes: real sizes, no weights."""
    return architecture_catalog(["resnet", "vit"])


CATALOGS: dict[str, Callable[[], BlockCatalog]] = {
    "findings": findings_catalog,
    "shapes": shapes_catalog,
    "zoo-small": partial(zoo_catalog, "small"),
    "zoo-full": partial(zoo_catalog, "full"),
}
