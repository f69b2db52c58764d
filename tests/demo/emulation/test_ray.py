"""Roles as Ray actors on two Ray nodes do what they do in threads."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from demo.emulation.log import check_log, read_log
from demo.emulation.runtime import ray_actors
from demo.emulation.runtime.ray_actors import RayMissingError, RayRuntime, RayStartError, load_ray
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.stage import ProcessRoles
from tests.demo.emulation.conftest import small_run
from tests.demo.emulation.faulty import faulty_round

HAS_RAY = find_spec("ray") is not None


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_one_line_says_how_to_get_it() -> None:
    with pytest.raises(RayMissingError):
        load_ray()
    assert "pip install 'pbcast[ray]'" in str(RayMissingError())


class _Stuck:
    """A Ray that does not start."""

    def __init__(self) -> None:
        self.is_up = True

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: object) -> None:
        raise Exception("The current node timed out\n during startup.")

    def shutdown(self) -> None:
        self.is_up = False


def test_a_cluster_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = _Stuck()
    monkeypatch.setattr(ray_actors, "load_ray", lambda: ray)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RayStartError) as stopped:
        RayRuntime(ProcessRoles, ())  # type: ignore[arg-type]
    assert str(stopped.value) == "Ray does not start at local: The current node timed out during startup."
    assert not ray.is_up
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'pbcast[ray]'")
@pytest.mark.filterwarnings("ignore")
def test_faults_on_two_ray_nodes_cost_nobody_a_model(family: Path, tmp_path: Path, two_nodes: str) -> None:
    """Roles are killed and come back where their disks are; the second round has the actors of the first."""
    ray = load_ray()
    ray.init(address=two_nodes, log_to_driver=False, configure_logging=False)
    try:
        for seed in (1, 4):
            faulty_round(family, tmp_path / str(seed), seed, "ray")
    finally:
        ray.shutdown()
