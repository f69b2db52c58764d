"""Catalogs of the experiments: those of `pbcast`, and architectures by exact shape at a chosen sharing."""

from collections.abc import Callable
from functools import cache, partial

from demo.bridge.architectures import Children, architecture_catalog
from demo.jobs.catalogs import CATALOGS, catalog_named
from policy.interfaces import BlockCatalog

VISION = ("resnet", "vit")
"""ResNet-18 to ResNet-152, and ViT up to 632 M parameters."""
SINGLE, HALF = 4, 2
"""Bytes of a parameter."""

EXACT: dict[str, Callable[[], BlockCatalog]] = {
    "architectures": partial(architecture_catalog, VISION, Children(tasks=2), SINGLE),
    "sharing-none": partial(
        architecture_catalog, VISION, Children(tuned_shares=(1.0,), tasks=2, lora_rank=0), HALF
    ),
    "sharing-half": partial(
        architecture_catalog, VISION, Children(tuned_shares=(0.5,), tasks=2, lora_rank=0), HALF
    ),
    "sharing-three-quarters": partial(
        architecture_catalog, VISION, Children(tuned_shares=(0.25,), tasks=2, lora_rank=0), HALF
    ),
    "sharing-heads": partial(
        architecture_catalog, VISION, Children(tuned_shares=(0.03,), tasks=2, lora_rank=0), HALF
    ),
    "vit-adapters": partial(architecture_catalog, ("vit",), Children(tuned_shares=(), tasks=3), HALF),
    "vit-tuned": partial(
        architecture_catalog, ("vit",), Children(tuned_shares=(1.0,), tasks=3, lora_rank=0), HALF
    ),
    "resnets": partial(
        architecture_catalog, ("resnet-18", "resnet-34", "resnet-50"), Children(tasks=5, lora_rank=0), SINGLE
    ),
    "llama-adapters": partial(architecture_catalog, ("llama",), Children(tuned_shares=(), tasks=4), HALF),
}
"""Made from exact tensor shapes, real sizes and sharing without weights."""


@cache
def catalog_of(name: str) -> BlockCatalog:
    """A catalog of `EXACT` or of `demo.jobs.catalogs`.

    Raises:
        ValueError: If there is none of that name.
        ZooError: If it needs real models and none could be had.
    """
    return EXACT[name]() if name in EXACT else catalog_named(name)


def catalog_names() -> tuple[str, ...]:
    """All names that `catalog_of` takes."""
    return (*EXACT, *CATALOGS)
