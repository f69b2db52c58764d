"""A folder to add, made from pickles or from a GGUF file where the user asks for it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from demo.console import warn
from pbstore import SourceChangedError

if TYPE_CHECKING:
    from pbstore.checkpoint import ConvertReport
    from pbstore.folders.nesting import OwnStore
    from pbstore.folders.source import Stamp


class ToAdd(NamedTuple):
    """A folder to add."""

    folder: Path
    check: Callable[[object], None] | None = None
    """Raises SourceChangedError if what the folder was made from is not as it was."""


@contextmanager
def source_folder(
    path: Path, convert: bool, dequantise: str | None, store: Path | None = None
) -> Iterator[ToAdd]:
    """The folder to add; a temporary one if something has to be converted.

    What a conversion keeps as it is, or leaves out, is named on stderr.

    Args:
        path: The model's folder, or a GGUF file if it is to be de-quantised.
        convert: Turn weight pickles into safetensors, by torch's weights-only loader.
        dequantise: Dtype to turn a GGUF file into, None to add its bytes as they are.
        store: The store that it is for, which is left out where it lies in the folder.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If the folder does not hold exactly one GGUF file to de-quantise.
    """
    if not path.exists() or (path.is_file() and convert):
        raise FileNotFoundError(f"expected the folder of a model, there is none at {path}{_near(path)}")
    if not convert and dequantise is None:
        yield ToAdd(path)
        return
    from pbstore.checkpoint import convert_folder, dequantise_gguf
    from pbstore.folders.scratch import scratch

    before = _stamps(path, store)

    def check(_: object) -> None:
        after = _stamps(path, store)
        if changed := {place for place, _ in before.items() ^ after.items()}:
            raise SourceChangedError(str(min(changed)), "it was converted as it was before")

    with scratch(Path(tempfile.gettempdir()), "pbcast-convert-") as temporary:
        target = temporary / "model"
        if dequantise is not None:
            dequantise_gguf(_gguf_file(path), target, dequantise)
        else:
            _tell(convert_folder(path, target, own=_own(store), link=True))
        yield ToAdd(target, check)


def _near(path: Path) -> str:
    """A question that names what lies there and is called almost so; empty if nothing is."""
    there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, there, 1)
    return f"; did you mean {path.with_name(near[0])}?" if near else ""


def _stamps(path: Path, store: Path | None) -> "dict[Path, Stamp]":
    """What changes when what is converted does."""
    from pbstore.folders.source import Stamp, list_source

    if path.is_file():
        return {path: Stamp.of(path.stat())}
    return {file.place: file.stamp for file in list_source(path, _own(store)).files}


def _own(store: Path | None) -> "OwnStore | None":
    from pbstore.folders.nesting import OwnStore, is_store

    return OwnStore.at(store) if store is not None and is_store(store) else None


def _tell(report: "ConvertReport") -> None:
    for path, reason in report.kept.items():
        warn(f"pbcast: kept {path!r} as it is: {reason}")
    for path, what in report.left_out.items():
        warn(f"pbcast: left out of {path!r}: {what!r}")


def _gguf_file(path: Path) -> Path:
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if len(files) != 1:
        raise ValueError(f"expected one GGUF file in {path}, got {len(files)}")
    return files[0]
