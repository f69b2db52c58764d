"""Worlds to learn from: request processes, motions and catalogs at random, so that none is special."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from policy.config import FINDINGS, PRESETS, MobilityConfig, RequestConfig, ScenarioConfig
from policy.interfaces import BlockCatalog, Float, Int
from policy.learn.ranges import MODELS, MOTION, REQUESTS, SIZES, Range
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
        request_prob=float(rng.uniform(*REQUESTS["request_prob"])),
        zipf_exponent=float(rng.uniform(*REQUESTS["zipf_exponent"])),
        stickiness=maybe(0.7, *REQUESTS["stickiness"]),
        no_repeat=int(rng.choice([0, 0, 1, 2, 2, 3])),
        reshuffle_prob=maybe(0.5, *REQUESTS["reshuffle_prob"]),
        drift_prob=maybe(0.5, *REQUESTS["drift_prob"]),
        cell_taste=maybe(0.5, *REQUESTS["cell_taste"]),
        flash_prob=maybe(0.3, *REQUESTS["flash_prob"]),
        flash_slots=_whole(rng, REQUESTS["flash_slots"]),
        flash_share=float(rng.uniform(*REQUESTS["flash_share"])),
        diurnal_amplitude=maybe(0.2, *REQUESTS["diurnal_amplitude"]),
    )


def _whole(rng: np.random.Generator, span: Range) -> int:
    """A whole number of a range, both ends included."""
    return int(rng.integers(int(span[0]), int(span[1]) + 1))


def random_mobility(rng: np.random.Generator) -> MobilityConfig:
    """A motion at random."""
    low = float(rng.uniform(*MOTION["slowest_m_s"]))
    return MobilityConfig(
        kind=str(rng.choice(["gauss-markov", "gauss-markov", "random-waypoint"])),  # type: ignore[arg-type]
        speed_m_s=(low, low * float(rng.uniform(*MOTION["faster"]))),
        memory=float(rng.uniform(*MOTION["memory"])),
        speed_sigma_m_s=float(rng.uniform(*MOTION["speed_sigma_m_s"])),
        heading_sigma_rad=float(rng.uniform(*MOTION["heading_sigma_rad"])),
    )


def random_catalog(rng: np.random.Generator) -> BlockCatalog:
    """The prototype's catalog, or a synthetic one of 4 to 30 models."""
    if rng.random() < 0.4:
        return findings_catalog()
    models = _whole(rng, MODELS)
    return synthetic_catalog(
        rng,
        models=models,
        blocks_per_model=int(rng.integers(4, 16)),
        families=int(rng.integers(1, max(2, models // 2))),
        shared=float(rng.uniform(0.1, 0.9)),
    )


def random_setting(rng: np.random.Generator, place: int) -> tuple[ScenarioConfig, BlockCatalog]:
    """The `place`-th setting: every third keeps the requests and the motion of a preset."""
    base = PRESETS["default"] if place % 6 == 3 else FINDINGS
    slots = int(rng.choice([24, 24, 48]))
    users = _whole(rng, SIZES["num_users"])
    config = replace(base, num_slots=slots, num_users=users)
    catalog = random_catalog(rng)
    if place % 3:
        config = replace(config, requests=random_requests(rng), mobility=random_mobility(rng))
    return config, catalog


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
        config, catalog = random_setting(rng, place)
        seeds = [world_seed(split, place * worlds + i) for i in range(worlds)]
        batches.append(draw_batch(config, catalog, seeds))
    return batches
