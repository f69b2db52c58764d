"""Names of models on the command line: patterns, and revisions behind an `@`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from demo.cli.store_shared import complete_name
from pbstore import DiskBlockStore, ModelMissingError

NamesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Names of models, or patterns such as 'org/*'.", metavar="NAME...", autocompletion=complete_name
    ),
]
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def is_pattern(name: str) -> bool:
    """Whether a name stands for all that it matches."""
    return any(sign in name for sign in "*?[")


def matching(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Those of some names that are wanted by name or pattern, each once, in the order of what is wanted.

    What is no pattern is taken as it is, with the revision that it may have.

    Raises:
        ModelMissingError: If nothing matches a pattern.
    """
    chosen: dict[str, None] = {}
    for one in wanted:
        matches = [name for name in names if fnmatchcase(name, one)] if is_pattern(one) else [one]
        if not matches:
            raise ModelMissingError(one)
        chosen.update(dict.fromkeys(matches))
    return list(chosen)


def chosen(store: DiskBlockStore, wanted: Sequence[str]) -> list[str]:
    """`matching`, of the models of a store; each is there.

    Raises:
        ModelMissingError: If nothing matches, or there is no model of a name.
    """
    names = matching(store.models(), wanted)
    for name in names:
        store.disk.model_row(name)
    return names


def parse_duration(text: str | None) -> float | None:
    """Seconds from a text such as `30d`, `12h` or `2w`.

    Raises:
        ValueError: If it is no number with a unit.
    """
    if text is None:
        return None
    number, unit = text.strip()[:-1], text.strip()[-1:]
    try:
        seconds = float(number) * _UNITS_S[unit]
    except (KeyError, ValueError):
        raise ValueError(f"expected a time such as 30d, 12h or 2w, got {text!r}") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"expected a time of at least 0, got {text!r}")
    return seconds


def age(seconds: float) -> str:
    """How long ago, for people: 5 min, 3 h, 12 d."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
