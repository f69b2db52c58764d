"""Many models by one call: each is found once, none is read twice, and no interrupt or failure loses one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.bulk import add_all, find_models
from pbstore.disk.upkeep.verify import reference_problems
from pbstore.folders import source
from pbstore.folders.select import LEFT_OUT, Selection
from tests.pbstore.folders import base_tensors, folder_content, safetensors_bytes, tuned, write_model

ROWS = 20
SELECT = Selection(exclude=LEFT_OUT)


def adapter(folder: Path, seed: int) -> Path:
    tensors = base_tensors(seed, rows=4, width=8)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "me/base"}))
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A bit of everything that people have lying about."""
    root, base = tmp_path / "all models", base_tensors(rows=ROWS)
    write_model(root / "base", base)
    (root / "base" / ".git").mkdir()
    (root / "base" / ".git" / "HEAD").write_bytes(b"ref")
    run = write_model(root / "runs" / "my run!", tuned(base, ("layer.weight",)))
    for step in (100, 200):
        write_model(run / "steps" / f"checkpoint-{step}", tuned(base, ("layer.weight",), seed=step))
    (run / "1_Pooling").mkdir()
    (run / "1_Pooling" / "config.json").write_bytes(b"{}")
    adapter(root / "a-first" / "adapter", 1)
    loose = root / "loras"
    loose.mkdir()
    for number, name in enumerate(("cat", "cat.v2", "dog")):
        (loose / f"{name}.safetensors").write_bytes(safetensors_bytes(base_tensors(20 + number, rows=3)))
        (loose / f"{name}.preview.png").write_bytes(name.encode())
    (loose / "README.md").write_bytes(b"of none")
    tokenizer = root / "a tokenizer"
    tokenizer.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tokenizer / name).write_bytes(b"{}")
    pipe = write_model(root / "pipe" / "unet", base_tensors(5, rows=ROWS)).parent
    (pipe / "model_index.json").write_bytes(b"{}")
    shards = root / "shards"
    shards.mkdir()
    for part in (1, 2):
        data = safetensors_bytes({f"part{part}": base_tensors(part, rows=ROWS)["embed.weight"]})
        (shards / f"model-0000{part}-of-00002.safetensors").write_bytes(data)
    (root / "hub" / "models--org--m" / "snapshots").mkdir(parents=True)
    return root


NAMES = {
    "me/a-tokenizer",
    "me/a-first-adapter",
    "me/base",
    "me/loras-cat",
    "me/loras-cat.v2",
    "me/loras-dog",
    "me/pipe",
    "me/runs-my-run",
    "me/runs-my-run-steps-checkpoint-100",
    "me/runs-my-run-steps-checkpoint-200",
    "me/shards",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        yield opened
        assert opened.verify().ok


def test_every_file_is_of_one_model_or_named_as_of_none(tree: Path, store: DiskBlockStore) -> None:
    found = find_models(tree, "me", SELECT)
    assert {item.name for item in found.models} == NAMES
    assert [item.name for item in found.models[:2]] == ["me/base", "me/a-first-adapter"]  # behind its base
    assert (found.of_none, found.hub_caches) == (("loras/README.md",), ("hub/models--org--m",))
    report = add_all(store, [item.to_add(SELECT) for item in found.models])
    assert (report.added, report.failed) == (len(NAMES), ())
    stored = [
        os.path.relpath(item.folder / entry.path, tree)
        for item in found.models
        for entry in store.manifest(item.name).files
    ]
    left = [os.path.relpath(tree / "base" / path, tree) for path in (".git/HEAD",)]
    everything = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert sorted(stored) == sorted(everything - {*left, *found.of_none})
    assert [item.left_out for item in report.models if item.left_out] == [(".git/",)]
    assert store.manifest("me/a-first-adapter").base is not None


@pytest.mark.parametrize("org", [None, "me"])
def test_names_are_those_of_the_paths_and_all_different(tmp_path: Path, org: str | None) -> None:
    for name in ("x y", "x-y", "x  y", "..x", "-", "X"):
        write_model(tmp_path / "org" / name, base_tensors(rows=1))
    names = [item.name for item in find_models(tmp_path, org).models]
    assert len(set(names)) == len(names) == 6
    assert ("org/x-y" if org is None else "me/org-x-y") in names
    assert names == [item.name for item in find_models(tmp_path, org).models]


def test_names_are_what_clients_of_the_hub_can_ask_for(tmp_path: Path) -> None:
    for path in ("a", "b/c", "d/e/f", "g/h/i/j"):
        write_model(tmp_path / path, base_tensors(rows=1))
    names = {item.name for item in find_models(tmp_path).models}
    assert names == {"a", "b/c", "d/e-f", "g/h-i-j"}


def named_model(folder: Path, base: str | None = None) -> None:
    """A model whose configuration says where its base lay."""
    write_model(folder, base_tensors(rows=1))
    (folder / "config.json").write_text(json.dumps({} if base is None else {"_name_or_path": base}))


def test_what_others_were_made_from_is_added_before_them(tmp_path: Path) -> None:
    named_model(tmp_path / "z" / "Base-7B")
    named_model(tmp_path / "b" / "chat", "some/where/base-7b/")
    named_model(tmp_path / "a" / "merged", "chat")
    named_model(tmp_path / "c" / "itself", "c/itself")
    named_model(tmp_path / "d" / "circle", "elcric")
    named_model(tmp_path / "d" / "elcric", "circle")
    adapter(tmp_path / "a" / "lora", 1)
    (tmp_path / "a" / "lora" / "adapter_config.json").write_text('{"base_model_name_or_path": "Org/Base-7B"}')
    adapter(tmp_path / "a" / "stray", 2)
    names = [item.name for item in find_models(tmp_path).models]
    assert names[:2] == ["z/Base-7B", "b/chat"]
    assert names[4:] == ["a/lora", "a/merged", "c/itself", "a/stray"]
    assert set(names[2:4]) == {"d/circle", "d/elcric"}


def reads(call: object) -> int:
    """How many files are opened to be read while something is called."""
    steps: list[str] = []
    take_away = source.on_step(steps.append)
    try:
        call()  # type: ignore[operator]
    finally:
        take_away()
    return steps.count("open")


def test_what_is_there_is_not_read_again_and_what_has_changed_is(tree: Path, store: DiskBlockStore) -> None:
    wanted = [item.to_add(SELECT) for item in find_models(tree, "me", SELECT).models]
    assert reads(lambda: add_all(store, wanted)) > 0
    assert reads(lambda: add_all(store, wanted)) == 0
    changed = tree / "base" / "config.json"
    times = changed.stat()
    changed.write_bytes(changed.read_bytes().replace(b"tiny", b"TINY"))
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))  # only the time of change tells
    report = add_all(store, wanted)
    assert (report.changed, report.already_there) == (1, len(NAMES) - 1)
    assert store.models() == tuple(sorted(NAMES))
    assert len(store.history.log("me/base")) == 2


@pytest.mark.parametrize("small_bytes", [0, 8 << 20])
def test_what_was_interrupted_three_times_ends_whole(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bytes: int
) -> None:
    monkeypatch.setattr("pbstore.bulk.add.SMALL_BYTES", small_bytes)
    wanted = [item.to_add(SELECT) for item in find_models(tree, "me", SELECT).models]

    def interrupt_after(count: int) -> None:
        left = [count]

        def look(step: str) -> None:
            left[0] -= step == "open"
            if left[0] < 0:
                raise KeyboardInterrupt

        take_away = source.on_step(look)
        try:
            with open_store(tmp_path / "s", durable=False) as store, pytest.raises(KeyboardInterrupt):
                add_all(store, wanted)
        finally:
            take_away()

    for count in (5, 9, 13):
        interrupt_after(count)
    with open_store(tmp_path / "s", durable=False) as store:
        done = len(store.models())
        report = add_all(store, wanted)
        assert (report.already_there, report.added) == (done, len(NAMES) - done)
        assert small_bytes or done
        assert store.verify().ok
        assert store.models() == tuple(sorted(NAMES))
        store.checkout("me/pipe", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tree / "pipe")


def test_a_failure_stops_no_other(tree: Path, store: DiskBlockStore) -> None:
    write_model(tree / "bad", base_tensors(rows=2))
    (tree / "bad" / "model.safetensors").write_bytes(b"no weights")
    (tree / "gone").symlink_to(tree / "nowhere")
    write_model(tree / "dangling", base_tensors(rows=2))
    (tree / "dangling" / "x").symlink_to("nowhere")
    told: list[str] = []
    wanted = [item.to_add(SELECT) for item in find_models(tree, "me", SELECT).models]
    report = add_all(store, wanted, tell=lambda one: told.append(getattr(one, "name", "bad")))
    assert {item.model for item in report.failed} == {"me/bad", "me/dangling"}
    assert (report.added, len(told), told.count("bad")) == (len(NAMES), len(NAMES) + 2, 2)


def test_a_file_is_a_model(tmp_path: Path, store: DiskBlockStore) -> None:
    file = tmp_path / "lora.safetensors"
    file.write_bytes(safetensors_bytes(base_tensors(rows=5)))
    (tmp_path / "other.txt").write_bytes(b"not of it")
    assert store.add(file, "me/lora").files == 1
    assert store.add(file, "me/lora").already_there
    store.checkout("me/lora", tmp_path / "out")
    assert folder_content(tmp_path / "out") == {"lora.safetensors": file.read_bytes()}
    assert len(list(store.disk.tensors("me/lora"))) == 3


@pytest.mark.parametrize(
    ("exclude", "include", "left"),
    [
        ((), (), set()),
        (("*.pt",), (), {"optimizer.pt"}),
        (("optimizer",), (), {"optimizer.pt"}),
        (("sub",), (), {"sub/"}),
        (("sub/x.txt",), (), {"sub/x.txt"}),
        (LEFT_OUT, (), {".git/"}),
        (LEFT_OUT, (".git",), set()),
        (("*",), ("*.safetensors",), {".git/", "config.json", "optimizer.pt", "sub/"}),
    ],
)
def test_what_is_left_out_is_named(
    tmp_path: Path, store: DiskBlockStore, exclude: tuple[str, ...], include: tuple[str, ...], left: set[str]
) -> None:
    folder = write_model(tmp_path / "m", base_tensors(rows=4), optimizer__pt=b"state")
    for path in ("sub/x.txt", ".git/HEAD"):
        (folder / path).parent.mkdir()
        (folder / path).write_bytes(b"x")
    report = store.add(folder, "me/m", select=Selection(exclude=exclude, include=include))
    assert set(report.left_out) == left
    stored = {entry.path for entry in store.manifest("me/m").files}
    gone = {
        path for path in folder_content(folder) if any(path == one or path.startswith(one) for one in left)
    }
    assert stored == set(folder_content(folder)) - gone


TOLD, TOGETHER, ALLOWED = 8, 4, 24
"""Models that a run tells of before it is killed, that share a commit, and that it may add at most."""
RUN = "import sys; from demo.cli import main; sys.exit(main())"
PACED = f"""
import os
import signal
from itertools import count
from types import SimpleNamespace
from pbstore.bulk import add

def paced(self, item, size, add_one=add._Adding._add):
    while not os.read(0, 1):
        signal.pause()
    return add_one(self, item, size)

add._Adding._add = paced
add.time = SimpleNamespace(monotonic=count(0, add.SHARED_S / {TOGETHER}).__next__)
{RUN}
"""
"""It takes a byte for each model, and as many share a commit on any machine."""


def run_until_told(command: list[str], environment: dict[str, str], *, known: int, number: int) -> None:
    """Kill a run that may add so many more models, of which some are told of as done."""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"." * (known + ALLOWED))
        process.stdin.flush()
        for _ in range(TOLD):
            assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait() != 0


@pytest.mark.slow
def test_one_command_killed_three_times_takes_a_hundred_models_in(tmp_path: Path) -> None:
    """Models, fine-tunes, adapters, loose files, a run with checkpoints; killed by signals, not by hooks."""
    root, base = tmp_path / "mixed", base_tensors(rows=8000)
    write_model(root / "base", base)
    for number in range(40):
        write_model(root / "tuned" / f"t{number}", tuned(base, ("embed.weight",), seed=number))
    for number in range(39):
        adapter(root / "adapters" / f"a{number}", number)
    (root / "loras").mkdir()
    for number in range(17):
        data = safetensors_bytes(base_tensors(100 + number, rows=40))
        (root / "loras" / f"l{number}.safetensors").write_bytes(data)
    run = write_model(root / "run", tuned(base, ("layer.weight",)))
    for step in (1, 2):
        write_model(run / f"checkpoint-{step}", tuned(base, ("layer.weight",), seed=50 + step))
    words = ["store", "add", str(root), "-r", "--org", "me"]
    environment = {**os.environ, "PBCAST_STORE": str(tmp_path / "store"), "PYTHONPATH": str(Path.cwd())}
    known = [0]
    for signal_number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        run_until_told(
            [sys.executable, "-c", PACED, *words], environment, known=known[-1], number=signal_number
        )
        with open_store(tmp_path / "store") as store:
            known.append(len(store.models()))
            assert store.verify().ok
    assert TOLD <= known[1] < known[2] < known[3] < 100
    command = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert f"100 models: {100 - known[-1]} added, {known[-1]} already there" in done.stdout
    with open_store(tmp_path / "store") as store:
        assert len(store.models()) == 100
        assert store.verify().ok
        assert reference_problems(store.disk) == []
        for part in ("tuned/t7", "adapters/a3"):
            store.checkout(f"me/{part.replace('/', '-')}", tmp_path / "out" / part)
            assert folder_content(tmp_path / "out" / part) == folder_content(root / part)
