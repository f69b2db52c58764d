"""Schemes from outside: an entry in a file of one's own, or one that an installed package offers.

./my_scheme.py:ENTRY          a `SchemeEntry` in a Python file; the file's folder is where it imports from
[project.entry-points."pbcast.schemes"]
my-scheme = "my_package.module:ENTRY"   in the pyproject.toml of a package: its name is enough
"""

from importlib.metadata import entry_points
from pathlib import Path

from policy.errors import SchemeError
from policy.play.own_files import own_object
from policy.play.scheme import SchemeEntry

GROUP = "pbcast.schemes"
"""Group of the entry points."""


def own_entry(file: Path, attribute: str) -> SchemeEntry:
    """The entry in a file.

    Raises:
        SchemeError: If there is no such file or attribute, it is no `SchemeEntry`, or the file cannot be run.
    """
    entry = own_object(file, attribute)
    if not isinstance(entry, SchemeEntry):
        raise SchemeError(f"{file}: {attribute} is no SchemeEntry")
    return entry


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
