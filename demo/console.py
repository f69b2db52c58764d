"""The one place where text goes out: names are text, tables fit the terminal, numbers stay whole.

Names of models, files and tensors come from anybody. They are never markup, and what would steer a terminal
is shown as Python would write it. Tables shorten names in the middle where the terminal is too narrow;
numbers never, and nothing at all where the output is no terminal.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any, TextIO

from rich.box import HEAVY_HEAD, Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

SHORTEST = 12
"""Names are not shortened to fewer characters."""
ENDLESS = 100_000
"""Width where the output is no terminal."""


def visible(text: object) -> str:
    """A text in one line, with everything that is no printable character escaped as in Python.

    Control characters, escape sequences, line ends, marks that turn the direction of writing, and halves of
    surrogate pairs are shown, not sent.
    """
    return "".join(one if one.isprintable() else _escaped(one) for one in str(text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def shortened(text: str, width: int) -> str:
    """A text with its middle left out so that it takes at most so many columns of a terminal."""
    if cell_len(text) <= width:
        return text
    head, tail = (width - 1 + 1) // 2, (width - 1) // 2
    while head + tail and cell_len(text[:head]) + cell_len(text[len(text) - tail :]) > width - 1:
        head, tail = (head - 1, tail) if head >= tail else (head, tail - 1)
    return f"{text[:head]}…{text[len(text) - tail :]}"


class PlainConsole(Console):
    """A console to which every text is text: nothing in it is markup, an emoji or an escape sequence."""

    def __init__(self, file: IO[str] | None = None, *, stderr: bool = False) -> None:
        super().__init__(file=file, stderr=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal:
            self.width = ENDLESS

    def render_str(self, text: str, **settings: Any) -> Text:  # noqa: ANN401
        """See `Console`; called for every text and every cell: one text is one line."""
        return super().render_str(visible(text), **{**settings, "markup": False, "emoji": False})


def screen() -> PlainConsole:
    """Standard output as it is now."""
    return PlainConsole()


def errors() -> PlainConsole:
    """Standard error as it is now."""
    return PlainConsole(stderr=True)


def say(*lines: str) -> None:
    """Print lines on standard output, each as one line."""
    for line in lines:
        _write(sys.stdout, line)


def warn(*lines: str) -> None:
    """Print lines on standard error, each as one line."""
    for line in lines:
        _write(sys.stderr, line)


def _write(file: TextIO, line: str) -> None:
    encoding = file.encoding or "utf-8"
    text = visible(line).encode(encoding, "backslashreplace").decode(encoding)
    print(text, file=file, flush=True)


@dataclass(slots=True)
class JsonOut:
    """Whether this command has printed its document: there is one on standard output, never two."""

    printed: bool = False


json_out = JsonOut()


def print_json(document: object, *, indent: int | None = 2) -> None:
    """Print the one JSON document of a command, in ASCII."""
    json_out.printed = True
    print(json.dumps(document, indent=indent), flush=True)


class Sheet:
    """A table of texts, which are shortened where they must, and of numbers, which are not."""

    def __init__(self, *columns: str, title: str = "", box: Box | None = HEAVY_HEAD) -> None:
        """A column whose heading begins with `#` holds numbers, without the sign."""
        self._heads = [visible(column.removeprefix("#")) for column in columns]
        self._is_number = [column.startswith("#") for column in columns]
        self._rows: list[list[str]] = []
        self._styles: list[str] = []
        self._title, self._box = title, box

    def row(self, *cells: object, style: str = "") -> None:
        """Add a row; missing cells are empty."""
        texts = [visible(cell) for cell in cells]
        self._rows.append(texts + [""] * (len(self._heads) - len(texts)))
        self._styles.append(style)

    def print(self, console: Console | None = None) -> None:
        """Print the table as wide as it must be, and no wider than the terminal as far as texts give way."""
        console = screen() if console is None else console
        widths = self._widths(console.width)
        table = Table(box=self._box, title=Text(visible(self._title)) if self._title else None)
        table.title_justify = "left"
        for head, width, is_number in zip(self._heads, widths, self._is_number, strict=True):
            justify = "right" if is_number else "left"
            table.add_column(Text(head), justify=justify, no_wrap=True, min_width=width)  # type: ignore[arg-type]
        for cells, style in zip(self._rows, self._styles, strict=True):
            fitted = (Text(shortened(cell, width)) for cell, width in zip(cells, widths, strict=True))
            table.add_row(*fitted, style=style)
        needed = sum(widths) + self._frame
        if needed > console.width:
            console = _as_wide(console, needed)
        console.print(table, crop=False, no_wrap=True, overflow="ignore")

    @property
    def _frame(self) -> int:
        """Columns of the terminal that borders and spaces take."""
        return 3 * len(self._heads) + 1

    def _widths(self, room: int) -> list[int]:
        """Width of each column; the widest names give way first."""
        columns = zip(*([self._heads, *self._rows]), strict=True)
        widths = [max(map(cell_len, column)) for column in columns]
        surplus = sum(widths) + self._frame - room
        while surplus > 0:
            long = [i for i, width in enumerate(widths) if not self._is_number[i] and width > SHORTEST]
            if not long:
                break
            widest = max(long, key=lambda i: widths[i])
            widths[widest] -= 1
            surplus -= 1
        return widths


def _as_wide(console: Console, width: int) -> Console:
    """A console on the same file that takes longer lines."""
    wide = PlainConsole(console.file)
    wide.width = width
    return wide


def table_of(heads: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Sheet:
    """A table at once."""
    sheet = Sheet(*heads, title=title)
    for row in rows:
        sheet.row(*row)
    return sheet
