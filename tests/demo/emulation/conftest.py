"""A family of tiny models, and settings of a small live edge over it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.jobs.config import RunConfig
from pbstore import open_store
from policy.config import ScenarioConfig


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with a base, a full fine-tune (kept as deltas), one that shares layers, and a stranger."""
    root, rng = tmp_path_factory.mktemp("family"), np.random.default_rng(5)
    base = {f"layer.{i}": rng.normal(size=(64, 256)).astype(np.float32) for i in range(4)}
    weights = {
        "org/base": base,
        "org/tuned": {k: v + 1e-5 * rng.normal(size=v.shape).astype(np.float32) for k, v in base.items()},
        "org/child": {**base, "layer.3": rng.normal(size=(64, 256)).astype(np.float32)},
        "org/other": {"w": rng.normal(size=(64, 256)).astype(np.float32)},
    }
    with open_store(root / "store") as store:
        for name, tensors in weights.items():
            folder = root / name
            folder.mkdir(parents=True)
            save_file(tensors, folder / "model.safetensors")
            (folder / "config.json").write_text(f'{{"model": "{name}"}}')
            store.add(folder, name=name, base="org/base" if name == "org/tuned" else None)
    return root / "store"


def small_run(store: Path, seed: int = 0, slots: int = 3, *, keeps: bool = True) -> RunConfig:
    """A run of two nodes and three users."""
    config = ScenarioConfig(num_nodes=2, num_users=3, num_slots=slots, capacity_share=0.5, timing="pipelined")
    requests = replace(config.requests, keep_downloads=keeps, device_bytes=5e5)
    return RunConfig(
        store=store,
        seed=seed,
        scenario=replace(config, requests=requests),
        num_slots=slots,
        emulated_slots=slots,
        emulated_scheme="ewma-greedy",
        antennas=2,
    )
