"""The store on the disk beside a plain dictionary, driven at random."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from pbstore import BlockInUseError, CapacityError, ModelExistsError, hash_block, open_store
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

NAMES = ("org/a", "org/b", "org/c", "deep/er/d")
CAPACITY = 700_000


class StoreMachine(RuleBasedStateMachine):
    """Models are a dict of folders' contents, blocks a dict of bytes."""

    blocks = Bundle("blocks")

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.store = open_store(self.root / "store", CAPACITY, pack_bytes=120_000, durable=False)
        self.models: dict[str, dict[str, bytes]] = {}
        self.trashed: list[tuple[str, dict[str, bytes]]] = []
        """Removed models, the oldest first; a store that gets full takes from these."""
        self.loose: dict[str, bytes] = {}

    def folder(self, seed: int, changed: int, half: bool) -> Path:
        tensors = base_tensors(seed, rows=120, width=32)
        if changed:
            tensors = tuned(tensors, ("embed.weight", "layer.weight")[:changed], seed=changed)
        if half:
            tensors = {name: array.astype(np.float16) for name, array in tensors.items()}
        path = self.root / f"m{seed}-{changed}-{half}"
        return path if path.exists() else write_model(path, tensors, tokenizer__json=b"{}" * seed)

    @rule(
        name=st.sampled_from(NAMES),
        seed=st.integers(0, 2),
        changed=st.integers(0, 2),
        half=st.booleans(),
        form=st.sampled_from(["hot", "cold"]),
    )
    def add(self, name: str, seed: int, changed: int, half: bool, form: str) -> None:
        folder = self.folder(seed, changed, half)
        content = folder_content(folder)
        if self.models.get(name, content) != content:
            with pytest.raises(ModelExistsError):
                self.store.add(folder, name, form=form)
            return
        try:
            self.store.add(folder, name, form=form)
        except CapacityError:
            assert self.store.used_bytes + sum(map(len, content.values())) > CAPACITY
        else:
            self.models[name] = content

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        self.store.remove(name, trash=False)
        del self.models[name]

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def throw_away(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        self.store.remove(name)
        self.trashed.append((name, self.models.pop(name)))

    @precondition(lambda self: self.trashed)
    @rule(data=st.data(), new_name=st.sampled_from((None, *NAMES)))
    def take_back(self, data: st.DataObject, new_name: str | None) -> None:
        name, content = data.draw(st.sampled_from(self.trashed))
        content = next(held for one, held in reversed(self.trashed) if one == name)
        target = new_name or name
        if target in self.models:
            with pytest.raises(ModelExistsError):
                self.store.restore(name, new_name)
            return
        self.store.restore(name, new_name)
        self.models[target] = content
        place = max(i for i, (one, _) in enumerate(self.trashed) if one == name)
        del self.trashed[place]

    @rule()
    def forget(self) -> None:
        self.store.forget()
        self.trashed.clear()
        self.loose = {i: raw for i, raw in self.loose.items() if self.store.has(i)}

    @precondition(lambda self: self.models)
    @rule(data=st.data(), hot=st.booleans())
    def change_form(self, data: st.DataObject, hot: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        try:
            (self.store.heat if hot else self.store.cool)(name)
        except CapacityError:
            assert hot

    @rule(target=blocks, size=st.integers(0, 3000), seed=st.integers(0, 50))
    def put(self, size: int, seed: int) -> object:
        raw = np.random.default_rng(seed).bytes(size)
        try:
            block_id = self.store.put(raw)
        except CapacityError:
            assert self.store.used_bytes + size > CAPACITY
            return multiple()
        self.loose[block_id] = raw
        return block_id

    @rule(block_id=consumes(blocks))
    def delete(self, block_id: str) -> None:
        if block_id not in self.loose or not self.store.has(block_id):
            return
        try:
            self.store.delete_block(block_id)
        except BlockInUseError:
            return
        del self.loose[block_id]

    @rule()
    def collect(self) -> None:
        self.store.gc()
        self.loose = {i: raw for i, raw in self.loose.items() if self.store.has(i)}

    @rule(lose_index=st.booleans())
    def reopen(self, lose_index: bool) -> None:
        self.store.close()
        if lose_index:
            for path in (self.root / "store").glob("index.sqlite*"):
                path.unlink()
        self.store = open_store(self.root / "store", durable=False)

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "store"):
            return
        assert set(self.store.models()) == set(self.models)
        left = Counter(item.name for item in self.store.trash())
        for place in range(len(self.trashed) - 1, -1, -1):  # the oldest of a name are taken first
            name = self.trashed[place][0]
            left[name] -= 1
            if left[name] < 0:
                del self.trashed[place]
        assert not +left
        assert all(bytes(self.store.get(i)) == raw for i, raw in self.loose.items())
        assert self.store.used_bytes <= CAPACITY
        for name, content in self.models.items():
            for entry in self.store.manifest(name).files:
                raw = b"".join(bytes(self.store.get(piece.block_id)) for piece in entry.pieces)
                assert raw == content[entry.path]

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        report = self.store.verify()
        assert report.ok, report.problems
        assert reference_problems(self.store) == []
        sizes = {
            hash_block(self.store.get(i)): self.store.info(i).stored_bytes for i in self.store.block_ids()
        }
        assert sum(sizes.values()) == self.store.used_bytes
        self.store.close()
        shutil.rmtree(self.root)


class TestStore(StoreMachine.TestCase):
    settings = settings(max_examples=4, stateful_step_count=15, deadline=None)


@pytest.mark.slow
class TestStoreForLong(StoreMachine.TestCase):
    settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
