"""Our own stores keep the laws of `pbstore.testing`."""

import pickle
import subprocess
import sys
from pathlib import Path

from hypothesis import settings

from pbstore import (
    BlockInUseError,
    BlockMissingError,
    BlockStore,
    CapacityError,
    MemoryBlockStore,
    open_store,
)
from pbstore.testing import BlockStoreLaws, BlockStoreMachine


class TestMemory(BlockStoreLaws):
    def make_store(self, folder: Path, capacity_bytes: int | None = None) -> BlockStore:
        return MemoryBlockStore(capacity_bytes)


class TestDisk(BlockStoreLaws):
    def make_store(self, folder: Path, capacity_bytes: int | None = None) -> BlockStore:
        return open_store(folder, capacity_bytes, durable=False, trash_days=0)


class MemoryMachine(BlockStoreMachine):
    def make_store(self, folder: Path) -> BlockStore:
        return MemoryBlockStore(self.capacity_bytes)


class TestMemoryBesideADict(MemoryMachine.TestCase):
    settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


class Forgetful(MemoryBlockStore):
    def put(self, raw: bytes) -> str:
        block_id = super().put(raw)
        if len(self._blocks) > 1:
            del self._blocks[next(iter(self._blocks))]
        return block_id


def test_the_laws_find_a_store_that_forgets() -> None:
    class Laws(BlockStoreLaws):
        def make_store(self, folder: Path, capacity_bytes: int | None = None) -> BlockStore:
            return Forgetful(capacity_bytes)

    try:
        Laws().test_models_are_filed_and_removed(Forgetful)
    except BlockMissingError:
        return
    raise AssertionError("a store that forgets blocks keeps all laws")


def test_errors_survive_pickling() -> None:
    for error in (BlockMissingError("a" * 64), CapacityError(1, 2, 3), BlockInUseError("a" * 64, "x")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_package_does_not_import_its_tests() -> None:
    code = "import sys, pbstore; pbstore.open_store; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
