"""What lies under a model's folder, each file and folder or a refusal by name; and whether it stayed so.

Links are followed, also those to folders and those that lead out of the folder: a snapshot of the Hugging
Face cache is nothing but links. Nothing is left out but the store itself, which is named.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from blake3 import blake3

from pbstore.errors import BadFileError, ManifestError, SourceChangedError
from pbstore.folders.nesting import SETTINGS_FILE, Identity, OwnStore, is_store
from pbstore.folders.select import ALL, Selection
from pbstore.manifest import check_path
from pbstore.steps import Steps

TRIES = 3
"""How often a folder that changes while it is read is read, all in all."""
MOST_ENTRIES = 1_000_000
"""Files and folders of one model: links to folders may multiply them."""
MOST_NAMED = 5
"""Problems that an error names; it counts the others."""
OTHER_STAMP = "other size, times or inode than before"
BAD_NAME = (
    "its name cannot be stored: control characters, backslashes, bytes that are no UTF-8, "
    "or more than 1024 bytes with its folders"
)
_COARSE_CLOCK = 5
"""Linux's CLOCK_REALTIME_COARSE, which files are stamped by."""
R = TypeVar("R")
_reading_steps = Steps()
on_step, step = _reading_steps.on_step, _reading_steps.step
"""Hear of each step of reading a source, so that a test can change the source there; announce one."""


class Stamp(NamedTuple):
    """What changes when a file does: its bytes cannot change and this stay the same."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """The stamp of a file or folder."""
        size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        return cls(found.st_dev, found.st_ino, size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)


class SourceFile(NamedTuple):
    """A regular file under a model's folder."""

    path: str
    """Relative, with forward slashes."""
    place: Path
    stamp: Stamp

    @property
    def executable(self) -> bool:
        """Whether its owner may run it."""
        return bool(self.stamp.mode & stat.S_IXUSR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Everything under a model's folder at one time; two are equal if nothing has changed."""

    files: tuple[SourceFile, ...]
    """In the order of their paths' parts."""
    folders: dict[str, Stamp]
    """All folders, `.` for the model's own."""
    empty_folders: tuple[str, ...]
    """Those without anything to be stored in them."""
    skipped: tuple[str, ...]
    """Where the store that the source is read for was found, and left out."""
    left_out: tuple[str, ...] = ()
    """What the selection leaves out; folders end with a slash."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.stamp.size for file in self.files)

    def fingerprint(self) -> str:
        """A hash of all names and stamps: as long as it is the same, the bytes are."""
        seen = (self.files, self.empty_folders, self.skipped, self.left_out)
        return blake3(repr(seen).encode("utf-8", "surrogatepass")).hexdigest()


def list_source(folder: Path, own: OwnStore | None = None, select: Selection = ALL) -> Source:
    """All files and folders under a folder, with links followed; or one file.

    Args:
        folder: The model's folder, or a file that is all of it.
        own: The store that it is read for, which is left out where it lies in the folder.
        select: What is the model's.

    Raises:
        FileNotFoundError: If it is missing.
        BadFileError: If there is no file, or something that cannot be stored: a dangling link, a link in a
            loop, a socket, pipe or device, a name that no manifest takes, a folder that cannot be read,
            another block store. All are found before anything is read.
        SourceChangedError: If something goes away meanwhile.
    """
    if not folder.exists():
        raise FileNotFoundError(f"no file or folder {folder}")
    if own is not None and own.holds(folder):
        raise BadFileError(str(folder), f"it is, or lies in, the store {own.root}: choose another folder")
    if not folder.is_dir():
        walk = _Walk(folder.parent, own, select)
        walk.take_files((folder.name,))
    else:
        walk = _Walk(folder, own, select)
        walk.run() if select.files is None else walk.take_files(select.files)
    if walk.problems:
        raise _refusal(sorted(walk.problems))
    if not walk.files:
        raise BadFileError(str(folder), "the folder has no files")
    _let_the_clock_pass(walk)
    return Source(
        files=tuple(sorted(walk.files, key=lambda file: file.path.split("/"))),
        folders=walk.folders,
        empty_folders=tuple(sorted(walk.folders.keys() - walk.filled - {"."})),
        skipped=tuple(sorted(walk.skipped)),
        left_out=tuple(sorted(walk.left_out)),
    )


def check_unchanged(folder: Path, own: OwnStore | None, before: Source, select: Selection = ALL) -> None:
    """Refuse what was read if a folder is not as it was listed before.

    Raises:
        SourceChangedError: With a path that was changed, came or went.
    """
    try:
        after = list_source(folder, own, select)
    except (BadFileError, OSError) as error:
        raise SourceChangedError(str(folder), str(error)) from error
    if after == before:
        return
    old, new = _stamps(before), _stamps(after)
    changed = sorted(path for path in {**old, **new} if old.get(path) != new.get(path))
    inner = [path for path in changed if path not in before.folders] or changed
    path = inner[0] if inner else "."
    what = "it is new" if path not in old else "it is gone" if path not in new else OTHER_STAMP
    raise SourceChangedError(str(folder / path), what)


@contextmanager
def opened(file: SourceFile) -> Iterator[int]:
    """A file as it was listed, open for reading; nothing else is ever opened in its place and waited for.

    Raises:
        SourceChangedError: If it is not, or no longer at the end, what was listed.
        BadFileError: If it cannot be read.
    """
    step("open")
    try:
        fd = os.open(file.place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise SourceChangedError(str(file.place), "it is gone") from None
    except OSError as error:
        raise BadFileError(str(file.place), f"cannot be read: {error.strerror}") from error
    try:
        _check_stamp(fd, file)
        yield fd
        step("close")
        _check_stamp(fd, file)
    except OSError as error:
        if error.filename is not None:
            raise
        raise BadFileError(str(file.place), f"cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


def steadily(attempt: Callable[[], R]) -> R:
    """Do something that reads a source; do it again, a few times at most, if the source changed meanwhile.

    Raises:
        SourceChangedError: If it changed each time.
    """
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except SourceChangedError:
            continue
    return attempt()


@dataclass(slots=True)
class _Walk:
    """Running state of listing one folder."""

    root: Path
    own: OwnStore | None
    select: Selection = ALL
    files: list[SourceFile] = field(default_factory=list)
    folders: dict[str, Stamp] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    """Folders with something to be stored."""
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    left: list[tuple[str, tuple[Identity, ...]]] = field(default_factory=lambda: [(".", ())])
    """Folders to be listed, each with those that it lies in."""

    def run(self) -> None:
        """List all folders."""
        while self.left:
            path, above = self.left.pop()
            self.enter(self.root / path, path, above)
            if len(self.folders) + len(self.files) > MOST_ENTRIES:
                raise BadFileError(str(self.root), f"more than {MOST_ENTRIES} files and folders")

    def take_files(self, names: tuple[str, ...]) -> None:
        """List some files alone: what else is in their folder does not matter."""
        for name in names:
            self.take(self.root / name, name, ".", ())
        for path, _ in self.left[1:]:
            self.problems.append((self.root / path, "expected a file, got a folder"))

    def enter(self, folder: Path, path: str, above: tuple[Identity, ...]) -> None:
        """List one folder."""
        step("folder")
        try:
            stamp = Stamp.of(folder.stat())
            names = sorted(entry.name for entry in folder.iterdir())
        except FileNotFoundError:
            raise SourceChangedError(str(folder), "it is gone") from None
        except OSError as error:
            self.problems.append((folder, f"cannot be read: {error.strerror}"))
            return
        here = (stamp.device, stamp.inode)
        if here in above:
            self.problems.append((folder, "a link to a folder that it lies in itself"))
        elif SETTINGS_FILE in names and is_store(folder):
            self.problems.append((folder, "a block store, which would be stored a second time: move it away"))
        else:
            self.folders[path] = stamp
            for name in names:
                self.take(folder / name, name if path == "." else f"{path}/{name}", path, (*above, here))

    def take(self, place: Path, path: str, parent: str, above: tuple[Identity, ...]) -> None:
        """List what has a name in a folder."""
        if path in self.select.apart:
            return
        if self.select.leaves_out(path):
            self.left_out.append(f"{path}/" if place.is_dir() else path)
            return
        try:
            check_path(path)
            found = place.stat()
            own = self.is_own(place, found)
        except ManifestError:
            self.problems.append((place, BAD_NAME))
        except OSError as error:
            self.miss(place, error)
        else:
            if own:
                self.skipped.append(path)
                return
            self.filled.add(parent)
            self.sort_in(place, path, found, above)

    def sort_in(self, place: Path, path: str, found: os.stat_result, above: tuple[Identity, ...]) -> None:
        """Note a file or a folder."""
        if stat.S_ISDIR(found.st_mode):
            self.left.append((path, above))
        elif stat.S_ISREG(found.st_mode):
            self.files.append(SourceFile(path, place, Stamp.of(found)))
        else:
            self.problems.append((place, f"expected a file or a folder, got {_kind(found.st_mode)}"))

    def miss(self, place: Path, error: OSError) -> None:
        """Note what cannot be looked at; what has gone since it was listed is a change."""
        if not os.path.lexists(place) and isinstance(error, FileNotFoundError):
            raise SourceChangedError(str(place), "it is gone") from None
        if isinstance(error, FileNotFoundError):
            why = f"a broken link, to {str(place.readlink())!r}"
        elif error.errno == errno.ELOOP:
            why = "a link to itself"
        else:
            why = f"cannot be read: {error.strerror}"
        self.problems.append((place, why))

    def is_own(self, place: Path, found: os.stat_result) -> bool:
        """Whether something is the store itself, or a link into it."""
        if self.own is None:
            return False
        return (found.st_dev, found.st_ino) in self.own.folders or (
            place.is_symlink() and self.own.holds(place)
        )


def _check_stamp(fd: int, file: SourceFile) -> None:
    if Stamp.of(os.fstat(fd)) != file.stamp:
        raise SourceChangedError(str(file.place), OTHER_STAMP)


def _stamps(source: Source) -> dict[str, Stamp]:
    return {**source.folders, **{file.path: file.stamp for file in source.files}}


def _let_the_clock_pass(walk: _Walk) -> None:
    """Wait until the clock that stamps files is past all stamps: a later change then shows in a new one."""
    newest = max(stamp.ctime_ns for stamp in (*walk.folders.values(), *(file.stamp for file in walk.files)))
    for _ in range(20):  # a tick is 1 to 10 ms; stamps of another machine's clock may lie ahead for longer
        if time.clock_gettime_ns(_COARSE_CLOCK) > newest:
            return
        time.sleep(0.001)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _refusal(problems: list[tuple[Path, str]]) -> BadFileError:
    (path, why), *others = problems
    named = "; ".join(f"{_text(place)}: {what}" for place, what in others[: MOST_NAMED - 1])
    more = f"; and {len(others) - MOST_NAMED + 1} more" if len(others) >= MOST_NAMED else ""
    return BadFileError(_text(path), f"{why}; {named}{more}" if named else why)


def _text(path: Path) -> str:
    """A path for a message, with escapes for what cannot be printed."""
    text = str(path)
    return text if text.isprintable() else text.encode("unicode_escape", "surrogatepass").decode("ascii")
