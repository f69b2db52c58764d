"""Names of models' rows: a model as it is, one of its earlier revisions, or one of these in the trash.

No model's name has a colon, so the name of a row says which of them it is, and for how long:
`NAME`, `past:NAME:STAMP`, `trash:STAMP:NAME`, `trash:STAMP:past:NAME:STAMP`.
"""

import re
from dataclasses import dataclass, replace
from typing import Self

from pbstore.disk.files.layout import manifest_file, past_file, trash_file
from pbstore.errors import IndexCorruptError

TRASH = "trash:"
PAST = "past:"
_NAME = re.compile(
    rf"(?:{TRASH}(?P<removed>[0-9]{{1,18}}):)?(?:{PAST}(?P<earlier>[^:]+):(?P<stamp>[0-9]{{1,18}})|(?P<model>[^:]+))"
)
IN_TRASH = f"name >= '{TRASH}' AND name < 'trash;'"
"""Condition on rows of removed models."""
IS_PAST = f"name >= '{PAST}' AND name < 'past;'"
"""Condition on rows of earlier revisions."""
LIVE = f"NOT ({IN_TRASH}) AND NOT ({IS_PAST})"
"""Condition on rows of models as they are."""


@dataclass(frozen=True, slots=True)
class RowName:
    """What the name of a row says."""

    model: str
    past_ms: int | None = None
    """Of an earlier revision, when it became the model's, milliseconds since 1970; each has its own."""
    removed_ms: int | None = None
    """When it was put into the trash, milliseconds since 1970; None if it was not."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a row's name.

        Raises:
            IndexCorruptError: If no row may be called so.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise IndexCorruptError("a model's row has an impossible name")
        stamp, removed = found["stamp"], found["removed"]
        return cls(
            found["model"] or found["earlier"],
            None if stamp is None else int(stamp),
            None if removed is None else int(removed),
        )

    def __str__(self) -> str:
        inner = self.model if self.past_ms is None else f"{PAST}{self.model}:{self.past_ms}"
        return inner if self.removed_ms is None else f"{TRASH}{self.removed_ms}:{inner}"

    @property
    def file(self) -> str:
        """File of its manifest."""
        if self.removed_ms is not None:
            return trash_file(self.model, self.removed_ms, self.past_ms)
        return manifest_file(self.model) if self.past_ms is None else past_file(self.model, self.past_ms)

    def called(self, model: str) -> "RowName":
        """The same of a model that is called otherwise."""
        return replace(self, model=model)

    def removed(self, stamp_ms: int | None) -> "RowName":
        """The same in the trash, or out of it."""
        return replace(self, removed_ms=stamp_ms)

    def earlier(self, stamp_ms: int | None) -> "RowName":
        """The same as an earlier revision, or as the model that it is."""
        return replace(self, past_ms=stamp_ms)


def own_name(name: str) -> str:
    """The name that a model has or had, from that of its row."""
    return RowName.parse(name).model
