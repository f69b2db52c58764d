"""Python files of one's own that are named on the command line, `./mine.py:NAME`: they are run."""

import re
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from policy.errors import SchemeError

_IN_FILE = re.compile(r"(?P<file>.+?\.py):(?P<attribute>[A-Za-z_]\w*)")


def file_of(name: str) -> tuple[Path, str, str] | None:
    """File, attribute, and the rest of a name such as `./my_scheme.py:ENTRY+no-comp`; None for others."""
    match = _IN_FILE.match(name)
    return None if match is None else (Path(match["file"]), match["attribute"], name[match.end() :])


def own_object(file: Path, attribute: str) -> object:
    """What a file calls so; the file's folder is where it imports from.

    Raises:
        SchemeError: If there is no such file or name, or the file cannot be run.
    """
    path = file.resolve()
    if not path.is_file():
        raise SchemeError(f"no such file: {file}")
    module = _run(path, path.stat().st_mtime_ns)
    if not hasattr(module, attribute):
        raise SchemeError(f"{file} has no {attribute!r}")
    return getattr(module, attribute)


@cache
def _run(path: Path, changed_ns: int) -> object:
    """The module of a file, run once for each state of it."""
    spec = spec_from_file_location(f"own_file_{path.stem}", path)
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
