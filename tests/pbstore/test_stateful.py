"""The store on the disk beside a plain dictionary, driven at random."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from pbstore import CapacityError, DiskBlockStore, ModelExistsError, open_store
from pbstore.disk.upkeep.verify import reference_problems
from pbstore.testing import BlockStoreMachine
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.thoroughness import TIMES

NAMES = ("org/a", "org/b", "org/c", "deep/er/d")
CAPACITY = 700_000


class StoreMachine(BlockStoreMachine):
    """Models are a dict of folders' contents, blocks a dict of bytes."""

    capacity_bytes = CAPACITY

    def make_store(self, folder: Path) -> DiskBlockStore:
        return open_store(folder, CAPACITY, pack_bytes=120_000, durable=False)

    @initialize()
    def start(self) -> None:
        super().start()
        self.models: dict[str, list[dict[str, bytes]]] = {}
        """What each name has meant, the newest first."""
        self.trashed: list[tuple[str, list[dict[str, bytes]]]] = []
        """Removed models, the oldest first; a store that gets full takes from these."""

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
        try:
            report = self.store.add(folder, name, form=form)
        except CapacityError:
            assert self.store.used_bytes + sum(map(len, content.values())) > CAPACITY
        else:
            assert report.already_there == (self.models.get(name, [None])[0] == content)
            line = [one for one in self.models.get(name, []) if one != content]
            self.models[name] = [content, *line]

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

    @precondition(lambda self: self.models)
    @rule(data=st.data(), new_name=st.sampled_from(NAMES))
    def rename(self, data: st.DataObject, new_name: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        if new_name in self.models and new_name != name:
            with pytest.raises(ModelExistsError):
                self.store.history.rename(name, new_name)
            return
        self.store.history.rename(name, new_name)
        self.models[new_name] = self.models.pop(name)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), new_name=st.sampled_from(NAMES))
    def copy(self, data: st.DataObject, new_name: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        place = data.draw(st.integers(0, len(self.models[name]) - 1))
        content = self.models[name][place]
        self.store.history.copy(f"{name}@~{place}", new_name)
        self.models[new_name] = [content, *(one for one in self.models.get(new_name, []) if one != content)]

    @precondition(lambda self: self.models)
    @rule(data=st.data(), last=st.integers(1, 3))
    def forget_revisions(self, data: st.DataObject, last: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        report = self.store.history.forget([name], keep_last=last)
        assert len(report.revisions) == max(0, len(self.models[name]) - last)
        del self.models[name][last:]

    def contents(self, name: str) -> list[dict[str, bytes]]:
        return [
            {
                entry.path: b"".join(bytes(self.store.get(piece.block_id)) for piece in entry.pieces)
                for entry in self.store.manifest(f"{name}@{item.commit}").files
            }
            for item in self.store.history.log(name)
        ]

    @precondition(lambda self: self.trashed)
    @rule(data=st.data(), new_name=st.sampled_from((None, *NAMES)))
    def take_back(self, data: st.DataObject, new_name: str | None) -> None:
        name, _ = data.draw(st.sampled_from(self.trashed))
        line = next(held for one, held in reversed(self.trashed) if one == name)
        target = new_name or name
        if target in self.models:
            with pytest.raises(ModelExistsError):
                self.store.trash.restore(name, new_name)
            return
        self.store.trash.restore(name, new_name)
        self.models[target] = [one for one in self.contents(target) if one in line]
        assert self.models[target][0] == line[0]  # a full store takes the earlier ones first
        place = max(i for i, (one, _) in enumerate(self.trashed) if one == name)
        del self.trashed[place]

    @rule()
    def forget(self) -> None:
        self.store.trash.forget()
        self.trashed.clear()
        self.loose = {i: raw for i, raw in self.loose.items() if self.store.has(i)}

    @precondition(lambda self: self.models)
    @rule(data=st.data(), hot=st.booleans())
    def change_form(self, data: st.DataObject, hot: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.models)))
        try:
            (self.store.forms.heat if hot else self.store.forms.cool)(name)
        except CapacityError:
            assert hot

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
        left = Counter(item.name for item in self.store.trash.models() if "@" not in item.name)
        for place in range(len(self.trashed) - 1, -1, -1):  # the oldest of a name are taken first
            name = self.trashed[place][0]
            left[name] -= 1
            if left[name] < 0:
                del self.trashed[place]
        assert not +left
        for name, line in self.models.items():
            assert self.contents(name) == line

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        report = self.store.verify()
        assert report.ok, report.problems
        assert reference_problems(self.store.disk) == []
        super().teardown()


class TestStore(StoreMachine.TestCase):
    settings = settings(max_examples=4, stateful_step_count=15, deadline=None)


@pytest.mark.slow
class TestStoreForLong(StoreMachine.TestCase):
    settings = settings(max_examples=30 * TIMES, stateful_step_count=40, deadline=None)
