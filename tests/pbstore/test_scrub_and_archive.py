"""Damage is found model by model and block by block; a store goes into one file and comes out the same."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.cli import main
from pbstore import BadFileError, DiskBlockStore, ModelMissingError, open_store
from pbstore.bulk import export_archive, import_archive
from pbstore.disk.upkeep.scrub import ScrubReport, scrub
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    base = base_tensors(rows=60)
    with open_store(tmp_path / "store", durable=False) as opened:
        opened.add(write_model(tmp_path / "base", base), "org/base", form="hot")
        for seed in (1, 2):
            opened.add(write_model(tmp_path / f"v{seed}", tuned(base, ("layer.weight",), seed=seed)), "org/m")
        opened.history.tag("org/m@~1", "v1")
        opened.add(write_model(tmp_path / "other", base_tensors(seed=4, rows=30)), "you/other")
        yield opened


def damage(store: DiskBlockStore, name: str) -> str:
    """Change a byte of the largest block that only this model has."""
    places = (store.disk.locate(one) for one in store.manifest(name).block_ids())
    at = max((one for one in places if one.refs == 1), key=lambda one: one.record.raw_bytes)
    pack = store.path / "packs" / f"{at.pack:08}.pack"
    with pack.open("r+b") as file:
        file.seek(at.record.payload_offset + 20)
        byte = file.read(1)[0]
        file.seek(at.record.payload_offset + 20)
        file.write(bytes([byte ^ 1]))
    return at.record.block_id


def test_a_model_is_verified_by_itself(store: DiskBlockStore) -> None:
    bad = damage(store, "you/other")
    assert store.verify(names=["org/base", "org/m", "org/m@v1"]).ok
    report = store.verify(names=["you/other"])
    assert report.damaged_models == ("you/other",)
    assert bad[:12] in report.problems[0]
    assert report.blocks == len(store.manifest("you/other").block_ids())
    with pytest.raises(ModelMissingError):
        store.verify(names=["org/none"])
    store.disk.layout.manifest("org/base").write_bytes(b"")
    assert store.verify(names=["org/base"]).damaged_models == ("org/base",)


def test_scrubs_go_on_where_the_last_one_ended_and_see_every_block_once(store: DiskBlockStore) -> None:
    count, waited = len(list(store.block_ids())), []
    slow = scrub(store.disk, rate_bytes_s=1e6, sleep=waited.append)
    assert (slow.blocks, slow.is_whole, slow.ok) == (count, True, True)
    raw = sum(store.info(one).raw_bytes for one in store.block_ids())
    assert slow.raw_bytes == raw
    assert max(waited) == pytest.approx(raw / 1e6, rel=0.5)
    parts = []
    while not parts or not parts[-1].is_whole:
        parts.append(a_few(store))
    assert sum(part.blocks for part in parts) == count
    assert len(parts) > 2
    assert len({part.pass_began_at for part in parts}) == 1
    bad = damage(store, "you/other")
    found = scrub(store.disk)
    assert (found.ok, found.damaged_models) == (False, ("you/other",))
    assert bad[:12] in found.problems[0]
    for value in ({"rate_bytes_s": 0}, {"seconds": -1}):
        with pytest.raises(ValueError, match="must be > 0"):
            scrub(store.disk, **value)


def a_few(store: DiskBlockStore) -> ScrubReport:
    """A scrub that has time for three blocks at most."""
    left = [3]

    def stop(_: int) -> None:
        left[0] -= 1

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pbstore.disk.upkeep.scrub.time.monotonic", lambda: float(3 - left[0]))
        return scrub(store.disk, seconds=3, progress=stop)


def test_what_comes_out_of_an_archive_is_what_went_in(store: DiskBlockStore, tmp_path: Path) -> None:
    report = export_archive(store, tmp_path / "all.tar")
    assert (report.models, report.revisions) == (("org/base", "org/m", "you/other"), 4)
    with open_store(tmp_path / "new", durable=False) as other:
        first = import_archive(other, tmp_path / "all.tar")
        again = import_archive(other, tmp_path / "all.tar")
        assert (first.new_revisions, again.new_revisions, again.stored_bytes) == (4, 0, 0)
        for name in store.models():
            log = [(item.commit, item.tags) for item in store.history.log(name)]
            assert [(item.commit, item.tags) for item in other.history.log(name)] == log
        other.checkout("org/m@v1", tmp_path / "out")
        assert other.verify().ok
        assert reference_problems(other.disk) == []
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "v1")
    assert not list(tmp_path.glob(".tmp-*"))
    with tarfile.open(tmp_path / "all.tar") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    with open_store(tmp_path / "unpacked") as plain:
        assert plain.verify().ok
        assert plain.models() == store.models()
    with pytest.raises(FileExistsError):
        export_archive(store, tmp_path / "all.tar")


def test_some_models_go_with_what_they_need_and_join_what_is_there(
    store: DiskBlockStore, tmp_path: Path
) -> None:
    report = export_archive(store, tmp_path / "some.tar", ["org/m"])
    assert report.models == ("org/m",)
    with open_store(tmp_path / "new", durable=False) as other:
        other.add(tmp_path / "other", "org/m")
        assert import_archive(other, tmp_path / "some.tar").new_revisions == 2
        assert len(other.history.log("org/m")) == 3
        assert other.manifest("org/m") == store.manifest("org/m")
        assert other.verify().ok


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/etc/outside", tarfile.REGTYPE),
        ("packs/x", tarfile.REGTYPE),
        ("packs/00000001.pack", tarfile.SYMTYPE),
        ("index.sqlite", tarfile.REGTYPE),
        ("manifests", tarfile.DIRTYPE),
    ],
)
def test_nothing_strange_comes_out_of_an_archive(
    store: DiskBlockStore, tmp_path: Path, member: str, kind: bytes
) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        info = tarfile.TarInfo(member)
        info.type, info.linkname, info.size = kind, "/etc/passwd", 3 if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(b"bad"))
    before = store.models()
    with pytest.raises(BadFileError, match=r"bad\.tar"):
        import_archive(store, tmp_path / "bad.tar")
    assert store.models() == before
    assert not list(tmp_path.glob("outside*"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"\0" * 2000])
def test_what_is_no_archive_is_refused(store: DiskBlockStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.tar").write_bytes(content)
    with pytest.raises(BadFileError, match="expected an archive"):
        import_archive(store, tmp_path / "bad.tar")


def test_the_verbs(store: DiskBlockStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--store", str(store.path)]
    assert main(["store", "verify", "org/*", "--sample", "50%", *at]) == 0
    assert main(["store", "scrub", "--rate", "100MB", *at]) == 0
    assert "the pass is done" in capsys.readouterr().out
    assert main(["store", "export", str(tmp_path / "a.tar"), "org/m", *at]) == 0
    assert main(["store", "import", str(tmp_path / "a.tar"), "--store", str(tmp_path / "b")]) == 0
    assert "2 of 2 revisions new" in capsys.readouterr().out
    damage(store, "you/other")
    assert main(["store", "verify", "you/other", *at]) == 3
    assert main(["store", "scrub", *at]) == 3
    assert main(["store", "verify", "--sample", "2", *at]) == 1
    assert "expected a share" in capsys.readouterr().err
