"""Manifests of many models in few files: whatever is done to them, or to the writer, no model is lost."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import DiskBlockStore, IntegrityError, NotAStoreError, open_store
from pbstore.bulk import export_archive, import_archive
from pbstore.disk.blocks import gather
from pbstore.disk.files import sheaf
from pbstore.disk.index import sheaves
from tests.pbstore import test_kill_rounds as kills
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.test_crashes import DIED, assert_whole, expected_models, fork, run_until
from tests.thoroughness import TIMES

COUNT = 8


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheaves of few models."""
    for name, value in (("FROM", 2), ("FULL", 3), ("MOST", 3)):
        monkeypatch.setattr(gather, name, value)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    base = base_tensors(rows=20)
    return {
        f"org/m{n}": write_model(tmp_path / f"m{n}", tuned(base, ("layer.weight",), seed=n), n__txt=b"%d" % n)
        for n in range(COUNT)
    }


@pytest.fixture
def store(tmp_path: Path, folders: dict[str, Path]) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        for name, folder in folders.items():
            opened.add(folder, name)
        yield opened


def assert_same(store: DiskBlockStore, folders: dict[str, Path], out: Path, gone: set[str]) -> None:
    report = store.verify()
    assert report.ok, report.problems
    assert set(store.models()) == set(folders) - gone
    for number, name in enumerate(store.models()):
        store.checkout(name, out / str(number), force=True)
        assert folder_content(out / str(number)) == folder_content(folders[name])


def files(store: DiskBlockStore) -> list[str]:
    return sorted(path.name for path in store.disk.layout.manifests.iterdir())


def without_index(path: Path) -> Path:
    for file in (*path.glob("index.sqlite*"), *path.glob("index.snapshot")):
        file.unlink()
    return path


def test_many_manifests_lie_in_few_files(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path
) -> None:
    found = files(store)
    assert sum(name.endswith(".json") for name in found) < gather.FROM
    assert len(found) < COUNT
    assert json.loads(store.disk.layout.settings.read_text())["version"] == 2
    assert_same(store, folders, tmp_path / "out", set())


@pytest.mark.parametrize("lose_index", [False, True])
def test_what_is_removed_leaves_its_sheaf_and_stays_away(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path, lose_index: bool
) -> None:
    gone = {"org/m0", "org/m3", "org/m4"}
    store.remove("org/m0", trash=False)
    store.trash.put(["org/m3", "org/m4"])
    store.trash.forget(["org/m4"])
    store.gc()
    store.close()
    if lose_index:
        without_index(tmp_path / "store")
    with open_store(tmp_path / "store") as again:
        assert_same(again, folders, tmp_path / "out", gone)
        assert [item.name for item in again.trash.models()] == ["org/m3"]
        again.trash.restore("org/m3")
        assert_same(again, folders, tmp_path / "out", gone - {"org/m3"})
        for name in again.models():
            again.remove(name, trash=False)
        assert files(again) == []


def test_revisions_tags_and_renames_come_back_without_an_index(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path
) -> None:
    store.history.tag("org/m1", "first")
    store.add(folders["org/m2"], "org/m1")
    store.history.rename("org/m5", "org/new")
    store.add(folders["org/m1"], "org/other")
    before = {name: [one.commit for one in store.history.log(name)] for name in store.models()}
    tags = store.disk.tags("org/m1")
    store.close()
    with open_store(without_index(tmp_path / "store")) as again:
        assert {name: [one.commit for one in again.history.log(name)] for name in again.models()} == before
        assert again.disk.tags("org/m1") == tags
        assert again.verify().ok


def test_a_lost_index_is_taken_from_its_snapshot(store: DiskBlockStore, tmp_path: Path) -> None:
    store.pin("org/m1")
    for number in range(2, 5):  # enough loose files again for the close to gather them
        store.remove(f"org/m{number}")
    store.disk.take_snapshot()
    store.close()
    (tmp_path / "store" / "index.sqlite").unlink()
    with open_store(tmp_path / "store") as again:
        assert again.disk.model_row("org/m1").pinned
        assert "index from its snapshot" in again.disk.layout.audit.read_text()


@pytest.mark.sampled(12)
@pytest.mark.parametrize("lose_index", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_damage_costs_the_model_alone_and_is_mended(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path, seed: int, lose_index: bool
) -> None:
    shutil.copytree(tmp_path / "store", tmp_path / "good")
    rng = np.random.default_rng(seed)
    path = store.disk.layout.sheaf_files()[0]
    data = bytearray(path.read_bytes())
    data[rng.integers(16, len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)
    report = store.verify()
    assert not report.ok
    lost = set(report.damaged_models)
    assert len(lost) <= 1
    for name in set(folders) - lost:
        assert store.manifest(name).name == name
    for name in lost:
        with pytest.raises(IntegrityError):
            store.manifest(name)
    if lose_index:
        store.close()
        without_index(tmp_path / "store")
    with open_store(tmp_path / "store") as again, open_store(tmp_path / "good") as good:
        assert set(folders) - lost <= set(again.models())
        if not lose_index:
            assert again.repair(good).left == ()
            assert_same(again, folders, tmp_path / "out", set())


def test_a_row_that_names_the_wrong_sheaf_costs_nothing(
    store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path
) -> None:
    with store.disk.writing() as tx:
        sheaves.put_into(tx.connection, "00000099.sheaf", ["org/m0"])
        sheaves.put_into(tx.connection, "nothing", ["org/m1"])
    assert_same(store, folders, tmp_path / "out", set())
    store.remove("org/m0", trash=False)
    store.remove("org/m1", trash=False)
    store.close()
    with open_store(without_index(tmp_path / "store")) as again:
        assert_same(again, folders, tmp_path / "out", {"org/m0", "org/m1"})


def test_an_archive_has_them(store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path) -> None:
    export_archive(store, tmp_path / "all.tar")
    with open_store(tmp_path / "other") as other:
        import_archive(other, tmp_path / "all.tar")
        assert_same(other, folders, tmp_path / "out", set())


def test_a_plan_of_forgetting_comes_true_in_bytes(store: DiskBlockStore) -> None:
    store.trash.put([f"org/m{n}" for n in range(5)])
    plan = store.plan.forget()
    assert replace(plan.apply(), dry_run=True) == plan.report


def test_code_that_knows_no_sheaf_refuses(store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from pbstore.disk.files import layout

    store.close()
    monkeypatch.setattr(layout, "SHEAF_VERSION", 1)
    with pytest.raises(NotAStoreError, match="version"):
        open_store(store.path)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("stride", [27, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("tear", "lose_index"),
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["killed", "power cut", "killed and lost index", "power cut and lost index"],
)
def test_death_at_every_durable_step(
    folders: dict[str, Path], tmp_path: Path, tear: bool, lose_index: bool, stride: int
) -> None:
    some = {name: folders[name] for name in sorted(folders)[:4]}
    for step in range(5, 2000, stride):
        path, journal = tmp_path / f"store{step}", tmp_path / f"journal{step}"
        child = fork.Process(target=run_until, args=(path, some, journal, step, tear, life))
        child.start()
        child.join(60)
        sure, unsure = expected_models(journal)
        if child.exitcode == 0:
            break
        assert child.exitcode == DIED
        if lose_index:
            without_index(path)
        assert_whole(path, some, sure - unsure, tmp_path)
        shutil.rmtree(path)
    assert step > 60


def life(store: DiskBlockStore, folders: dict[str, Path], done: object) -> None:
    """Adds that gather, and removals of what was gathered."""
    say = done if callable(done) else print
    for name, folder in folders.items():
        store.add(folder, name)
        say(f"+{name}")
    first, second, *_ = folders
    say(f"?{first}")
    store.remove(first, trash=False)
    say(f"-{first}")
    store.add(folders[first], first)
    say(f"+{first}")
    say(f"?{second}")
    store.trash.put([second])
    store.trash.forget([second])
    say(f"-{second}")
    store.gc()


sources = kills.sources


@pytest.mark.slow
def test_kills_at_any_moment_lose_no_gathered_manifest(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "FROM", 1)
    rng = np.random.default_rng(1)
    journal = tmp_path / "journal"
    (tmp_path / "out").mkdir()
    journal.touch()
    open_store(tmp_path / "store").close()
    for number in range(20 * TIMES):
        wanted = len(journal.read_text().splitlines()) + int(rng.integers(2, 12))
        child = fork.Process(target=kills.live, args=(tmp_path, sources, number))
        child.start()
        while child.is_alive() and len(journal.read_text().splitlines()) < wanted:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.1)))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "the child has died of an error"
        kills.assert_nothing_is_lost(tmp_path, sources, number)
    assert json.loads((tmp_path / "store" / "STORE.json").read_text())["version"] == 2


hashes = st.binary(min_size=20, max_size=20).map(bytes.hex)
names = st.builds("{}{}".format, hashes, st.sampled_from([".json", ".7.past", ".7.trash", ".7.8.trash"]))
texts = st.dictionaries(names, st.binary(max_size=300), max_size=6)


@settings(max_examples=100, deadline=None)
@given(members=texts, cut=st.integers(0, 5))
def test_members_come_back_and_what_is_cut_out_is_gone(members: dict[str, bytes], cut: int) -> None:
    data = sheaf.encode(7, members)
    found = sheaf.Sheaf(data)
    assert found.is_whole
    assert {name: found.text(name) for name in found} == members
    going = set(list(members)[:cut])
    left = found.without(going)
    assert (left is None) == (going == set(members))
    if left is not None:
        rest = sheaf.Sheaf(left)
        assert rest.is_whole
        assert {name: rest.text(name) for name in rest} == {
            n: t for n, t in members.items() if n not in going
        }


@settings(max_examples=200, deadline=None)
@given(members=texts, data=st.data())
def test_damaged_bytes_give_a_right_text_or_none(members: dict[str, bytes], data: st.DataObject) -> None:
    whole = bytearray(sheaf.encode(1, members))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.integers(0, len(whole)))
    found = sheaf.Sheaf(bytes(whole[:end]))
    for name in found:
        text = found.text(name)
        assert text is None or text == members[name]
    assert found.without(set(found)) is None or not list(sheaf.Sheaf(found.without(set(found)) or b""))
