"""Giving room back may die at any step: no model is lost that was not let go of, and the store verifies."""

import os
import time
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk.files import fsio
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.thoroughness import one_step_in

DIED = 9


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    base = base_tensors(rows=60)
    tensors = {
        "org/base": base,
        "org/child": tuned(base, tuple(base)),
        "org/other": base_tensors(seed=5, rows=40),
        "org/old": base_tensors(seed=6, rows=30),
    }
    return {name: write_model(tmp_path / name, content) for name, content in tensors.items()}


def filled(path: Path, folders: dict[str, Path]) -> None:
    with open_store(path, pack_bytes=20_000, durable=False) as store:
        for name, folder in folders.items():
            store.add(folder, name)
        store.remove("org/old")


def life(store: DiskBlockStore, journal: Path) -> None:
    """Every verb that gives room back; the journal is told what is about to be let go of."""
    store.forms.heat("org/child")
    store.remove("org/base")
    journal.write_text("org/old")
    store.plan.evict(1).apply()
    store.forms.cool("org/child")
    store.trash.restore("org/base", "org/root")
    store.forms.balance(0)
    store.remove("org/other")
    journal.write_text("org/old org/other")
    store.trash.forget(["org/other"])
    store.remove("org/root")
    store.gc()


def die_at(path: Path, journal: Path, stop_at: int) -> int:
    """Live until a step; the exit code."""
    child = os.fork()
    if not child:
        left = stop_at

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                os._exit(DIED)

        with open_store(path) as store:
            fsio.on_step(count)
            life(store, journal)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("stride", [29, pytest.param(one_step_in(5), marks=pytest.mark.slow)])
@pytest.mark.parametrize("lose_index", [False, True])
def test_death_at_every_step_of_giving_room_back(
    folders: dict[str, Path], tmp_path: Path, lose_index: bool, stride: int
) -> None:
    for stop_at in range(1, 2000, stride):
        path, journal = tmp_path / f"store{stop_at}", tmp_path / f"journal{stop_at}"
        filled(path, folders)
        code = die_at(path, journal, stop_at)
        assert code in (0, DIED)
        if lose_index:
            for file in path.glob("index.sqlite*"):
                file.unlink()
        doomed = set(journal.read_text().split()) if journal.exists() else set()
        assert_nothing_is_lost(path, folders, doomed, tmp_path)
        if not code:
            break
    assert stop_at > 60


def assert_nothing_is_lost(path: Path, folders: dict[str, Path], doomed: set[str], tmp_path: Path) -> None:
    with open_store(path) as store:
        with store.disk.writing():
            pass
        assert store.verify().problems == ()
        assert reference_problems(store.disk) == []
        for number, item in enumerate(store.trash.models()):
            store.trash.restore(item.name, f"org/back{number}")
        found = {}
        for name in store.models():
            target = tmp_path / f"out-{time.monotonic_ns()}"
            store.checkout(name, target)
            content = folder_content(target)
            found[name] = next(one for one in folders if folder_content(folders[one]) == content)
        assert set(folders) - doomed <= set(found.values())
        store.gc()
        assert store.verify().ok
        assert not [*path.rglob(".tmp-*"), *path.rglob(".new-*")]
