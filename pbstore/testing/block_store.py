"""Laws that every `BlockStore` keeps, as a class of tests to be subclassed.

    class TestMine(BlockStoreLaws):
        def make_store(self, folder, capacity_bytes=None):
            return MyStore(folder, capacity_bytes)

Needs pytest and hypothesis.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbstore.blocks import StoredBlock
from pbstore.codecs.choose import choose
from pbstore.codecs.types import TensorSpec
from pbstore.errors import (
    BlockCorruptError,
    BlockInUseError,
    BlockMissingError,
    CapacityError,
    ModelExistsError,
    ModelMissingError,
)
from pbstore.hashing import hash_block
from pbstore.manifest import FileEntry, Manifest, Piece
from pbstore.store import BlockStore

Make = Callable[..., BlockStore]
BLOCKS = st.lists(st.binary(max_size=200), max_size=6)
shared = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    max_examples=8,
    deadline=None,
)


def manifest_of(store: BlockStore, name: str, blocks: list[bytes]) -> Manifest:
    """A model of one file whose pieces are the blocks."""
    pieces = tuple(Piece(store.put(block), len(block)) for block in blocks)
    entry = FileEntry(path="f.bin", size_bytes=sum(map(len, blocks)), sha256="0" * 64, pieces=pieces)
    return Manifest(name=name, files=(entry,))


def delta(store: BlockStore, base: bytes, raw: bytes) -> StoredBlock:
    """A block that needs `base` in order to be decoded."""
    spec = TensorSpec("F32", (len(raw) // 4,))
    encoded = choose(raw, spec, [(store.put(base), base, spec)])
    assert encoded.needs
    return StoredBlock(
        block_id=hash_block(raw),
        raw_bytes=len(raw),
        codec=encoded.codec,
        payload=encoded.payload,
        needs=tuple(encoded.needs),
    )


def similar_pair() -> tuple[bytes, bytes]:
    """Two tensors, the second of which is worth storing as a difference."""
    base = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    child = base.copy()
    child[::50] += 0.001
    return base.tobytes(), child.tobytes()


class BlockStoreLaws:
    """Subclass it, say how a store is made, and pytest runs every law against it."""

    def make_store(self, folder: Path, capacity_bytes: int | None = None) -> BlockStore:
        """A new store.

        Args:
            folder: Where it may lie; it does not exist yet.
            capacity_bytes: Most payload bytes, None without a limit.
        """
        raise NotImplementedError

    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Make]:
        """Makes as many stores as a test wants, and closes those that can be closed."""
        opened: list[BlockStore] = []

        def build(capacity_bytes: int | None = None) -> BlockStore:
            opened.append(self.make_store(tmp_path / f"store{len(opened)}", capacity_bytes))
            return opened[-1]

        yield build
        for store in opened:
            getattr(store, "close", lambda: None)()

    @shared
    @given(blocks=BLOCKS)
    def test_each_distinct_block_is_stored_once(self, make: Make, blocks: list[bytes]) -> None:
        store = make()
        ids = [store.put(block) for block in blocks]

        assert [bytes(store.get(i)) for i in ids] == blocks
        assert ids == [hash_block(block) for block in blocks]
        assert store.used_bytes == sum(map(len, set(blocks)))
        assert set(store.block_ids()) == set(ids)

    @shared
    @given(blocks=BLOCKS, capacity=st.integers(0, 400))
    def test_capacity_is_never_exceeded(self, make: Make, blocks: list[bytes], capacity: int) -> None:
        store = make(capacity)
        for block in blocks:
            fits = store.has(hash_block(block)) or store.used_bytes + len(block) <= capacity
            if fits:
                store.put(block)
            else:
                with pytest.raises(CapacityError):
                    store.put(block)
            assert store.used_bytes <= capacity

    @shared
    @given(blocks=BLOCKS)
    def test_export_and_import_copy_a_store(self, make: Make, blocks: list[bytes]) -> None:
        source, target = make(), make()
        for block in blocks:
            source.put(block)
        for block_id in source.block_ids():
            assert target.import_block(source.export_block(block_id)) == block_id

        assert set(target.block_ids()) == set(source.block_ids())
        assert all(bytes(target.get(hash_block(block))) == block for block in blocks)

    @shared
    @given(blocks=st.lists(st.binary(max_size=50), min_size=1, max_size=5))
    def test_delete_gives_room_back(self, make: Make, blocks: list[bytes]) -> None:
        store = make()
        for block in blocks:
            store.put(block)
        for block_id in list(store.block_ids()):
            store.delete_block(block_id)
            assert not store.has(block_id)

        assert store.used_bytes == 0
        assert list(store.block_ids()) == []

    def test_missing_things_are_named(self, make: Make) -> None:
        store = make()
        absent = hash_block(b"absent")

        for call in (store.get, store.info, store.export_block, store.delete_block):
            with pytest.raises(BlockMissingError, match=absent[:12]):
                call(absent)
        for of_model in (store.manifest, store.remove, store.blocks):
            with pytest.raises(ModelMissingError, match="org/none"):
                of_model("org/none")

    def test_models_are_filed_and_removed(self, make: Make) -> None:
        store = make()
        first = manifest_of(store, "org/b", [b"one", b"two", b"one"])
        second = manifest_of(store, "org/a", [b"two", b"three"])
        store.put_manifest(first)
        store.put_manifest(second)
        store.put_manifest(first)

        assert store.models() == ("org/a", "org/b")
        assert store.manifest("org/b") == first
        assert store.blocks("org/b") == (hash_block(b"one"), hash_block(b"two"))
        with pytest.raises(BlockInUseError):
            store.delete_block(hash_block(b"two"))
        store.remove("org/a")
        store.delete_block(hash_block(b"three"))
        with pytest.raises(BlockInUseError):
            store.delete_block(hash_block(b"two"))
        store.remove("org/b")
        store.delete_block(hash_block(b"two"))
        assert store.models() == ()

    def test_a_name_is_not_given_twice(self, make: Make) -> None:
        store = make()
        store.put_manifest(manifest_of(store, "org/a", [b"one"]))

        with pytest.raises(ModelExistsError):
            store.put_manifest(manifest_of(store, "org/a", [b"two"]))

    def test_a_manifest_needs_its_blocks(self, make: Make) -> None:
        source, target = make(), make()
        manifest = manifest_of(source, "org/a", [b"one", b"two"])
        target.put(b"one")

        with pytest.raises(BlockMissingError, match="org/a"):
            target.put_manifest(manifest)
        assert target.models() == ()

    def test_a_delta_needs_its_base(self, make: Make) -> None:
        base, child = similar_pair()
        source, target = make(), make()
        stored = delta(source, base, child)
        source.import_block(stored)

        with pytest.raises(BlockMissingError):
            target.import_block(source.export_block(stored.block_id))
        target.put(base)
        target.import_block(source.export_block(stored.block_id))

        assert bytes(target.get(stored.block_id)) == child
        assert target.info(stored.block_id).needs == (hash_block(base),)
        assert target.used_bytes < 1.5 * len(base)
        with pytest.raises(BlockInUseError):
            target.delete_block(hash_block(base))
        target.delete_block(stored.block_id)
        target.delete_block(hash_block(base))
        assert target.used_bytes == 0

    def test_bases_stand_before_the_blocks_that_need_them(self, make: Make) -> None:
        base, child = similar_pair()
        store = make()
        store.import_block(delta(store, base, child))
        entry = FileEntry(
            path="f", size_bytes=len(child), sha256="0" * 64, pieces=(Piece(hash_block(child), len(child)),)
        )
        store.put_manifest(Manifest(name="org/child", files=(entry,)))

        assert store.blocks("org/child") == (hash_block(base), hash_block(child))

    def test_a_base_is_never_a_delta(self, make: Make) -> None:
        base, child = similar_pair()
        store = make()
        stored = delta(store, base, child)
        store.import_block(stored)
        grandchild = replace(stored, block_id=hash_block(b"x"), needs=(stored.block_id,))

        with pytest.raises(ValueError, match="needs"):
            store.import_block(grandchild)

    def test_false_blocks_are_refused(self, make: Make) -> None:
        store = make()
        good = StoredBlock(block_id=hash_block(b"abcd"), raw_bytes=4, codec="raw", payload=b"abcd")
        bad = [
            replace(good, payload=b"abce"),
            replace(good, raw_bytes=5),
            replace(good, raw_bytes=1 << 60),
            replace(good, raw_bytes=-1),
            replace(good, codec="zstd"),
            replace(good, codec="no such codec"),
        ]
        for block in bad:
            with pytest.raises(BlockCorruptError):
                store.import_block(block)
        assert list(store.block_ids()) == []
