"""Rounds of kill -9 in the middle of any verb: nothing is lost, nothing is wrong, and nothing is left behind.

A child does verbs at random and notes in a journal what it begins and what was done; the parent kills it
and looks. A model whose add was done, and whose removal has not begun, must be there, byte for byte; what was
under way may be there or not; the next verbs of the same kind clean up what the killed ones left.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk.trial import PREFIX, trial
from pbstore.folders.restore import LEFTOVER
from pbstore.folders.source import on_step
from pbstore.hfcache import import_cache, look_into
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.thoroughness import TIMES

fork = multiprocessing.get_context("fork")
Verb = Callable[[DiskBlockStore, str], object]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some models that share, and the same ones as a cache of Hugging Face."""
    root = tmp_path_factory.mktemp("kills")
    base = base_tensors(rows=3000)
    for number, tensors in enumerate((base, tuned(base, ("layer.weight",)), base_tensors(seed=5, rows=900))):
        folder = write_model(root / "folders" / f"org{number}", tensors, note__txt=b"%d" % number)
        (folder / "empty").mkdir()
        cached = root / "hub" / f"models--cache--m{number}" / "snapshots" / "main"
        cached.parent.mkdir(parents=True)
        cached.symlink_to(folder)
    return root


def verbs(root: Path, sources: Path) -> dict[str, Verb]:
    """What a child may do to a model of a name."""
    return {
        "add": lambda store, name: store.add(sources / "folders" / name, name),
        "add hot": lambda store, name: store.add(sources / "folders" / name, name, form="hot"),
        "remove": lambda store, name: store.remove(name, trash=False),
        "checkout": lambda store, name: store.checkout(name, root / "out" / name, force=True),
        "heat": lambda store, name: store.forms.heat(name),
        "cool": lambda store, name: store.forms.cool(name),
        "gc": lambda store, _: store.gc(),
        "import": lambda store, _: import_cache(store, look_into(sources / "hub")),
        "dry run": lambda store, _: dry_run(store.path, sources),
        "changing": lambda store, name: add_changing(store, root, sources, name),
    }


def dry_run(path: Path, sources: Path) -> None:
    with trial(path) as copy:
        import_cache(copy, look_into(sources / "hub"))


def add_changing(store: DiskBlockStore, root: Path, sources: Path, name: str) -> None:
    """A folder that never rests is refused, however large a part of it was stored."""
    folder = write_model(root / f"changing-{os.getpid()}", base_tensors(seed=os.getpid(), rows=2000))
    take_away = on_step(lambda _: (folder / "config.json").write_bytes(os.urandom(9)))
    try:
        store.add(folder, f"never/{name}")
    except ValueError:
        pass
    else:
        raise AssertionError("a folder that never rests was stored")
    finally:
        take_away()


def live(root: Path, sources: Path, seed: int) -> None:
    """Do verbs until killed, each noted before and after it."""
    rng = np.random.default_rng(seed)
    names = sorted(path.name for path in (sources / "folders").iterdir())
    known = verbs(root, sources)
    with (root / "journal").open("a", buffering=1) as journal, open_store(root / "store") as store:
        while True:
            verb, name = str(rng.choice(list(known))), str(rng.choice(names))
            if not verb.startswith("add") and not store.disk.has_model(name):
                verb = "add"
            print(f"begin {verb.split()[0]} {name}", file=journal)
            known[verb](store, name)
            print(f"done {verb.split()[0]} {name}", file=journal)


def expected(journal: Path) -> Iterator[str]:
    """Models that must be there: their last add was done, and no removal has begun since."""
    there: set[str] = set()
    for line in journal.read_text().splitlines():
        moment, verb, name = line.split()
        if (moment, verb) == ("done", "add"):
            there.add(name)
        elif (moment, verb) == ("done", "import"):
            there.update(f"cache/m{number}" for number in range(3))
        elif verb == "remove":
            there.discard(name)
    return iter(sorted(there))


def assert_nothing_is_lost(root: Path, sources: Path, number: int) -> None:
    with open_store(root / "store", lock_wait_s=2) as store:
        assert store.verify().ok
        there = store.models()
        assert set(expected(root / "journal")) <= set(there)
        assert not any(name.startswith("never/") for name in there)
        for name in there:
            source = sources / "folders" / name.replace("cache/m", "org")
            target = root / "out" / name  # half written, or of a round before
            store.checkout(name, target, force=True)
            assert folder_content(target) == folder_content(source), f"round {number}: {name}"
            assert (target / "empty").is_dir()
    assert not list((root / "out").rglob(f"{LEFTOVER}*"))


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [8, pytest.param(100 * TIMES, marks=pytest.mark.slow)])
def test_whatever_is_killed_nothing_is_lost_wrong_or_left(tmp_path: Path, sources: Path, rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    (tmp_path / "out").mkdir()
    (tmp_path / "journal").touch()
    open_store(tmp_path / "store").close()
    for number in range(rounds):
        child = fork.Process(target=live, args=(tmp_path, sources, number))
        child.start()
        time.sleep(float(rng.uniform(0.02, 0.4)))
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL, "the child has died of an error"
        assert_nothing_is_lost(tmp_path, sources, number)
    dry_run(tmp_path / "store", sources)
    assert not list(tmp_path.glob(f"{PREFIX}*"))
