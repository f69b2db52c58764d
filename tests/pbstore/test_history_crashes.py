"""A writer may die while revisions come, go and get other names: what was acknowledged is there, whole."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.test_crashes import DIED, fork, run_until


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    base = base_tensors(rows=20)
    kinds = {"0": base, **{str(seed): tuned(base, ("layer.weight",), seed=seed) for seed in (1, 2)}}
    return {name: write_model(tmp_path / f"v{name}", tensors) for name, tensors in kinds.items()}


def life(store: DiskBlockStore, folders: dict[str, Path], done: Callable[[str], None]) -> None:
    """A bit of everything that changes revisions; `done` is told what is there from now on."""
    for version in "012":
        store.add(folders[version], "org/m")
        done(f"+{version}")
    store.history.tag("org/m@~2", "v0")
    done("+tag")
    store.add(folders["1"], "org/m")
    done("+now1")
    done("?tag")
    store.history.rename("org/m", "org/n")
    done("+tag")
    done("?2")
    store.history.forget(["org/n"], keep_last=1)
    done("+2")
    store.remove("org/n")
    store.trash.restore("org/n")
    store.add(folders["0"], "org/n")
    done("?2")
    store.trash.forget()
    store.gc()


def there(store: DiskBlockStore, tmp_path: Path, folders: dict[str, Path]) -> dict[str, str]:
    """Version -> where it is, of everything in the store; each is checked, byte for byte."""
    found, known = {}, {name: folder_content(folder) for name, folder in folders.items()}
    for item in store.trash.models():
        if not {"org/m", "org/n"} & set(store.models()) or "@" in item.name:
            store.trash.restore(item.name, f"org/back{len(store.models())}")
    for name in store.models():
        for revision in store.history.log(name):
            out = tmp_path / "checked" / str(len(list(tmp_path.rglob("*"))))
            store.checkout(f"{name}@{revision.commit}", out)
            (version,) = (one for one, content in known.items() if content == folder_content(out))
            found[version] = f"{name}@{revision.commit}"
            if "v0" in revision.tags:
                found["tag"] = name
    return found


def expected(journal: Path) -> set[str]:
    sure: set[str] = set()
    for line in journal.read_text().split() if journal.exists() else []:
        (sure.add if line[0] == "+" else sure.discard)(line[1:])
    return sure - {"now1"}


@pytest.mark.parametrize("stride", [83, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("tear", "lose_index"),
    [(False, False), (True, False), (True, True)],
    ids=["killed", "power cut", "power cut and lost index"],
)
def test_death_at_every_durable_step(
    folders: dict[str, Path], tmp_path: Path, tear: bool, lose_index: bool, stride: int
) -> None:
    for step in range(1 + 3 * tear + lose_index, 1000, stride):
        path, journal = tmp_path / f"store{step}", tmp_path / f"journal{step}"
        child = fork.Process(target=run_until, args=(path, folders, journal, step, tear, life))
        child.start()
        child.join(60)
        if child.exitcode == 0:
            break
        assert child.exitcode == DIED
        if lose_index:
            for file in path.glob("index.sqlite*"):
                file.unlink()
        if not path.exists():
            continue
        with open_store(path) as store:
            with store.disk.writing():
                pass
            report = store.verify()
            assert report.ok, (step, report.problems)
            assert reference_problems(store.disk) == []
            store.gc()
            assert expected(journal) <= set(there(store, tmp_path, folders)), step
            assert not [*path.rglob(".tmp-*"), *path.rglob(".new-*")], step
            (path / "index.sqlite").unlink()
        with open_store(path) as store:
            assert store.verify().ok
            assert expected(journal) <= set(there(store, tmp_path, folders)), step
    assert step > 60
