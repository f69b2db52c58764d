"""Through fsspec every file of every model is as it was added, wherever it lies; nothing can be written."""

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import DiskBlockStore
from pbstore.serve.loading.filesystem import PBStoreFileSystem, register
from tests.pbstore.folders import folder_content
from tests.pbstore.serve.stores import FAMILY


@pytest.fixture(autouse=True)
def _known() -> None:
    register()


@pytest.fixture
def files(place: str) -> AbstractFileSystem:
    with_place = fsspec.filesystem("pbstore", store=place, skip_instance_cache=True)
    yield with_place
    with_place.close()


def contents(family: DiskBlockStore) -> dict[str, bytes]:
    """All files by `ORG/MODEL/FILE`."""
    folders = {name: family.path.parent / "folders" / name for name in FAMILY}
    return {
        f"{name}/{path}": data for name, at in folders.items() for path, data in folder_content(at).items()
    }


def test_every_file_is_listed_and_read(family: DiskBlockStore, files: AbstractFileSystem) -> None:
    wanted = contents(family)
    assert set(files.find("")) == set(wanted)
    assert {path: files.size(path) for path in wanted} == {path: len(data) for path, data in wanted.items()}
    assert {path: files.cat_file(path) for path in wanted} == wanted
    assert files.ls("", detail=False) == ["org"]
    assert files.ls("org", detail=False) == sorted(FAMILY)
    assert "org/base/nested" in files.ls("org/base", detail=False)
    assert files.ls("org/base/config.json", detail=False) == ["org/base/config.json"]
    assert files.isdir("org/base/nested/a b")
    assert files.exists("org/base")
    assert not files.exists("org/none")
    assert files.glob("org/*/config.json") == [f"{name}/config.json" for name in sorted(FAMILY)]


def test_parts_are_parts_of_the_file(family: DiskBlockStore, places: dict[str, str]) -> None:
    name = "org/tuned/model.safetensors"
    whole = contents(family)[name]
    files = PBStoreFileSystem(store=places["store"], skip_instance_cache=True)

    @given(st.integers(-len(whole) - 5, len(whole) + 5), st.integers(-len(whole) - 5, len(whole) + 5))
    @settings(max_examples=15)
    def check(start: int, stop: int) -> None:
        assert files.cat_file(name, start, stop) == whole[start:stop]

    check()
    with files.open(name, block_size=1000) as file:
        file.seek(len(whole) // 2)
        assert file.read(5000) == whole[len(whole) // 2 :][:5000]
        file.seek(-10, 2)
        assert file.read() == whole[-10:]
    files.close()


def test_nothing_can_be_written(files: AbstractFileSystem) -> None:
    for attempt in (
        lambda: files.open("org/base/new", "wb"),
        lambda: files.pipe_file("org/base/config.json", b"x"),
        lambda: files.rm("org/base/config.json"),
        lambda: files.mkdir("org/new/x"),
        lambda: files.makedirs("org/new/x"),
        lambda: files.rmdir("org/base"),
        lambda: files.rm("org/base", recursive=True),
        lambda: files.cp_file("org/base/config.json", "org/base/other"),
        lambda: files.put_file("/dev/null", "org/base/other"),
        lambda: files.touch("org/base/new"),
        lambda: files.mv("org/base/config.json", "org/base/other"),
    ):
        with pytest.raises((OSError, NotImplementedError)):
            attempt()
    assert files.exists("org/base/config.json")


@pytest.mark.parametrize(
    "path",
    ["org/none/x", "org/base/none", "org", "org/base", "", "../x", "org/../../etc/passwd", "org//x", "a\0b"],
)
def test_what_is_no_file_is_said_so(places: dict[str, str], path: str) -> None:
    files = PBStoreFileSystem(store=places["store"], skip_instance_cache=True)
    with pytest.raises((FileNotFoundError, IsADirectoryError)):
        files.cat_file(path)
    with pytest.raises((FileNotFoundError, IsADirectoryError)):
        files.open(path)
    files.close()


def test_a_place_must_be_named_and_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PBCAST_PLACE", raising=False)
    monkeypatch.delenv("PBCAST_STORE", raising=False)
    with pytest.raises(ValueError, match="PBCAST_PLACE"):
        PBStoreFileSystem(skip_instance_cache=True)
    with pytest.raises(FileNotFoundError, match="no block store at"):
        PBStoreFileSystem(store="/nowhere", skip_instance_cache=True)
