"""Names of models on the command line: patterns, and revisions behind an `@`."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demo.cli.store_shared import IN_THE_STORE, complete_name
from pbstore import ModelMissingError

if TYPE_CHECKING:
    from pbstore import DiskBlockStore

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


def matching(
    names: Iterable[str], wanted: Sequence[str], where: str = IN_THE_STORE, *, all_known: bool = False
) -> list[str]:
    """Those of some names that are wanted by name or pattern, each once, in the order of what is wanted.

    A revision behind an `@` is that of each name that matches. What is no pattern is taken as it is, or with
    `all_known` only if it is one of the names.

    Raises:
        ModelMissingError: If nothing matches.
    """
    from pbstore.disk.index.revisions import AT

    chosen: dict[str, None] = {}
    known = list(dict.fromkeys(names))
    for one in wanted:
        name, at, revision = one.partition(AT)
        matches = [one]
        if is_pattern(name):
            matches = [f"{match}{at}{revision}" for match in known if fnmatchcase(match, name)]
        elif all_known and name not in known:
            matches = []
        if not matches:
            raise ModelMissingError(one, where)
        chosen.update(dict.fromkeys(matches))
    return list(chosen)


def chosen(store: "DiskBlockStore", wanted: Sequence[str]) -> list[str]:
    """`matching`, of the models of a store; each is there.

    Raises:
        ModelMissingError: If nothing matches, or there is no model of a name.
    """
    names = matching(store.models() if any(map(is_pattern, wanted)) else (), wanted)
    for name in names:
        store.disk.model_row(name)
    return names


def chosen_in_trash(store: "DiskBlockStore", wanted: Sequence[str]) -> list[str]:
    """`matching`, of the removed models of a store.

    Raises:
        ModelMissingError: If nothing matches.
    """
    from pbstore.disk.index.revisions import AT

    return matching((item.name.partition(AT)[0] for item in store.trash.models()), wanted, "in the trash")


def one_or_list(items: Sequence[Any]) -> Any:  # noqa: ANN401
    """What is printed as JSON: one document for one model, a list of them for several."""
    return items[0] if len(items) == 1 else {"models": list(items)}


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
