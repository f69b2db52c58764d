"""The scenario that the policy is judged on, and changes to it: does one policy serve them all?"""

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


def shifted_scenarios() -> dict[str, Scenario]:
    """All of `shifted_configs` with the prototype's catalog, and one with a new catalog."""
    scenarios = {name: Scenario(config, findings_catalog()) for name, config in shifted_configs().items()}
    catalog = new_catalog()
    scenarios["new catalogue"] = Scenario(replace(FINDINGS, name="new catalogue"), catalog)
    return scenarios
