"""Schemes from outside: an entry in a file of one's own, or one that an installed package offers.

    ./my_scheme.py:ENTRY          a `SchemeEntry` in a Python file; the file's folder is where it imports from
    [project.entry-points."pbcast.schemes"]
    my-scheme = "my_package.module:ENTRY"   in the pyproject.toml of a package: its name is enough

A file named here is run, as `python my_scheme.py` would.
"""

import re
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from policy.errors import SchemeError
from policy.play.scheme import SchemeEntry

GROUP = "pbcast.schemes"
"""Group of the entry points."""
_IN_FILE = re.compile(r"(?P<file>.+?\.py):(?P<attribute>[A-Za-z_]\w*)")


def file_of(name: str) -> tuple[Path, str, str] | None:
    """File, attribute, and the rest of a name such as `./my_scheme.py:ENTRY+no-comp`; None for others."""
    found = _IN_FILE.match(name)
    return None if found is None else (Path(found["file"]), found["attribute"], name[found.end() :])


def own_entry(file: Path, attribute: str) -> SchemeEntry:
    """The entry in a file.

    Raises:
        SchemeError: If there is no such file or attribute, it is no `SchemeEntry`, or the file cannot be run.
    """
    path = file.resolve()
    if not path.is_file():
        raise SchemeError(f"no such file: {file}")
    entry = getattr(_run(path, path.stat().st_mtime_ns), attribute, None)
    if not isinstance(entry, SchemeEntry):
        raise SchemeError(f"{file} has no SchemeEntry {attribute!r}")
    return entry


@cache
def _run(path: Path, changed_ns: int) -> object:
    """The module of a file, run once for each state of it."""
    spec = spec_from_file_location(f"own_scheme_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SchemeError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SchemeError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def offered() -> dict[str, str]:
    """Schemes that installed packages offer: name, and where it is (`module:attribute`)."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def offered_entry(name: str) -> SchemeEntry:
    """The entry that an installed package offers under a name.

    Raises:
        SchemeError: If it cannot be imported or is no `SchemeEntry`.
    """
    (point, *_) = entry_points(group=GROUP, name=name)
    try:
        entry = point.load()
    except (ImportError, AttributeError) as error:
        raise SchemeError(f"scheme {name!r} of {point.value} cannot be imported: {error}") from error
    if not isinstance(entry, SchemeEntry):
        raise SchemeError(f"scheme {name!r}: {point.value} is no SchemeEntry")
    return entry
