"""What differs between two models or two revisions of one, file by file and tensor by tensor.

Equality is that of bytes, which the ids of blocks tell: of the weights nothing is read but groups of tiny
ones.
"""

from collections import Counter
from dataclasses import dataclass

from pbstore.disk.models import Models
from pbstore.hashing import BlockId, hash_block
from pbstore.manifest import FileEntry, Manifest
from pbstore.tensors import StoredTensor, with_parts

CHANGED, ADDED, REMOVED, RENAMED = "changed", "added", "removed", "renamed"


MOST_ALIKE = 32
"""Equal tensors, or changes of a name's beginning, among which the nearest is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDifference:
    """A file of one side or of both."""

    path: str
    state: str
    """`changed`, `added`, `removed`; files that are the same are counted only."""
    old_bytes: int
    new_bytes: int
    shared_bytes: int
    """Bytes of the new file in blocks that the old model has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """A tensor of one side or of both."""

    name: str
    state: str
    """`changed`, `added`, `removed`, or `renamed`: the same bytes, or others under a name of the same end."""
    old: str
    """Dtype and shape, as in `F32 30522x384`; empty if it is not there."""
    new: str
    raw_bytes: int
    """Of the new one, or of the old one if there is none."""
    old_name: str = ""
    """What a renamed one was called before."""
    is_same: bool = False
    """Whether dtype, shape and bytes of a renamed one are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs between two models."""

    first: str
    second: str
    """Both as `NAME@COMMIT`."""
    same_files: int
    same_tensors: int
    """Those with another name too."""
    shared_bytes: int
    """Bytes of the second in blocks that the first has."""
    raw_bytes: int
    """All bytes of the second."""
    files: tuple[FileDifference, ...]
    tensors: tuple[TensorDifference, ...]

    @property
    def is_empty(self) -> bool:
        """Whether they hold the same files."""
        return not self.files


@dataclass(frozen=True, slots=True)
class _Tensor:
    kind: str
    raw_bytes: int
    ids: tuple[BlockId, ...]


def diff(models: Models, first: str, second: str) -> Difference:
    """Compare two models or revisions."""
    rows = models.model_row(first), models.model_row(second)
    old, new = (models.manifest_of(row) for row in rows)
    held = set(old.block_ids())
    files = _files(old, new, held)
    before, after = (_tensors(models, name) for name in (first, second))
    tensors = _tensor_differences(before, after)
    titles = [f"{row.key.model}@{row.commit[:12]}" for row in rows]
    return Difference(
        first=titles[0],
        second=titles[1],
        same_files=len(new.files) - sum(item.state != REMOVED for item in files),
        same_tensors=len(after) - sum(item.state != REMOVED and not item.is_same for item in tensors),
        shared_bytes=sum(piece.raw_bytes for piece in new.pieces() if piece.block_id in held),
        raw_bytes=new.raw_bytes,
        files=files,
        tensors=tensors,
    )


def _files(old: Manifest, new: Manifest, held: set[BlockId]) -> tuple[FileDifference, ...]:
    before, after = ({entry.path: entry for entry in one.files} for one in (old, new))
    found = []
    for path in sorted(before.keys() | after.keys()):
        one, other = before.get(path), after.get(path)
        if one is None or other is None or _content(one) != _content(other):
            found.append(
                FileDifference(
                    path=path,
                    state=ADDED if one is None else REMOVED if other is None else CHANGED,
                    old_bytes=0 if one is None else one.size_bytes,
                    new_bytes=0 if other is None else other.size_bytes,
                    shared_bytes=_shared(other, held),
                )
            )
    return tuple(found)


def _shared(entry: FileEntry | None, held: set[BlockId]) -> int:
    pieces = () if entry is None else entry.pieces
    return sum(piece.raw_bytes for piece in pieces if piece.block_id in held)


def _content(entry: FileEntry) -> tuple[str, int, bool]:
    return entry.sha256, entry.size_bytes, entry.executable


def _tensors(models: Models, name: str) -> dict[str, _Tensor]:
    """Tensors by name; where several files have one of a name, each by its file and name."""
    listed = [(one, _ids(one, part)) for one, part in with_parts(models.tensors(name), models.get)]
    names = [tensor.name for tensor, _ in listed]
    several = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return {
        f"{tensor.path}: {tensor.name}" if tensor.name in several else tensor.name: _Tensor(
            f"{tensor.spec.dtype} {'x'.join(map(str, tensor.spec.shape)) or 'scalar'}",
            tensor.spec.num_bytes,
            ids,
        )
        for tensor, ids in listed
    }


def _ids(tensor: StoredTensor, part: memoryview | None) -> tuple[BlockId, ...]:
    """What tells a tensor from another one: its blocks, or what it hashes to in its group."""
    return tuple(piece.block_id for piece in tensor.pieces) if part is None else (hash_block(part),)


def _tensor_differences(
    before: dict[str, _Tensor], after: dict[str, _Tensor]
) -> tuple[TensorDifference, ...]:
    renamed = _renamed(before, after)
    gone = set(renamed.values())
    found = []
    for name in dict.fromkeys([*before, *after]):
        old_name = renamed.get(name, name)
        one, other = before.get(old_name), after.get(name)
        if (one == other and name not in renamed) or (name in gone and name not in renamed):
            continue
        some = other or one
        state = ADDED if one is None else REMOVED if other is None else CHANGED
        found.append(
            TensorDifference(
                name=name,
                state=RENAMED if name in renamed else state,
                old="" if one is None else one.kind,
                new="" if other is None else other.kind,
                raw_bytes=0 if some is None else some.raw_bytes,
                old_name=old_name if name in renamed else "",
                is_same=name in renamed and one == other,
            )
        )
    return tuple(found)


def _renamed(before: dict[str, _Tensor], after: dict[str, _Tensor]) -> dict[str, str]:
    """Old names by new ones, of tensors whose name is on one side only.

    First those with the same bytes; then others, whose names begin as those of these have changed.
    """
    free: dict[_Tensor, list[str]] = {}
    for name, tensor in before.items():
        if name not in after:
            free.setdefault(tensor, []).append(name)
    renamed: dict[str, str] = {}
    for name, tensor in after.items():
        if name not in before and (names := free.get(tensor)):
            best = max((len(_common_end(old, name)), old) for old in names[:MOST_ALIKE])[1]
            names.remove(best)
            renamed[name] = best
    starts = Counter(_starts(old, name) for name, old in renamed.items())
    left = {name for names in free.values() for name in names} - set(renamed.values())
    for name in after:
        if name in before or name in renamed:
            continue
        for (old_start, new_start), _ in starts.most_common(MOST_ALIKE):
            old = old_start + name.removeprefix(new_start)
            if name.startswith(new_start) and old in left:
                renamed[name] = old
                left.discard(old)
                break
    return renamed


def _common_end(one: str, other: str) -> str:
    """The end that two names share, in whole parts."""
    parts = []
    for first, second in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if first != second:
            break
        parts.append(first)
    return ".".join(reversed(parts))


def _starts(old: str, new: str) -> tuple[str, str]:
    """What two names have before their common end."""
    end = _common_end(old, new)
    return old[: len(old) - len(end)], new[: len(new) - len(end)]
