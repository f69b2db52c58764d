"""New versions of models over one link: how stale is what the edge has, whole, by changed blocks, by deltas.

The question behind adapting models from the cloud (CEMA): what an update costs, and what it costs to have it
late. New versions of each model appear at random times; the link carries the newest version of the model that
has been out of date longest, one at a time. A model is stale from the first version that the edge lacks until
the edge has the newest.
"""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from demo.experiments.papers.models.zoo import zoo_models
from pbstore import open_store
from policy.interfaces import Float

WHOLE, BLOCKS, DELTAS = "whole model", "changed blocks", "deltas"
VERSIONS = ("zoo/minilm-bbc", "zoo/minilm-bbc-v2")
"""A classifier of the zoo and its update, trained on."""
MODELS = 20
HORIZON_PERIODS = 30


def staleness(carry_s: float, versions: Sequence[Float], horizon_s: float) -> float:
    """Mean over models and time of how long a model has been out of date at the edge, s.

    Args:
        carry_s: What one version takes on the link, s.
        versions: When versions of each model appear, (versions,) each, ascending, s.
        horizon_s: Until when it is looked at, s.
    """
    had = [0] * len(versions)
    counted = [0.0] * len(versions)
    area, now = 0.0, 0.0

    def pass_until(model: int, end: float) -> float:
        since, start = float(versions[model][had[model]]), counted[model]
        counted[model] = end
        low, high = (min(max(at, since), horizon_s) - since for at in (start, end))
        return (max(high, 0.0) ** 2 - max(low, 0.0) ** 2) / 2

    while now < horizon_s:
        firsts = [
            float(times[n]) if n < len(times) else np.inf for times, n in zip(versions, had, strict=True)
        ]
        model = int(np.argmin(firsts))
        now = max(now, firsts[model])
        if now >= horizon_s:
            break
        newest = int(np.searchsorted(versions[model], now, side="right"))
        now += carry_s
        area += pass_until(model, now)
        had[model] = newest
    for model, times in enumerate(versions):
        if had[model] < len(times):
            area += pass_until(model, horizon_s)
    return area / (horizon_s * len(versions))


@cache
def version_bytes() -> dict[str, float]:
    """Bytes that a new version takes, by way: all of it, blocks that the old one lacks, their stored form."""
    models = zoo_models()
    old, new = VERSIONS
    with tempfile.TemporaryDirectory() as scratch, open_store(Path(scratch) / "store") as store:
        base = models[old].base
        for name in (base, old, new):
            if name is not None:
                store.add(models[name].folder, name=name)
        fresh = [store.info(key) for key in set(store.blocks(new)) - set(store.blocks(old))]
        return {
            WHOLE: float(models[new].raw_bytes),
            BLOCKS: float(sum(block.raw_bytes for block in fresh)),
            DELTAS: float(sum(block.stored_bytes for block in fresh)),
        }


def staleness_of(period_s: float, rate_bit_s: float, seed: int) -> dict[str, dict[str, float]]:
    """How stale `MODELS` models are at an edge, by way of sending.

    Args:
        period_s: Mean time between versions of one model (exponential), s.
        rate_bit_s: Of the link to the edge, bit/s.
        seed: Of the times.
    """
    rng, horizon = np.random.default_rng(seed), HORIZON_PERIODS * period_s
    gaps = rng.exponential(period_s, (MODELS, 4 * HORIZON_PERIODS))
    versions = [np.cumsum(row) for row in gaps]
    return {
        way: {"stale_s": staleness(8 * size / rate_bit_s, versions, horizon)}
        for way, size in version_bytes().items()
    }
