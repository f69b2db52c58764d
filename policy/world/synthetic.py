"""Catalogs without weights: the prototype's, and synthetic ones with a chosen degree of sharing."""

import numpy as np

from policy.interfaces import BlockCatalog

FINDINGS_DEDUP_BITS = 16.3e9
"""Bits of the distinct blocks in the prototype's catalog."""
FINDINGS_ADAPTER = 0.444
"""Size of a LoRA block in layers; makes the whole models 2.08 times the distinct blocks."""


def findings_catalog() -> BlockCatalog:
    """Twelve models of sixty blocks: three backbones of ten equal layers, each in four forms.

    Base, top 3 layers tuned, top 6 layers tuned, and base plus one LoRA block.
    """
    layers, tuned = 10, (3, 6)
    backbones = 3
    per_backbone = layers + sum(tuned) + 1
    layer_bytes = FINDINGS_DEDUP_BITS / 8 / backbones / (layers + sum(tuned) + FINDINGS_ADAPTER)
    sizes = np.full(backbones * per_backbone, round(layer_bytes), dtype=np.int64)
    members = np.zeros((backbones * 4, sizes.size), dtype=bool)
    models, blocks = [], []
    for b in range(backbones):
        start = b * per_backbone
        base = np.arange(start, start + layers)
        members[4 * b, base] = True
        fresh = start + layers
        for row, top in enumerate(tuned):
            members[4 * b + 1 + row, base[: layers - top]] = True
            members[4 * b + 1 + row, fresh : fresh + top] = True
            fresh += top
        members[4 * b + 3, [*base, fresh]] = True
        sizes[fresh] = round(FINDINGS_ADAPTER * layer_bytes)
        models += [f"backbone{b}-{kind}" for kind in ("base", "top3", "top6", "lora")]
        names = [f"layer{i}" for i in range(layers)]
        names += [f"top{top}-layer{layers - top + i}" for top in tuned for i in range(top)]
        blocks += [f"backbone{b}-{name}" for name in [*names, "lora"]]
    return BlockCatalog(
        sizes_bytes=sizes, members=members, model_names=tuple(models), block_names=tuple(blocks)
    )


def merged_catalog(catalog: BlockCatalog) -> BlockCatalog:
    """The same models with all blocks that the same models need as one; for settings of few blocks."""
    distinct, of_block = np.unique(catalog.members.T, axis=0, return_inverse=True)
    sizes = np.bincount(of_block.reshape(-1), weights=catalog.sizes_bytes)
    return BlockCatalog(
        sizes_bytes=sizes.astype(np.int64),
        members=np.ascontiguousarray(distinct.T),
        model_names=catalog.model_names,
    )


def synthetic_catalog(
    rng: np.random.Generator,
    *,
    models: int,
    blocks_per_model: int,
    families: int,
    shared: float,
    mean_block_bytes: float = 30e6,
    size_sigma: float = 0.8,
) -> BlockCatalog:
    """Families of models; each child keeps a bottom share of its family's base and owns the rest.

    Args:
        rng: Source of sizes and depths.
        models: Models in all.
        blocks_per_model: Blocks of each model.
        families: Bases; models are dealt out evenly.
        shared: Mean share of blocks that a child keeps from its base, 0 (nothing shared) to 1 (all).
        mean_block_bytes: Mean size.
        size_sigma: Spread of the log of the sizes.

    Returns:
        The catalog; blocks in order of first use.
    """
    if not 0 <= shared <= 1 or min(models, blocks_per_model, families) < 1 or families > models:
        raise ValueError(
            "need shared in [0, 1] and 1 <= families <= models, "
            f"got {shared}, {families} families, {models} models"
        )
    rows: list[list[int]] = []
    bases: list[list[int]] = []
    count = 0
    for model in range(models):
        if model < families:
            row = list(range(count, count + blocks_per_model))
            bases.append(row)
        else:
            kept = int(rng.binomial(blocks_per_model, shared))
            own = blocks_per_model - kept
            row = bases[model % families][:kept] + list(range(count, count + own))
        count = max(count, max(row) + 1)
        rows.append(row)
    members = np.zeros((models, count), dtype=bool)
    for model, row in enumerate(rows):
        members[model, row] = True
    raw = rng.lognormal(mean=-(size_sigma**2) / 2, sigma=size_sigma, size=count)
    sizes = np.maximum(1, np.round(raw * mean_block_bytes)).astype(np.int64)
    return BlockCatalog(sizes_bytes=sizes, members=members)
