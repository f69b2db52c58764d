"""Roles as Ray actors on two Ray nodes do what they do in threads."""

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from demo.emulation.log import check_log, read_log
from demo.emulation.runtime.ray_actors import RayMissingError, load_ray
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from tests.demo.emulation.conftest import small_run

HAS_RAY = find_spec("ray") is not None


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_one_line_says_how_to_get_it() -> None:
    with pytest.raises(RayMissingError):
        load_ray()
    assert "pip install 'pbcast[ray]'" in str(RayMissingError())


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """A cluster of two Ray nodes on this machine; its address."""
    load_ray()
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        cluster.add_node(num_cpus=2)
        yield cluster.address
    finally:
        cluster.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'pbcast[ray]'")
@pytest.mark.filterwarnings("ignore")
def test_two_ray_nodes_serve_everybody(family: Path, tmp_path: Path, two_nodes: str) -> None:
    run = small_run(family, slots=2)
    # no report may be late: decisions would differ
    config = EmulateConfig(run=run, loss=0.05, clients=0, patience_s=300.0)
    spread = replace(config, runtime="ray", ray_address=two_nodes)
    there = emulate(spread, tmp_path / "ray", progress=False)
    here = emulate(config, tmp_path / "threads", progress=False)
    verdict = check_log(read_log(tmp_path / "ray" / LOG_NAME))
    assert (verdict.broken, verdict.unserved) == ((), 0)
    assert there.good
    moved = ("payload_bytes", "migrated_bytes", "cloud_bytes", "cache_update_bytes", "broadcasts")
    assert [there.wire[name] for name in moved] == [here.wire[name] for name in moved]
