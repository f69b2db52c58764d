"""A name points to revisions: each comes back byte for byte, until somebody forgets it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pbstore import (
    DiskBlockStore,
    ModelExistsError,
    ModelMissingError,
    RevisionMissingError,
    open_store,
)
from pbstore.disk.upkeep.verify import reference_problems
from pbstore.errors import RevisionInTrashError, RevisionInUseError
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

ROWS = 60


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    base = base_tensors(rows=ROWS)
    changes = [base, *(tuned(base, ("layer.weight",), seed=seed) for seed in (1, 2, 3))]
    return [write_model(tmp_path / f"v{number}", one) for number, one in enumerate(changes)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        yield opened
        assert opened.verify().ok
        assert reference_problems(opened.disk) == []


def content(store: DiskBlockStore, name: str, tmp_path: Path) -> dict[str, bytes]:
    target = tmp_path / "out" / name.replace("/", "-")
    if target.exists():
        target = target.with_name(f"{target.name}-{len(list(target.parent.iterdir()))}")
    store.checkout(name, target)
    return folder_content(target)


def add_all(store: DiskBlockStore, folders: list[Path], name: str = "org/m") -> list[str]:
    return [store.add(folder, name).commit for folder in folders]


def test_adding_other_content_makes_a_revision_and_the_same_does_not(
    store: DiskBlockStore, folders: list[Path], tmp_path: Path
) -> None:
    first = store.add(folders[0], "org/m")
    second = store.add(folders[1], "org/m")
    again = store.add(folders[1], "org/m")

    assert (first.follows, second.follows) == ("", first.commit)
    assert (again.already_there, again.commit, again.follows) == (True, second.commit, "")
    assert store.models() == ("org/m",)
    assert [item.commit for item in store.history.log("org/m")] == [second.commit, first.commit]
    for address, folder in (
        ("org/m", 1),
        ("org/m@main", 1),
        (f"org/m@{first.commit}", 0),
        (f"org/m@{first.commit[:6]}", 0),
        ("org/m@~1", 0),
    ):
        assert content(store, address, tmp_path) == folder_content(folders[folder]), address


@pytest.mark.parametrize("revision", ["nothing", "~2", "abc", "0123456789", "", "main@main"])
def test_a_revision_that_is_not_there_is_named(
    store: DiskBlockStore, folders: list[Path], revision: str
) -> None:
    add_all(store, folders[:2])
    with pytest.raises(RevisionMissingError, match=r"org/m"):
        store.manifest(f"org/m@{revision}")
    with pytest.raises(ModelMissingError):
        store.manifest(f"org/none@{revision}")


@pytest.mark.parametrize("lose_index", [False, True])
def test_revisions_and_tags_outlive_the_index(folders: list[Path], tmp_path: Path, lose_index: bool) -> None:
    with open_store(tmp_path / "store") as store:
        commits = add_all(store, folders)
        store.history.tag("org/m@~2", "v1/rc")
        before = [(item.commit, item.tags, item.added_at) for item in store.history.log("org/m")[1:]]
    if lose_index:
        for path in (tmp_path / "store").glob("index.sqlite*"):
            path.unlink()
    with open_store(tmp_path / "store") as store:
        after = [(item.commit, item.tags) for item in store.history.log("org/m")]
        assert [commit for commit, _ in after] == commits[::-1]
        assert after[1:] == [item[:2] for item in before]
        for commit, folder in zip(commits, folders, strict=True):
            assert content(store, f"org/m@{commit}", tmp_path) == folder_content(folder)
        assert content(store, "org/m@v1/rc", tmp_path) == folder_content(folders[1])
        assert store.verify().ok
        assert reference_problems(store.disk) == []


def test_content_that_was_there_before_becomes_the_newest_again(
    store: DiskBlockStore, folders: list[Path], tmp_path: Path
) -> None:
    commits = add_all(store, folders[:3])
    report = store.add(folders[0], "org/m")

    assert (report.commit, report.new_blocks, report.follows) == (commits[0], 0, commits[2])
    assert [item.commit for item in store.history.log("org/m")] == [commits[0], commits[2], commits[1]]
    assert store.history.copy("org/m@~2", "org/m").commit == commits[1]
    assert [item.commit for item in store.history.log("org/m")] == [commits[1], commits[0], commits[2]]
    assert content(store, "org/m", tmp_path) == folder_content(folders[1])


def test_a_gc_keeps_earlier_revisions_and_frees_forgotten_ones(
    store: DiskBlockStore, folders: list[Path], tmp_path: Path
) -> None:
    commits = add_all(store, folders)
    store.history.tag("org/m@~3", "keep")
    store.gc()
    plan = store.plan.forget_revisions(["org/m"], keep_last=2)

    assert [item.commit for item in store.history.log("org/m")] == commits[::-1]
    assert plan.report.kept_by_tag == (f"org/m@{commits[0][:12]}",)
    assert plan.report.revisions == (f"org/m@{commits[1][:12]}",)
    report = plan.apply()
    assert (report.revisions, report.stored_bytes, report.dry_run) == (
        plan.report.revisions,
        plan.report.stored_bytes,
        False,
    )
    assert [item.commit for item in store.history.log("org/m")] == [commits[3], commits[2], commits[0]]
    used = store.used_bytes
    assert store.trash.forget().trashed_models == report.revisions
    assert used - store.used_bytes >= report.stored_bytes > 0
    assert content(store, "org/m@~1", tmp_path) == folder_content(folders[2])


def test_what_came_lately_is_kept(store: DiskBlockStore, folders: list[Path]) -> None:
    add_all(store, folders)
    assert store.history.forget(["org/m"], keep_within_s=3600).revisions == ()
    assert len(store.history.forget(["org/m"], keep_last=3, keep_within_s=0).revisions) == 1
    assert len(store.history.forget(["org/m"], keep_within_s=0).revisions) == 2
    for bad in ({}, {"keep_last": 0}, {"keep_within_s": -1.0}):
        with pytest.raises(ValueError, match=r"expected|kept|must"):
            store.history.forget(["org/m"], **bad)


def test_a_model_goes_to_the_trash_and_comes_back_with_all_that_it_was(
    store: DiskBlockStore, folders: list[Path], tmp_path: Path
) -> None:
    commits = add_all(store, folders[:3])
    store.history.tag("org/m@~2", "first")
    store.remove("org/m")
    assert store.models() == ()
    store.add(folders[3], "org/m")
    assert [item.tags for item in store.history.log("org/m")] == [()]
    with pytest.raises(ModelExistsError):
        store.trash.restore("org/m")

    assert store.trash.restore("org/m", "org/old").name == "org/old"
    assert len(store.history.log("org/old")) == 3
    assert content(store, "org/old@first", tmp_path) == folder_content(folders[0])
    store.remove("org/m", trash=False)
    store.history.rename("org/old", "org/m")
    assert [item.commit for item in store.history.log("org/m")] == commits[::-1]
    assert content(store, "org/m@first", tmp_path) == folder_content(folders[0])


def test_one_revision_goes_to_the_trash_and_comes_back(
    store: DiskBlockStore, folders: list[Path], tmp_path: Path
) -> None:
    commits = add_all(store, folders[:3])
    with pytest.raises(RevisionInUseError, match="org/m@~1"):
        store.remove(f"org/m@{commits[2]}")
    store.remove("org/m@~1")
    assert [item.commit for item in store.history.log("org/m")] == [commits[2], commits[0]]
    with pytest.raises(RevisionInTrashError, match=commits[1][:12]):
        store.trash.restore("org/m")
    address = f"org/m@{commits[1][:12]}"
    store.trash.restore(address)
    assert [item.commit for item in store.history.log("org/m")] == commits[::-1]
    store.remove(address)
    store.trash.restore(address, "org/alone")
    assert content(store, "org/alone", tmp_path) == folder_content(folders[1])


def test_tags_stay_where_they_are_until_they_are_moved(store: DiskBlockStore, folders: list[Path]) -> None:
    commits = add_all(store, folders[:2])
    store.history.tag("org/m", "best")
    store.history.tag("org/m", "best")
    with pytest.raises(ModelExistsError):
        store.history.tag("org/m@~1", "best")
    store.history.tag("org/m@~1", "best", move=True)
    assert store.disk.model_row("org/m@best").commit == commits[0]
    store.history.untag("org/m", "best")
    with pytest.raises(RevisionMissingError):
        store.history.untag("org/m", "best")
    for bad in ("main", "", "a b", "../x", "x@y"):
        with pytest.raises(ValueError, match="tag"):
            store.history.tag("org/m", bad)


def test_a_difference_names_files_and_tensors(store: DiskBlockStore, tmp_path: Path) -> None:
    tensors = base_tensors(rows=ROWS)
    store.add(write_model(tmp_path / "a", tensors, notes__txt=b"one"), "org/m")
    changed = {**tensors, "layer.bias": tensors["layer.bias"] + 1, "head.weight": 2 * tensors["layer.weight"]}
    del changed["layer.weight"]
    store.add(write_model(tmp_path / "b", changed, more__txt=b"two"), "org/m")

    found = store.history.diff("org/m@~1", "org/m")
    assert {item.path: item.state for item in found.files} == {
        "model.safetensors": "changed",
        "more.txt": "added",
        "notes.txt": "removed",
    }
    assert {item.name: item.state for item in found.tensors} == {
        "layer.bias": "changed",
        "layer.weight": "removed",
        "head.weight": "added",
    }
    assert (found.same_files, found.same_tensors) == (1, 1)
    assert store.history.diff("org/m", "org/m").is_empty


@pytest.mark.parametrize("seed", range(6))
def test_renamed_tensors_are_told_from_changed_ones(store: DiskBlockStore, tmp_path: Path, seed: int) -> None:
    """Names with another beginning, some tensors changed, some equal ones, some gone, some new."""
    rng = np.random.default_rng(seed)
    own = {f"layer.{n}.weight": rng.normal(size=(8, 4)).astype(np.float32) for n in range(6)}
    own |= {f"layer.{n}.norm": np.ones(4, np.float32) for n in range(6)}
    changed = set(rng.permutation(sorted(own))[:4].tolist())
    gone, new = {"pooler.weight": own["layer.0.weight"] * 3}, {"head.weight": own["layer.0.weight"] + 2}
    other = {f"model.{name}": value + (name in changed) for name, value in own.items()}
    store.add(write_model(tmp_path / "a", own | gone), "org/a")
    store.add(write_model(tmp_path / "b", other | new), "org/b")

    found = {item.name: item for item in store.history.diff("org/a", "org/b").tensors}

    assert set(found) == {"pooler.weight", "head.weight", *other}
    assert (found["pooler.weight"].state, found["head.weight"].state) == ("removed", "added")
    for name in own:
        item = found[f"model.{name}"]
        assert (item.state, item.old_name, item.is_same) == ("renamed", name, name not in changed)
    back = store.history.diff("org/b", "org/a")
    assert back.same_tensors == store.history.diff("org/a", "org/b").same_tensors == len(own) - len(changed)


def test_a_base_is_found_among_earlier_revisions(store: DiskBlockStore, folders: list[Path]) -> None:
    store.add(folders[0], "org/m")
    store.add(folders[2], "org/child", base="org/m")
    assert store.trash.dependents_of("org/m").bound == ("org/child",)
    store.add(folders[1], "org/m")
    assert store.explain("org/child").base_present


def test_a_full_store_lets_go_of_earlier_revisions_before_models(folders: list[Path], tmp_path: Path) -> None:
    with open_store(tmp_path / "store", durable=False) as store:
        add_all(store, folders)
        store.add(write_model(tmp_path / "x", base_tensors(seed=9, rows=ROWS)), "org/x")
        report = store.evict(1)
        assert [name.partition("@")[0] for name in report.models] == ["org/m"]
        assert set(store.models()) == {"org/m", "org/x"}
        everything = store.evict(store.used_bytes)
        assert {"org/m", "org/x"} <= set(everything.models)
        assert store.models() == ()
        with pytest.raises(ModelMissingError):
            store.history.log("org/m")
        assert reference_problems(store.disk) == []


def test_savings_count_each_revision_as_a_copy(store: DiskBlockStore, folders: list[Path]) -> None:
    add_all(store, folders)
    report = store.savings()
    assert (report.models, report.raw_bytes) == (
        1,
        sum(len(data) for folder in folders for data in folder_content(folder).values()),
    )
