"""A plan is of one state of the store, whatever others write while it is made: no error, no mixture."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk import rehearse
from pbstore.disk.blocks import recount, space
from pbstore.disk.files.layout import Layout
from pbstore.disk.index import database, locations, model_rows
from pbstore.disk.models import Models
from pbstore.errors import PlanOutdatedError, StoreLockedError
from tests.pbstore.folders import base_tensors, tuned, write_model

PLANS: dict[str, Callable[[DiskBlockStore], object]] = {
    "gc": lambda store: store.plan.gc().report,
    "forget": lambda store: store.plan.forget().report,
    "heat": lambda store: store.plan.heat("org/tuned").report,
    "evict": lambda store: store.plan.evict(1, "largest").report,
    "add": lambda store: store.plan.add(store.path.parent / "folders" / "new").report,
}


def remove_for_good(store: DiskBlockStore, _: Path) -> None:
    store.remove("org/gone", trash=False)
    store.gc()


WRITERS: dict[str, Callable[[DiskBlockStore, Path], object]] = {
    "add": lambda store, root: store.add(root / "folders" / "other", "org/other"),
    "revise": lambda store, root: store.add(root / "folders" / "other", "org/base"),
    "remove": lambda store, _: store.remove("org/gone"),
    "remove and collect": remove_for_good,
    "restore": lambda store, _: store.trash.restore("org/away"),
    "rename": lambda store, _: store.history.rename("org/base", "org/renamed"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with models, one in the trash, and dead bytes."""
    root = tmp_path_factory.mktemp("plans")
    base = base_tensors(1, rows=60)
    write_model(root / "folders" / "other", base_tensors(5, rows=50))
    write_model(root / "folders" / "new", tuned(base, ("layer.weight",), seed=9))
    with open_store(root / "store", durable=False, pack_bytes=30_000) as store:
        for name, tensors in (
            ("base", base),
            ("tuned", tuned(base, ("layer.weight",))),
            ("gone", base_tensors(2, rows=70)),
            ("away", base_tensors(3, rows=30)),
            ("dead", base_tensors(4, rows=20)),
        ):
            store.add(write_model(root / "folders" / name, tensors), f"org/{name}")
        store.remove("org/away")
        store.remove("org/dead", trash=False)
    return root


PLACES = [
    (rehearse, "_state"),
    (rehearse, "store_files"),
    (rehearse, "_is_there"),
    (rehearse, "_copy_index"),
    (rehearse, "_copy_files"),
    (rehearse, "_make_hole"),
    (rehearse, "_copied"),
    (space, "file_bytes"),
    (recount, "same_header"),
    (recount, "readable_count"),
    (model_rows, "read_text"),
    (locations, "find_many"),
    (database, "state"),
]
"""Functions that a plan calls, on its way through the store and the copy."""


@contextmanager
def at_step(number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Act before the n-th call of the functions that a plan calls; gives a count of the calls."""
    calls, planner = [0], threading.current_thread()
    with pytest.MonkeyPatch.context() as patched:
        for module, name in PLACES:
            real = getattr(module, name)

            def watched(*words: object, _real: Callable[..., object] = real, **more: object) -> object:
                if threading.current_thread() is planner:
                    calls[0] += 1
                    if calls[0] == number:
                        with ThreadPoolExecutor(1) as thread:
                            thread.submit(act).result()
                return _real(*words, **more)

            patched.setattr(module, name, watched)
        yield calls


def copied(made: Path, target: Path) -> Path:
    shutil.copytree(made / "store", target / "store")
    (target / "folders").symlink_to(made / "folders")
    return target


def check(made: Path, folder: Path, plan: str, writer: str, number: int) -> int:
    """A plan in whose midst somebody else writes says what one before or after would; how many steps."""
    root = copied(made, folder)
    with (
        open_store(root / "store", durable=False) as store,
        open_store(root / "store", durable=False) as other,
    ):
        before = PLANS[plan](store)
        with at_step(number, lambda: WRITERS[writer](other, root)) as calls:
            found = PLANS[plan](store)
        if calls[0] >= number:
            assert found in (before, PLANS[plan](store)), (plan, writer, number)
            assert store.verify().ok
    return calls[0]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.sampled(30)
def test_a_plan_is_of_the_state_before_or_after(made: Path, tmp_path: Path, plan: str, writer: str) -> None:
    number, steps = 1, 2
    while number <= steps:
        steps = check(made, tmp_path / str(number), plan, writer, number)
        shutil.rmtree(tmp_path / str(number))
        number += max(1, steps // 6)
    assert steps > 5


def test_a_store_that_changes_all_the_time_is_held_still_in_the_end(made: Path, tmp_path: Path) -> None:
    """A commit in each copy but the last one, which nobody can write beside."""
    root, copies = copied(made, tmp_path / "kept"), 0
    with (
        open_store(root / "store", durable=False) as store,
        open_store(root / "store", lock_wait_s=0) as other,
    ):

        def disturbed(real: Models, layout: Layout) -> str:
            nonlocal copies
            copies += 1
            if copies < rehearse.TRIES:
                other.put(b"%d" % copies)
            else:
                with pytest.raises(StoreLockedError):
                    other.put(b"last")
            return copy_index(real, layout)

        copy_index = rehearse._copy_index
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(rehearse, "_copy_index", disturbed)
            plan = store.plan.gc()
        assert copies == rehearse.TRIES
        assert plan.report == replace(plan.apply(), dry_run=True)


def test_who_may_only_read_is_told_that_the_store_changes(made: Path, tmp_path: Path) -> None:
    root = copied(made, tmp_path / "kept")
    numbers, copy_index = count(), rehearse._copy_index
    with (
        open_store(root / "store", durable=False) as other,
        open_store(root / "store", read_only=True) as store,
        pytest.MonkeyPatch.context() as patched,
    ):

        def disturbed(real: Models, layout: Layout) -> str:
            other.put(b"%d" % next(numbers))
            return copy_index(real, layout)

        patched.setattr(rehearse, "_copy_index", disturbed)
        with pytest.raises(PlanOutdatedError, match="plan again"):
            store.plan.gc()
