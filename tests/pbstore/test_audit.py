"""Every change of a model leaves a line, in the order of the commits; what is rolled back leaves none."""

import json
import re
from pathlib import Path

import pytest

from demo.cli import main
from pbstore import DiskBlockStore, open_store
from pbstore.disk.index import audit
from tests.pbstore.folders import base_tensors, tuned, write_model


def told(store: DiskBlockStore) -> list[tuple[str, str]]:
    return [(change.what, change.model) for change in audit.read(store.disk.layout.audit)]


def add_and_fail(store: DiskBlockStore, folder: Path) -> None:
    with store.disk.writing():
        store.add(folder, "org/gone")
        raise RuntimeError


def test_each_verb_leaves_its_lines(tmp_path: Path) -> None:
    base = base_tensors(rows=20)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "v0", base), "org/m")
        store.add(write_model(tmp_path / "v0", base), "org/m")  # already there
        store.add(write_model(tmp_path / "v1", tuned(base, ("layer.weight",))), "org/m")
        store.pin("org/m")
        store.forms.heat("org/m")
        store.checkout("org/m", tmp_path / "out")  # a use is no change
        store.history.rename("org/m", "org/n")
        store.remove("org/n@~1")
        store.pin("org/n", False)
        store.remove("org/n")
        store.trash.restore("org/n")
        store.remove("org/n", trash=False)
        store.gc()
        with pytest.raises(RuntimeError):
            add_and_fail(store, tmp_path / "v0")
        lines = told(store)
        changes = list(audit.read(store.disk.layout.audit))
        with store.disk.layout.audit.open("ab") as file:
            file.write(b"no line\n{}\n")
        assert list(audit.read(store.disk.layout.audit)) == changes
    assert lines == [
        ("filed", "org/m"),
        ("set aside", "org/m"),
        ("filed", "org/m"),
        ("pinned", "org/m"),
        ("hot", "org/m"),
        ("renamed", "org/m"),
        ("renamed", "org/m"),
        ("removed", "org/n"),
        ("unpinned", "org/n"),
        ("removed", "org/n"),
        ("restored", "org/n"),
        ("deleted", "org/n"),
        ("collected", ""),
    ]
    assert [change.at for change in changes] == sorted(change.at for change in changes)
    assert all(len(change.commit) == 40 for change in changes if change.model)
    assert re.fullmatch(r"2 blocks, [0-9]+ bytes, 1 packs", changes[-1].detail)


def test_tags_copies_priorities_and_what_is_done_to_the_store_are_told(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", durable=False) as store:
        first = store.add(write_model(tmp_path / "v0", base_tensors(rows=4)), "org/m").commit
        store.history.tag("org/m", "v1")
        store.history.tag("org/m", "v1")  # it has it already
        second = store.add(write_model(tmp_path / "v1", base_tensors(1, rows=4)), "org/m").commit
        store.history.tag("org/m", "v1", move=True)
        store.history.tag("org/m@~1", "a")
        store.history.untag("org/m", "v1")
        store.history.copy("org/m@~1", "org/n")
        store.pin("org/m", priority=2.5)
        store.history.untag("org/m", "a")
        store.history.forget(["org/m"], keep_last=1)
        store.trash.forget()
        store.remove("org/m")
        store.trash.restore("org/m", "org/back")
        store.trash.keep(3)
        store.evict(1)
        store.gc()  # nothing is left to be collected
        store.disk.rebuild_index()
        lines = [(one.what, one.model, one.detail) for one in audit.read(store.disk.layout.audit)]
        tagged = [one.commit for one in audit.read(store.disk.layout.audit) if one.what == "tagged"]
    assert [line for line in lines if line[0] not in ("filed", "set aside")] == [
        ("tagged", "org/m", "v1"),
        ("tagged", "org/m", "v1"),
        ("tagged", "org/m", "a"),
        ("untagged", "org/m", "v1"),
        ("copied", "org/m", ""),
        ("pinned", "org/m", ""),
        ("priority", "org/m", "2.5"),
        ("untagged", "org/m", "a"),
        ("removed", "org/m", ""),
        ("deleted", "org/m", ""),
        ("removed", "org/m", ""),
        ("restored", "org/m", ""),
        ("trash days", "", "3"),
        ("deleted", "org/n", ""),
        ("index built anew", "", ""),
    ]
    assert tagged == [first, second, first]


def test_the_log_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBCAST_STORE", str(tmp_path / "store"))
    with open_store(tmp_path / "store", durable=False) as store:
        for name in ("org/a", "org/b"):
            store.add(write_model(tmp_path / "m", base_tensors(rows=4)), name)
        store.history.rename("org/b", "org/c")
    assert main(["store", "audit", "org/b", "--since", "1h", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert [(one["what"], one["new_name"]) for one in lines] == [("filed", ""), ("renamed", "org/c")]
    assert main(["store", "audit"]) == 0
    assert "org/b -> org/c" in capsys.readouterr().out
    assert main(["store", "audit", "--since", "0s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
