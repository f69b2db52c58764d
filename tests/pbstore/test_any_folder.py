"""Laws of what a folder may hold: all of it comes back, or it is refused by name before anything is read."""

import json
import os
import socket
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import DiskBlockStore, Manifest, open_store
from pbstore.errors import BadFileError, ManifestError, PBStoreError
from pbstore.folders.select import Selection
from pbstore.manifest import FileEntry
from tests.pbstore.folders import base_tensors, folder_content, safetensors_bytes, write_model
from tests.thoroughness import TIMES


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path_factory.mktemp("any") / "store", durable=False) as opened:
        yield opened


@contextmanager
def umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def picture(folder: Path) -> dict[str, object]:
    """Everything that comes back: bytes and executable bits of files, empty folders."""
    found: dict[str, object] = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        here = Path(root).relative_to(folder)
        if not folders and not files:
            found[str(here)] = None
        for name in files:
            path = Path(root, name)
            found[str(here / name)] = (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    return found


# --- any folder at all -----------------------------------------------------------------------------------

GOOD = st.text(
    st.characters(exclude_characters="/\\", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..", "STORE.json"))
BAD = st.sampled_from([b"\xff\xfe", b"new\nline", b"back\\slash", b"esc\x1b[31m", b"latin\xe9.bin", b"\x7f"])
CONTENT = st.one_of(
    st.binary(max_size=200),
    st.integers(1, 300_000).map(lambda size: ("sparse", size)),
    st.just(("tensors", 8)),
)
NODE = st.recursive(
    st.tuples(st.just("file"), CONTENT, st.sampled_from([0o644, 0o755, 0o600, 0o700, 0o444, 0o111 | 0o444])),
    lambda inner: st.one_of(
        st.dictionaries(GOOD, inner, max_size=4),
        st.tuples(st.just("link"), inner),
    ),
    max_leaves=8,
)


def build(folder: Path, tree: dict[str, object], elsewhere: Path) -> None:
    """Make a folder as a tree says; what links lead to lies elsewhere."""
    folder.mkdir()
    for name, node in tree.items():
        make(folder / name, node, elsewhere)


def make(path: Path, node: object, elsewhere: Path) -> None:
    if isinstance(node, dict):
        build(path, node, elsewhere)
    elif node[0] == "link":
        target = elsewhere / uuid.uuid4().hex
        make(target, node[1], elsewhere)
        path.symlink_to(target)
    else:
        _, content, mode = node
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content[0] == "tensors":
            path.write_bytes(safetensors_bytes(base_tensors(rows=content[1])))
        else:
            path.touch()
            os.truncate(path, content[1])
        path.chmod(mode)


trees = given(tree=st.dictionaries(GOOD, NODE, max_size=5), mask=st.sampled_from([0o022, 0o077, 0o002]))


@settings(max_examples=20, deadline=None)
@trees
def test_any_folder_comes_back(store: DiskBlockStore, tree: dict[str, object], mask: int) -> None:
    comes_back(store, tree, mask)


@pytest.mark.slow
@settings(max_examples=60 * TIMES, deadline=None)
@trees
def test_any_of_many_folders_comes_back(store: DiskBlockStore, tree: dict[str, object], mask: int) -> None:
    comes_back(store, tree, mask)


def comes_back(store: DiskBlockStore, tree: dict[str, object], mask: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "elsewhere").mkdir()
        build(root / "model", tree, root / "elsewhere")
        there = picture(root / "model")
        if not any(value is not None for value in there.values()):
            with pytest.raises(BadFileError, match="no files"):
                store.add(root / "model", "org/any")
            return
        store.add(root / "model", "org/any", keep_damaged=True)  # one may be called .safetensors
        with umask(mask):
            store.checkout("org/any", root / "out")
        text = store.manifest("org/any").to_json()
        assert Manifest.from_json(text).to_json() == text
        assert store.add(root / "out", "org/any", keep_damaged=True).already_there
        store.remove("org/any")

        assert picture(root / "out") == there
        for path in (root / "out").rglob("*"):
            mode = path.lstat().st_mode
            full = 0o777 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o666
            assert stat.S_IMODE(mode) == full & ~mask
            assert not stat.S_ISLNK(mode)


@given(name=BAD, depth=st.integers(0, 2), is_folder=st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_name_that_cannot_be_stored_is_named_before_anything_is_read(
    store: DiskBlockStore, name: bytes, depth: int, is_folder: bool
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        model = write_model(Path(temporary) / "model", base_tensors(rows=8))
        parent = model.joinpath(*["z"] * depth)
        parent.mkdir(exist_ok=True, parents=True)
        path = os.fsencode(parent) + b"/" + name
        (os.mkdir if is_folder else os.mknod)(path)
        read: list[int] = []
        before = set(store.block_ids())
        with pytest.raises(BadFileError, match="name cannot be stored") as caught:
            store.add(model, "org/any", progress=lambda _, size: read.append(size))

        assert str(caught.value).isprintable()
        assert (read, set(store.block_ids())) == ([], before)


# --- what is no file and no folder --------------------------------------------------------------------------


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def own_loop(path: Path) -> None:
    path.symlink_to(path.name)


def loop(path: Path) -> None:
    path.symlink_to("..")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, tempfile.TemporaryDirectory() as short:
        one.bind(f"{short}/s")
        Path(short, "s").rename(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def store_of_others(path: Path) -> None:
    with open_store(path, durable=False):
        pass


SPECIAL: dict[Callable[[Path], None], str] = {
    dangling: "broken link",
    own_loop: "link to itself",
    loop: "a folder that it lies in",
    os.mkfifo: "a pipe",
    bound_socket: "a socket",
    device: "a device",
    store_of_others: "a block store",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("make", SPECIAL, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["special", "adapter_config.json", "model-2.safetensors"])
def test_what_cannot_be_stored_is_refused_by_path_and_never_opened(
    store: DiskBlockStore, tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    model = write_model(tmp_path / "model", base_tensors(rows=8))
    (model / "deep").mkdir()
    make(model / ("deep" if name == "special" else "") / name)
    before = (store.models(), set(store.block_ids()))
    for verb in (lambda: store.add(model, "org/any"), lambda: store.plan.add(model)):
        with pytest.raises(BadFileError, match=f"{name}.*: .*{SPECIAL[make]}"):
            verb()
    assert (store.models(), set(store.block_ids())) == before


def test_all_that_is_wrong_is_named_at_once(store: DiskBlockStore, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", base_tensors(rows=8))
    for number in range(8):
        (model / f"link{number}").symlink_to("nowhere")
    with pytest.raises(BadFileError, match=r"link0: .*link1.*link4.* and 3 more"):
        store.add(model, "org/any")


def test_links_to_folders_are_followed_however_often(store: DiskBlockStore, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", base_tensors(rows=8))
    write_model(tmp_path / "blobs", base_tensors(seed=1, rows=8))
    for name in ("one", "two"):
        (model / name).symlink_to("../blobs")
    store.add(model, "org/links")
    store.checkout("org/links", tmp_path / "out")
    store.remove("org/links")
    assert picture(tmp_path / "out") == picture(model)
    assert len(picture(model)) == 6


def test_folders_as_deep_as_a_path_may_be_long(store: DiskBlockStore, tmp_path: Path) -> None:
    deepest = tmp_path.joinpath("model", *["d"] * 500)
    deepest.mkdir(parents=True)
    (deepest / "f").write_bytes(b"deep")
    store.add(tmp_path / "model", "org/deep")
    store.checkout("org/deep", tmp_path / "out")
    store.remove("org/deep")
    assert (tmp_path.joinpath("out", *["d"] * 500) / "f").read_bytes() == b"deep"


def test_links_that_multiply_are_bounded(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbstore.folders.source.MOST_ENTRIES", 1000)
    for level in range(20):
        folder = tmp_path / f"level{level}"
        folder.mkdir()
        for name in "ab":
            (folder / name).symlink_to(f"../level{level + 1}")
    write_model(tmp_path / "level20", base_tensors(rows=8))
    with pytest.raises(BadFileError, match="more than 1000 files"):
        store.add(tmp_path / "level0", "org/bomb")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to become")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_cannot_be_read_is_named(what: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        root.chmod(0o777)
        model = write_model(root / "model", base_tensors(rows=8))
        (model / "secret").mkdir()
        (model / "secret" / "weights.bin").write_bytes(b"1")
        (model / "secret" / ("weights.bin" if what == "file" else "")).chmod(0)
        os.seteuid(65534)
        try:
            with (
                open_store(root / "store", durable=False) as store,
                pytest.raises(BadFileError, match=r"secret.*: cannot be read: Permission denied"),
            ):
                store.add(model, "org/any")
        finally:
            os.seteuid(0)


def test_a_file_that_has_more_than_its_size_is_refused(store: DiskBlockStore, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", base_tensors(rows=8))
    (model / "cpu").symlink_to("/proc/cpuinfo")
    with pytest.raises(BadFileError, match=r"cpu: .*goes on behind byte 0"):
        store.add(model, "org/any")


# --- damaged files ----------------------------------------------------------------------------------------


@pytest.mark.sampled(4)
@pytest.mark.parametrize("form", ["hot", "cold"])
@pytest.mark.parametrize("size", [0, 5, 60, 1000, 2000])
def test_damaged_files_are_refused_by_name_or_kept(
    store: DiskBlockStore, tmp_path: Path, form: str, size: int
) -> None:
    whole = base_tensors(rows=8)
    model = write_model(tmp_path / "model", whole, adapter_config__json=b'{"lora_alpha": 1}')
    (model / "part").mkdir()
    (model / "part" / "adapter_model.safetensors").write_bytes(safetensors_bytes(whole)[:size])
    with pytest.raises(PBStoreError, match=r"part/adapter_model\.safetensors: "):
        store.add(model, "org/damaged")
    assert store.plan.add(model, keep_damaged=True).report.damaged == ("part/adapter_model.safetensors",)
    report = store.add(model, "org/damaged", form=form, keep_damaged=True)
    store.checkout("org/damaged", tmp_path / "out")
    tensors = [tensor.name for tensor in store.explain("org/damaged").tensors]
    with pytest.raises(PBStoreError, match=r"part/adapter_model\.safetensors"):
        store.add(model, "org/damaged")
    assert store.add(model, "org/damaged", keep_damaged=True).already_there
    store.remove("org/damaged")

    assert report.damaged == ("part/adapter_model.safetensors",)
    assert sorted(tensors) == sorted(whole)
    assert folder_content(tmp_path / "out") == folder_content(model)


def sharded(folder: Path, suffix: str, *there: int) -> Path:
    """A folder with an index of three shards, of which some are there."""
    folder.mkdir(parents=True)
    names = [f"model-0000{number}-of-00003.{suffix}" for number in (1, 2, 3)]
    index = {"weight_map": {f"layer.{number}.weight": name for number, name in enumerate(names)}}
    (folder / f"model.{suffix}.index.json").write_text(json.dumps(index))
    for number in there:
        data = safetensors_bytes(base_tensors(number, rows=4)) if suffix == "safetensors" else b"x" * number
        (folder / names[number - 1]).write_bytes(data)
    return folder


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("inside", ["", "unet"])
def test_a_checkpoint_that_came_in_part_is_refused_or_kept(
    store: DiskBlockStore, tmp_path: Path, suffix: str, inside: str
) -> None:
    folder = tmp_path / "model"
    model = sharded(folder / inside, suffix, 1, 3)
    path = f"{inside}/" * bool(inside) + f"model.{suffix}.index.json"
    with pytest.raises(
        PBStoreError, match=rf"index\.json names shards that .*: {inside}/?model-00002-of-00003"
    ):
        store.add(folder, "org/part")
    left_out = Selection(exclude=("model-00002*",))
    assert store.add(folder, "org/chosen", select=left_out).damaged == ()
    assert store.add(folder, "org/part", keep_damaged=True).damaged == (path,)
    store.checkout("org/part", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(folder)
    sharded(tmp_path / "whole", suffix, 1, 2, 3)
    (model / f"model-00002-of-00003.{suffix}").write_bytes(
        (tmp_path / "whole" / f"model-00002-of-00003.{suffix}").read_bytes()
    )
    assert store.add(folder, "org/part").follows
    for name in ("org/part", "org/chosen"):
        store.remove(name, trash=False)


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b'{"weight_map": [1]}', b'{"weight_map": {"a": 3}}', b"[" * 9999]
)
def test_what_is_no_index_names_no_shards(store: DiskBlockStore, tmp_path: Path, text: bytes) -> None:
    model = write_model(tmp_path / "model", base_tensors(rows=4))
    (model / "model.safetensors.index.json").write_bytes(text)
    sharded(tmp_path / "model" / "other form", "bin")  # of which nothing was fetched
    assert store.add(model, "org/any").damaged == ()


# --- what manifests of earlier versions do not tell -------------------------------------------------------


def test_a_manifest_without_modes_and_empty_folders_is_written_as_ever() -> None:
    entry = FileEntry(path="a", size_bytes=0, sha256="0" * 64, pieces=())
    text = Manifest(name="m", files=(entry,)).to_json()
    assert text == (
        '{"files":[{"blocks":[],"bytes":0,"path":"a","sha256":"' + "0" * 64 + '"}],'
        '"format":"pbstore-manifest","meta":{},"name":"m","version":1,"weights":""}'
    )


@pytest.mark.parametrize(
    ("folders", "executable"),
    [
        (["a"], True),
        (["a/b"], True),
        (["../x"], True),
        (["b", "b"], True),
        ("b", True),
        ([1], True),
        ([], "yes"),
    ],
)
def test_bad_modes_and_folders_in_a_manifest_are_refused(folders: object, executable: object) -> None:
    entry = FileEntry(path="a", size_bytes=0, sha256="0" * 64, pieces=(), executable=True)
    tree = json.loads(Manifest(name="m", files=(entry,), empty_folders=("b",)).to_json())
    tree["folders"], tree["files"][0]["executable"] = folders, executable
    with pytest.raises(ManifestError):
        Manifest.from_json(json.dumps(tree))


def test_adding_again_brings_what_an_earlier_version_left_out(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", base_tensors(rows=8))
    (model / "empty").mkdir()
    script = model / "run.sh"
    script.write_bytes(b"true")
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "old", base_tensors(rows=8), run__sh=b"true"), "org/model")
        script.chmod(0o755)
        (lost,) = (tmp_path / "store" / "manifests").glob("*.json")
        lost.unlink()  # what is mended first is the manifest as it was
        assert store.add(model, "org/model").already_there
        assert store.add(model, "org/model").already_there
        assert store.verify().ok
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "run.sh").write_bytes(b"true")  # there already, and not executable
        store.checkout("org/model", tmp_path / "out")
        script.write_bytes(b"false")
        assert not store.add(model, "org/model").already_there
        assert len(store.history.log("org/model")) == 2
    assert picture(tmp_path / "out")["run.sh"] == (b"true", True)
    assert picture(tmp_path / "out")["empty"] is None
    (tmp_path / "store" / "index.sqlite").unlink()
    with open_store(tmp_path / "store", durable=False) as store:
        assert store.manifest("org/model").empty_folders == ("empty",)
        assert store.verify().ok
