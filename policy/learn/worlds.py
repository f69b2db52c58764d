"""Worlds to learn from: request processes, motions and catalogs at random, so that none is special."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from policy.config import FINDINGS, PRESETS, MobilityConfig, RequestConfig, ScenarioConfig
from policy.interfaces import BlockCatalog, Float, Int
from policy.learn.request_statistics import overlap_matrix
from policy.world.splits import Split, world_seed
from policy.world.synthetic import findings_catalog, synthetic_catalog
from policy.world.trace import generate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Some worlds of one size and one process."""

    config: ScenarioConfig
    families: Int
    overlap: Float
    """Shared bytes of two models, (models, models)."""
    node_xy: Float
    """(nodes, 2), m."""
    user_xy: Float
    """(worlds, slots, users, 2), m."""
    requests: Int
    """(worlds, slots, users)."""
    cells: Int
    """(worlds, slots, users)."""


def draw_batch(config: ScenarioConfig, catalog: BlockCatalog, seeds: Sequence[int]) -> Batch:
    """Draw one world a seed."""
    families = catalog.families()
    traces = [generate(np.random.default_rng(seed), config, families)[0] for seed in seeds]
    return Batch(
        config=config,
        families=families,
        overlap=overlap_matrix(catalog),
        node_xy=traces[0].node_xy,
        user_xy=np.stack([t.user_xy for t in traces]),
        requests=np.stack([t.requests for t in traces]),
        cells=np.stack([t.cells() for t in traces]),
    )


def random_requests(rng: np.random.Generator) -> RequestConfig:
    """A request process at random; about every effect is absent now and then."""

    def maybe(chance: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < chance else 0.0

    return RequestConfig(
        request_prob=float(rng.uniform(0.3, 1.0)),
        zipf_exponent=float(rng.uniform(0.3, 1.4)),
        stickiness=maybe(0.7, 0.2, 0.95),
        no_repeat=int(rng.choice([0, 0, 1, 2, 2, 3])),
        reshuffle_prob=maybe(0.5, 0.005, 0.1),
        drift_prob=maybe(0.5, 0.02, 0.5),
        cell_taste=maybe(0.5, 0.1, 1.0),
        flash_prob=maybe(0.3, 0.02, 0.15),
        flash_slots=int(rng.integers(2, 8)),
        flash_share=float(rng.uniform(0.2, 0.8)),
        diurnal_amplitude=maybe(0.2, 0.2, 0.9),
    )


def random_mobility(rng: np.random.Generator) -> MobilityConfig:
    """A motion at random."""
    low = float(rng.uniform(0.3, 5.0))
    return MobilityConfig(
        kind=str(rng.choice(["gauss-markov", "gauss-markov", "random-waypoint"])),  # type: ignore[arg-type]
        speed_m_s=(low, low * float(rng.uniform(1.2, 7.0))),
        memory=float(rng.uniform(0.3, 0.95)),
        speed_sigma_m_s=float(rng.uniform(0.3, 3.0)),
        heading_sigma_rad=float(rng.uniform(0.1, 1.2)),
    )


def random_catalog(rng: np.random.Generator) -> BlockCatalog:
    """The prototype's catalog, or a synthetic one of 4 to 30 models."""
    if rng.random() < 0.4:
        return findings_catalog()
    models = int(rng.integers(4, 31))
    return synthetic_catalog(
        rng,
        models=models,
        blocks_per_model=int(rng.integers(4, 16)),
        families=int(rng.integers(1, max(2, models // 2))),
        shared=float(rng.uniform(0.1, 0.9)),
    )


def draw_batches(rng: np.random.Generator, settings: int, worlds: int, split: Split) -> list[Batch]:
    """Batches over random settings; every third keeps the requests and the motion of a preset.

    Args:
        rng: Source of the settings.
        settings: How many settings.
        worlds: Worlds of each.
        split: Which seeds the worlds may have; the first `settings` x `worlds` of it are used.
    """
    batches = []
    for place in range(settings):
        base = PRESETS["default"] if place % 6 == 3 else FINDINGS
        config = replace(base, num_slots=int(rng.choice([24, 24, 48])), num_users=int(rng.integers(4, 25)))
        catalog = random_catalog(rng)
        if place % 3:
            config = replace(config, requests=random_requests(rng), mobility=random_mobility(rng))
        seeds = [world_seed(split, place * worlds + i) for i in range(worlds)]
        batches.append(draw_batch(config, catalog, seeds))
    return batches
