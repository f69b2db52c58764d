"""Pull, push and sync are killed: what was durable stays, nothing is wrong, and the next one goes on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.serve.fetch import copies
from pbstore.serve.fetch.copies import PULL, PUSH
from tests.pbstore.folders import folder_content
from tests.pbstore.serve.families import family_files
from tests.pbstore.serve.nodes import Proxy, store_node

SCRIPT = """
import sys
from pbstore import open_store
from pbstore.serve.fetch import copies, transfer
transfer.BATCH_BYTES = 1 << 18
with open_store(sys.argv[1]) as store:
    copies.sync(store, sys.argv[2], sys.argv[3])
"""
SIBLINGS = 4


FAMILY = {"rows": 3000, "siblings": SIBLINGS}


def killed(store: Path, proxy: Proxy, direction: str, behind_bytes: int) -> bool:
    """Run a sync in another process, and kill it where so many bytes went by; whether it came so far."""
    proxy.hold_after = behind_bytes
    command = [sys.executable, "-c", SCRIPT, str(store), proxy.url, direction]
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            if proxy.held.wait(0.02):
                process.kill()
                return True
        assert process.returncode == 0
    return False


def check_kill(family: DiskBlockStore, root: Path, tmp_path: Path, direction: str, share: float) -> bool:
    with open_store(tmp_path / "store") as other:
        here, there = (other, family) if direction == PULL else (family, other)
        with store_node(there) as url, Proxy(url) as proxy:
            alive = killed(here.path, proxy, direction, int(share * family.used_bytes))
        assert other.verify().ok
        durable = other.used_bytes
        with store_node(there) as url, Proxy(url) as proxy:
            assert copies.sync(here, url=proxy.url, direction=direction).failed == ()
            again = proxy.counted.to_client if direction == PULL else proxy.counted.to_server
        assert again < 1.02 * (family.used_bytes - durable) + 16_384
        assert other.models() == family.models()
        assert other.verify().ok
        for name in other.models():
            assert other.manifest(name) == family.manifest(name)
        name = other.models()[-1]
        other.checkout(name, tmp_path / "out")
        assert folder_content(tmp_path / "out") == family_files(root, name)
    return alive


def test_a_killed_pull_goes_on(family: DiskBlockStore, root: Path, tmp_path: Path) -> None:
    assert check_kill(family, root, tmp_path, PULL, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("direction", [PULL, PUSH])
def test_any_kill_loses_nothing(family: DiskBlockStore, root: Path, tmp_path: Path, direction: str) -> None:
    rng = np.random.default_rng(17)
    alive = [
        check_kill(family, root, tmp_path / str(number), direction, rng.uniform(0.001, 1.0))
        for number in range(8)
    ]
    assert sum(alive) >= 6
