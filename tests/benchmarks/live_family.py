"""A family of made-up models, and a small network on which a live edge is run for long."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from demo.jobs.config import RunConfig
from pbstore import open_store
from policy.config import LinkConfig, ScenarioConfig


def make_family(root: Path, layer_bytes: int) -> Path:
    """Five models of eight layers: a base, two that share half of it, a full fine-tune and a stranger."""
    rng = np.random.default_rng(1)
    shape = (256, layer_bytes // 1024)

    def layers(count: int) -> list[np.ndarray[Any, Any]]:
        return [rng.normal(size=shape).astype(np.float32) for _ in range(count)]

    base = layers(8)
    models = {
        "org/base": base,
        "org/half": base[:4] + layers(4),
        "org/other-half": base[:4] + layers(4),
        "org/tuned": [one + np.float32(1e-5) * rng.normal(size=shape).astype(np.float32) for one in base],
        "org/stranger": layers(8),
    }
    with open_store(root / "store") as store:
        for name, tensors in models.items():
            folder = root / name
            folder.mkdir(parents=True)
            save_file({f"layer.{i}": one for i, one in enumerate(tensors)}, folder / "model.safetensors")
            store.add(folder, name=name, base="org/base" if name == "org/tuned" else None)
    return root / "store"


def slow_network(store: Path, slots: int) -> RunConfig:
    """Three nodes and four users on links so slow that no processor holds them up."""
    config = ScenarioConfig(
        num_nodes=3,
        num_users=4,
        num_slots=slots,
        slot_s=4.0,
        capacity_share=0.4,
        timing="pipelined",
        links=LinkConfig(backhaul_bit_s=100e6, cloud_bit_s=40e6),
    )
    radio = replace(config.radio, bandwidth_hz=10e6)
    requests = replace(config.requests, request_prob=0.9)
    return RunConfig(
        store=store,
        scenario=replace(config, radio=radio, requests=requests),
        num_slots=slots,
        emulated_slots=slots,
        emulated_scheme="ewma-greedy",
        antennas=4,
    )
