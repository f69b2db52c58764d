"""The scenario that the policy is judged on, and changes to it: does one policy serve them all?

`shifted_scenarios` change one thing each, most of them within what the learned policy was trained on.
`outside_scenarios` are out of distribution: each names the parameters that lie outside the training ranges
(`policy.learn.ranges`), and a test holds it to that.
"""

from dataclasses import replace

import numpy as np

from policy.config import FINDINGS, LinkConfig, RequestConfig, ScenarioConfig
from policy.interfaces import BlockCatalog
from policy.scenario import Scenario
from policy.world.synthetic import findings_catalog, synthetic_catalog


def new_catalog() -> BlockCatalog:
    """Twenty models of five families with blocks of many sizes; about 2 GB, as the prototype's."""
    rng = np.random.default_rng(20)
    return synthetic_catalog(
        rng, models=20, blocks_per_model=10, families=5, shared=0.6, mean_block_bytes=18e6
    )


def _requests(**changes: object) -> ScenarioConfig:
    return replace(FINDINGS, requests=replace(FINDINGS.requests, **changes))  # type: ignore[arg-type]


def shifted_configs() -> dict[str, ScenarioConfig]:
    """Settings of the prototype's scenario with one thing changed; `findings` is unchanged."""
    links, motion = FINDINGS.links, FINDINGS.mobility
    crowd = RequestConfig(
        zipf_exponent=0.9, cell_taste=0.7, drift_prob=0.2, flash_prob=0.08, request_prob=0.7
    )
    configs = {
        "findings": FINDINGS,
        "half the room": replace(FINDINGS, capacity_bytes=(225e6,)),
        "twice the room": replace(FINDINGS, capacity_bytes=(900e6,)),
        "6 users": replace(FINDINGS, num_users=6),
        "30 users": replace(FINDINGS, num_users=30),
        "slow cloud": replace(FINDINGS, links=LinkConfig(backhaul_bit_s=1e9, cloud_bit_s=80e6)),
        "slow backhaul": replace(FINDINGS, links=replace(links, backhaul_bit_s=0.3e9)),
        "independent requests": _requests(stickiness=0.0, no_repeat=0),
        "crowds and cells": replace(FINDINGS, requests=crowd),
        "40 MHz": replace(FINDINGS, radio=replace(FINDINGS.radio, bandwidth_hz=40e6)),
        "pedestrians": replace(FINDINGS, mobility=replace(motion, speed_m_s=(0.5, 2.0))),
        "devices keep": _requests(keep_downloads=True),
        "dear updates": replace(FINDINGS, update_weight=1.0),
    }
    return {name: replace(config, name=name) for name, config in configs.items()}


OUTSIDE: dict[str, frozenset[str]] = {
    # what lies outside the training ranges, and nothing else does
    "3 users": frozenset({"num_users"}),
    "40 users": frozenset({"num_users"}),
    "6 nodes": frozenset({"num_nodes"}),
    "60 models": frozenset({"catalog.models"}),
    "rare requests": frozenset({"requests.request_prob"}),
    "flat popularity": frozenset({"requests.zipf_exponent"}),
    "steep popularity": frozenset({"requests.zipf_exponent"}),
    "never again": frozenset({"requests.no_repeat"}),
    "fickle": frozenset({"requests.reshuffle_prob"}),
    "still users": frozenset({"mobility.kind"}),
    "fast cars": frozenset({"mobility.slowest_m_s"}),
    "short slots": frozenset({"slot_s"}),
    **{name: frozenset({"requests.process"}) for name in ("bursts", "weekly", "moods", "shots")},
}


def outside_scenarios() -> dict[str, Scenario]:
    """The prototype's scenario with one thing moved out of the training ranges, see `OUTSIDE`."""
    motion = FINDINGS.mobility
    configs = {
        "3 users": replace(FINDINGS, num_users=3),
        "40 users": replace(FINDINGS, num_users=40),
        "6 nodes": replace(FINDINGS, num_nodes=6),
        "60 models": FINDINGS,
        "rare requests": _requests(request_prob=0.15),
        "flat popularity": _requests(zipf_exponent=0.1),
        "steep popularity": _requests(zipf_exponent=1.8),
        "never again": _requests(no_repeat=6),
        "fickle": _requests(reshuffle_prob=0.3),
        "still users": replace(FINDINGS, mobility=replace(motion, kind="still")),
        "fast cars": replace(FINDINGS, mobility=replace(motion, speed_m_s=(15.0, 40.0))),
        "short slots": replace(FINDINGS, slot_s=2.0),
        **{name: _requests(process=name) for name in ("bursts", "weekly", "moods", "shots")},
    }
    catalogs = {"60 models": many_models_catalog()}
    return {
        name: Scenario(replace(config, name=name), catalogs.get(name) or findings_catalog())
        for name, config in configs.items()
    }


def many_models_catalog() -> BlockCatalog:
    """Sixty models of ten families; about 2 GB, as the prototype's."""
    rng = np.random.default_rng(60)
    return synthetic_catalog(
        rng, models=60, blocks_per_model=6, families=10, shared=0.8, mean_block_bytes=16e6
    )


def shifted_scenarios() -> dict[str, Scenario]:
    """All of `shifted_configs` with the prototype's catalog, and one with a new catalog."""
    scenarios = {name: Scenario(config, findings_catalog()) for name, config in shifted_configs().items()}
    catalog = new_catalog()
    scenarios["new catalogue"] = Scenario(replace(FINDINGS, name="new catalogue"), catalog)
    return scenarios
