"""The stores that are compared, each driven as its authors mean it to be; one process measures one of them.

Run by `bench_store.py`: `python peers.py PEER put|get JOB`, where JOB is a JSON file with `store`, `out` and
`models` (name -> folder). Prints `wall_s` and `cpu_s` without the time of imports, and `peak_rss_bytes`.
Models are put one by one, in order: that is how stores grow.
"""

import filecmp
import hashlib
import importlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

Models = Mapping[str, Path]


def files_of(folder: Path) -> list[Path]:
    """All files, relative to the folder, sorted."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> None:
    """Run a command quietly; its own words go into the error."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")


class Peer:
    """One store."""

    modules: ClassVar[tuple[str, ...]] = ()
    """Imported before the clock starts."""
    tools: ClassVar[tuple[str, ...]] = ()
    """Commands that must be there."""
    note: ClassVar[str] = ""
    grows: ClassVar[bool] = True
    """Whether a model can be put into a store that holds some."""

    def put_all(self, store: Path, models: Models) -> None:
        """Store models one after the other."""
        for name, folder in models.items():
            self.put(store, name, folder)

    def get_all(self, store: Path, names: Iterable[str], out: Path) -> None:
        """Write models back one after the other."""
        for name in names:
            self.get(store, name, out / name)

    def put(self, store: Path, name: str, folder: Path) -> None:
        raise NotImplementedError

    def get(self, store: Path, name: str, out: Path) -> None:
        raise NotImplementedError


class Copy(Peer):
    """Every file as it is."""

    def put(self, store: Path, name: str, folder: Path) -> None:
        shutil.copytree(folder, store / name)

    def get(self, store: Path, name: str, out: Path) -> None:
        shutil.copytree(store / name, out)


class WholeFiles(Peer):
    """Each distinct file once, as Hugging Face's cache does."""

    def put(self, store: Path, name: str, folder: Path) -> None:
        index = {}
        for path in files_of(folder):
            data = (folder / path).read_bytes()
            index[str(path)] = key = hashlib.sha256(data).hexdigest()
            target = store / "blobs" / key
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(data)
        (store / f"{name}.json").write_text(json.dumps(index))

    def get(self, store: Path, name: str, out: Path) -> None:
        for path, key in json.loads((store / f"{name}.json").read_text()).items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store / "blobs" / key, out / path)


class Tensors(Peer):
    """Each distinct tensor of a safetensors file once, by BLAKE3, raw in one pack; other files whole."""

    modules = ("blake3", "mmap")

    def put(self, store: Path, name: str, folder: Path) -> None:
        blake3 = importlib.import_module("blake3").blake3
        index_path = store / "index.json"
        known = json.loads(index_path.read_text()) if index_path.exists() else {}
        files: dict[str, list[str]] = {}
        with (store / "pack").open("ab") as pack:
            for path in files_of(folder):
                files[str(path)] = keys = []
                for piece in tensor_pieces((folder / path).read_bytes()):
                    key = blake3(piece).hexdigest()
                    keys.append(key)
                    if key not in known:
                        known[key] = (pack.tell(), len(piece))
                        pack.write(piece)
        index_path.write_text(json.dumps(known))
        (store / f"{name}.json").write_text(json.dumps(files))

    def get(self, store: Path, name: str, out: Path) -> None:
        mmap = importlib.import_module("mmap")
        known = json.loads((store / "index.json").read_text())
        with (store / "pack").open("rb") as stream:
            pack = memoryview(mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ))
            for path, keys in json.loads((store / f"{name}.json").read_text()).items():
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                with (out / path).open("wb") as file:
                    for start, size in (known[key] for key in keys):
                        file.write(pack[start : start + size])


def tensor_pieces(data: bytes) -> list[memoryview]:
    """The header and each tensor of a safetensors file, in the order of their bytes; else the whole file."""
    view = memoryview(data)
    if len(data) < 8 or (length := struct.unpack("<Q", data[:8])[0]) > len(data) - 8 or data[8:9] != b"{":
        return [view]
    start = 8 + length
    header = json.loads(data[8:start])
    ends = sorted(entry["data_offsets"] for key, entry in header.items() if key != "__metadata__")
    return [view[:start], *(view[start + a : start + b] for a, b in ends)]


class Xet(Peer):
    """Hugging Face's own chunk store, against a local folder in place of its servers."""

    modules = ("hf_xet",)
    note = "stored: xorbs and shards"

    def put(self, store: Path, name: str, folder: Path) -> None:
        xet = importlib.import_module("hf_xet")
        paths = files_of(folder)
        done = xet.upload_files(
            [str(folder / path) for path in paths], f"local://{store}", None, None, None, "model"
        )
        index = {str(path): (one.hash, one.file_size) for path, one in zip(paths, done, strict=True)}
        (store / f"{name}.json").write_text(json.dumps(index))

    def get(self, store: Path, name: str, out: Path) -> None:
        xet = importlib.import_module("hf_xet")
        wanted = []
        for path, (key, size) in json.loads((store / f"{name}.json").read_text()).items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            wanted.append(xet.PyXetDownloadInfo(str(out / path), key, size))
        xet.download_files(wanted, f"local://{store}", None, None, None)


class LmzipAppend(Peer):
    """lmzip, each model appended to one archive."""

    tools = ("lmz",)

    def put(self, store: Path, name: str, folder: Path) -> None:
        archive = store / "family.lmz"
        with staged(store, {name: folder}) as parent:
            if archive.exists():
                run("lmz", "append", "-q", archive, parent)
            else:
                run("lmz", "compress", "-q", parent, archive)

    def get_all(self, store: Path, names: Iterable[str], out: Path) -> None:
        run("lmz", "decompress", "-q", "-f", store / "family.lmz", out)


class LmzipOneShot(LmzipAppend):
    """lmzip, all models at once: every model must be at hand when the archive is made."""

    note = "needs every model at once"
    grows = False

    def put_all(self, store: Path, models: Models) -> None:
        with staged(store, models) as parent:
            run("lmz", "compress", "-q", parent, store / "family.lmz")


class staged:
    """A folder of hard links to models under their names, beside the store."""

    def __init__(self, store: Path, models: Models) -> None:
        self.parent, self.models = store.with_name(f"{store.name}-staged"), models

    def __enter__(self) -> Path:
        for name, folder in self.models.items():
            shutil.copytree(folder, self.parent / name, copy_function=link_or_copy)
        return self.parent

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.parent)


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class Casync(Peer):
    """Content-defined chunks, each compressed by itself."""

    tools = ("casync",)

    def put(self, store: Path, name: str, folder: Path) -> None:
        run("casync", "make", f"--store={store}/chunks", store / f"{name}.caidx", folder)

    def get(self, store: Path, name: str, out: Path) -> None:
        run("casync", "extract", f"--store={store}/chunks", store / f"{name}.caidx", out)


class Borg(Peer):
    """Backup with content-defined chunks and zstd; without encryption."""

    tools = ("borg",)
    environment: ClassVar[dict[str, str]] = {
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }

    def _home(self, store: Path) -> dict[str, str]:
        return {**self.environment, "BORG_BASE_DIR": str(store.with_name(f"{store.name}-borg"))}

    def put(self, store: Path, name: str, folder: Path) -> None:
        home = self._home(store)
        if not (store / "config").exists():
            run("borg", "init", "--encryption=none", store, **home)
        run("borg", "create", "--compression", "zstd,3", f"{store}::{name}", ".", cwd=folder, **home)

    def get(self, store: Path, name: str, out: Path) -> None:
        out.mkdir(parents=True)
        run("borg", "extract", f"{store}::{name}", cwd=out, **self._home(store))


class Restic(Peer):
    """Backup with content-defined chunks and zstd; it always encrypts."""

    tools = ("restic",)
    note = "encrypts"
    environment: ClassVar[dict[str, str]] = {"RESTIC_PASSWORD": "benchmark", "RESTIC_PROGRESS_FPS": "0.1"}

    def put(self, store: Path, name: str, folder: Path) -> None:
        cache = f"--cache-dir={store.with_name(f'{store.name}-restic')}"
        if not (store / "config").exists():
            run("restic", "-r", store, cache, "init", "--repository-version", "2", **self.environment)
        run("restic", "-r", store, cache, "backup", "-q", "--host", name, ".", cwd=folder, **self.environment)

    def get(self, store: Path, name: str, out: Path) -> None:
        cache = f"--cache-dir={store.with_name(f'{store.name}-restic')}"
        where = ("--host", name, "--target", out)
        run("restic", "-r", store, cache, "restore", "-q", "latest", *where, **self.environment)


class ZipNN(Peer):
    """Lossless compression of the floats of each file; no deduplication."""

    modules = ("zipnn",)

    def put(self, store: Path, name: str, folder: Path) -> None:
        zipnn = importlib.import_module("zipnn")
        for path in files_of(folder):
            data, target = (folder / path).read_bytes(), store / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if kind := float_type(data):
                packed = zipnn.ZipNN(input_format="byte", bytearray_dtype=kind, threads=2).compress(data)
                target.with_name(f"{target.name}.{kind}").write_bytes(packed)
            else:
                target.write_bytes(data)

    def get(self, store: Path, name: str, out: Path) -> None:
        zipnn = importlib.import_module("zipnn")
        for path in files_of(store / name):
            data, target = (store / name / path).read_bytes(), out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".float32", ".bfloat16"):
                kind = path.suffix[1:]
                whole = zipnn.ZipNN(input_format="byte", bytearray_dtype=kind, threads=2).decompress(data)
                target.with_suffix("").write_bytes(whole)
            else:
                target.write_bytes(data)


def float_type(data: bytes) -> str | None:
    """The type of most bytes of a safetensors file, by zipnn's name."""
    pieces = tensor_pieces(data)
    if len(pieces) < 2:
        return None
    header = json.loads(bytes(pieces[0][8:]))
    types = [entry["dtype"] for key, entry in header.items() if key != "__metadata__"]
    return {"F32": "float32", "BF16": "bfloat16"}.get(max(types, key=types.count))


class TensorFS(Peer):
    """A deduplicating store of tensors."""

    tools = ("tfs",)

    def put(self, store: Path, name: str, folder: Path) -> None:
        run("tfs", "--store", store, "import", folder, "--name", f"local/{name}")

    def get(self, store: Path, name: str, out: Path) -> None:
        run("tfs", "--store", store, "export", f"local/{name}", out, "--safetensors")


class PBStoreCold(Peer):
    """Ours, cold."""

    modules = (
        "pbstore.checkpoint",
        "pbstore.disk.add.adding",
        "pbstore.disk.opening",
        "pbstore.disk.verbs",
        "pbstore.folders.restore",
    )
    form = "cold"
    thorough = False

    def put_all(self, store: Path, models: Models) -> None:
        with self._open(store) as opened:
            for name, folder in models.items():
                opened.add(folder, name=f"family/{name}", form=self.form, thorough=self.thorough)

    def get_all(self, store: Path, names: Iterable[str], out: Path) -> None:
        with self._open(store) as opened:
            for name in names:
                opened.checkout(f"family/{name}", out / name)

    @staticmethod
    def _open(store: Path) -> Any:  # noqa: ANN401 - the store is imported only in its own process
        return importlib.import_module("pbstore").open_store(store)


class PBStoreThorough(PBStoreCold):
    """Ours, as small as it gets."""

    thorough = True


class PBStoreHot(PBStoreCold):
    """Ours, raw blocks that can be memory-mapped."""

    form = "hot"


PEERS: dict[str, Peer] = {
    "copy": Copy(),
    "whole files": WholeFiles(),
    "tensors": Tensors(),
    "xet": Xet(),
    "lmzip one-shot": LmzipOneShot(),
    "lmzip append": LmzipAppend(),
    "casync": Casync(),
    "borg": Borg(),
    "restic": Restic(),
    "zipnn": ZipNN(),
    "tensorfs": TensorFS(),
    "pbstore thorough": PBStoreThorough(),
    "pbstore cold": PBStoreCold(),
    "pbstore hot": PBStoreHot(),
}
"""By the name in the table."""


PASSING = frozenset({"global_dedup_lookup.redb"})


def stored_bytes(store: Path) -> int:
    """Bytes of all files of a store; of Xet's folder only what its servers would keep.

    The table by which Xet's library finds chunks in a local folder is left out: its file begins with 1 MB
    that is mostly empty, and shrinks to a twentieth at some later put, whatever that adds.
    """
    kept = [path for path in store.rglob("*") if path.is_file() and path.name not in PASSING]
    return sum(path.stat().st_size for path in kept if not {"shard-cache", "logs"} & set(path.parts))


def same_folders(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files, byte for byte."""
    names = files_of(left)
    return names == files_of(right) and all(
        filecmp.cmp(left / name, right / name, shallow=False) for name in names
    )


def main(name: str, action: str, job_path: str) -> None:
    """Do one measured action."""
    job: dict[str, Any] = json.loads(Path(job_path).read_text())
    peer, store = PEERS[name], Path(job["store"])
    models = {model: Path(folder) for model, folder in job["models"].items()}
    for module in peer.modules:
        importlib.import_module(module)
    before = os.times()
    start = time.perf_counter()
    if action == "put":
        store.mkdir(parents=True, exist_ok=True)
        peer.put_all(store, models)
    else:
        Path(job["out"]).mkdir(parents=True)
        peer.get_all(store, models, Path(job["out"]))
    wall = time.perf_counter() - start
    cpu = sum(os.times()[:4]) - sum(before[:4])
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_rss_bytes": peak_rss_bytes()}))


def peak_rss_bytes() -> int:
    """Largest RSS of this process or of a child of it.

    A child's `ru_maxrss` starts at its parent's size, so ours is read where exec begins it anew.
    """
    status = Path("/proc/self/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(*sys.argv[1:4])
