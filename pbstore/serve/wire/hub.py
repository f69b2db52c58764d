"""Documents of the Hugging Face Hub, as `huggingface_hub` 2.4 reads them, and where its paths lead."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from pbstore.manifest import FileEntry

Document = dict[str, Any]

VERBS = frozenset(
    (
        "",
        "revision",
        "tree",
        "paths-info",
        "refs",
        "commits",
        "xet-read-token",
        "xet-write-token",
        "preupload",
        "commit",
    )
)
"""What may follow a model's name under `/api/models/`; nothing asks for the model itself."""
FILE_VERBS = frozenset(("resolve", "raw"))
"""What may follow a model's name elsewhere."""
_WEIGHTS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".npz", ".npy"),
    *(".tflite", ".pb", ".ot", ".parquet", ".arrow"),
)


class Target(NamedTuple):
    """Where a path may lead."""

    name: str
    """Of a model, which may not be there."""
    verb: str
    rest: tuple[str, ...]
    """What follows the verb, decoded; a part may have slashes of its own, as branches do."""


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Hashes of a file besides its sha256; empty if not known, or not yet."""

    git_sha1: str = ""
    """Of the Git blob."""
    xet: str = ""
    """Of the Merkle tree of its chunks."""


def decoded_parts(raw_path: bytes) -> tuple[str, ...] | None:
    """Parts of a path, each decoded by itself; None if one is no UTF-8."""
    try:
        return tuple(unquote_to_bytes(part).decode() for part in raw_path.strip(b"/").split(b"/"))
    except UnicodeDecodeError:
        return None


def targets(parts: tuple[str, ...], verbs: frozenset[str]) -> Iterator[Target]:
    """Readings of a path as NAME/VERB/..., of names with an organisation first, then of those without."""
    for length in (2, 1):
        verb = parts[length] if len(parts) > length else ""
        if len(parts) >= length and verb in verbs:
            yield Target("/".join(parts[:length]), verb, parts[length + 1 :])


def is_plain(path: str, size_bytes: int, plain_bytes: int) -> bool:
    """Whether a file is one that Git keeps itself; weights and large files are LFS and Xet files."""
    return not size_bytes or (size_bytes < plain_bytes and not path.lower().endswith(_WEIGHTS))


def git_blob_sha1(content: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def lfs_pointer(file: FileEntry) -> bytes:
    """What Git keeps in place of a large file."""
    lines = (
        "version https://git-lfs.github.com/spec/v1",
        f"oid sha256:{file.sha256}",
        f"size {file.size_bytes}",
        "",
    )
    return "\n".join(lines).encode()


def etag_of(file: FileEntry, hashes: FileHashes) -> str:
    """A file's ETag without quotes: the Git hash, which only plain files have here, else the sha256."""
    return hashes.git_sha1 or file.sha256


def file_document(file: FileEntry, hashes: FileHashes) -> Document:
    """One file in a tree; `hashes` has the Git hash of plain files only."""
    document: Document = {"type": "file", "oid": hashes.git_sha1, "size": file.size_bytes, "path": file.path}
    if not hashes.git_sha1:
        pointer = lfs_pointer(file)
        lfs = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": len(pointer)}
        document |= {"oid": git_blob_sha1(pointer), "lfs": lfs}
        if hashes.xet:
            document["xetHash"] = hashes.xet
    return document


def folder_document(path: str, commit: str) -> Document:
    """One folder in a tree."""
    oid = hashlib.sha1(f"{commit}/{path}".encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def expanded(document: Document, commit: str, added_at: float) -> Document:
    """A document of a tree with what `expand` asks for."""
    last = {"id": commit, "title": "Add the model", "date": iso(added_at)}
    security = {"status": "unscanned", "avScan": None, "pickleImportScan": None}
    extra = {"securityFileStatus": security} if document["type"] == "file" else {}
    return {**document, "lastCommit": last, **extra}


def folders_of(paths: Iterable[str]) -> set[str]:
    """All folders in which files lie."""
    found = set()
    for path in paths:
        while "/" in path:
            path = path.rpartition("/")[0]
            found.add(path)
    return found


def listing(paths: Iterable[str], folder: str, recursive: bool) -> list[tuple[str, bool]]:
    """Paths in a folder and whether each is a folder, in one order; `paths` are those of files."""
    files = list(paths)
    prefix = f"{folder}/" if folder else ""
    every = [(path, False) for path in files] + [(path, True) for path in folders_of(files)]
    inside = [item for item in every if item[0].startswith(prefix)]
    return sorted(item for item in inside if recursive or "/" not in item[0][len(prefix) :])


def model_document(
    name: str, commit: str, added_at: float, siblings: Iterable[Document], card: Mapping[str, Any]
) -> Document:
    """What the Hub says of a model."""
    return {
        "_id": commit[:24],
        "id": name,
        "modelId": name,
        "author": name.partition("/")[0] if "/" in name else None,
        "sha": commit,
        "createdAt": iso(added_at),
        "lastModified": iso(added_at),
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": list(siblings),
        **card,
    }


def sibling_document(file: FileEntry, hashes: FileHashes | None) -> Document:
    """One file in a model's document, with its blob if its hashes are given."""
    if hashes is None:
        return {"rfilename": file.path}
    tree = file_document(file, hashes)
    lfs = {"lfs": {**tree["lfs"], "sha256": file.sha256}} if "lfs" in tree else {}
    return {"rfilename": file.path, "size": file.size_bytes, "blobId": tree["oid"], **lfs}


def iso(time_s: float) -> str:
    """A time as the Hub writes it: 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def quoted_path(path: str) -> str:
    """A path in a URL."""
    return quote(path, safe="/")
