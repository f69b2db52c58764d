"""The one place where text goes out: names are text, tables fit the terminal, numbers stay whole.

Names of models, files and tensors come from anybody. They are never markup, and what would steer a terminal
is shown as Python would write it. Tables shorten names in the middle where the terminal is too narrow;
numbers never, and nothing at all where the output is no terminal.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from shutil import get_terminal_size
from textwrap import wrap
from typing import IO, Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from policy.strict_json import strict_json

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
    head, tail = width // 2, (width - 1) // 2
    while head + tail and cell_len(text[:head]) + cell_len(text[len(text) - tail :]) > width - 1:
        head, tail = (head - 1, tail) if head >= tail else (head, tail - 1)
    return f"{text[:head]}…{text[len(text) - tail :]}"


def counted(number: int, what: str) -> str:
    """How many there are of something: 1 file, 12 files."""
    return f"{number} {what}{'' if number == 1 else 's'}"


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


_moving: list[str] = []
"""What moves on the terminal now."""


@contextmanager
def busy(what: str) -> Iterator[Callable[[int, int], None]]:
    """While the block runs, a moving line on standard error with the time so far; nothing in a pipe.

    Gives a function that is told how much is done, and of how much. What is printed meanwhile stands above.
    Within another one nothing is added.
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    if _moving:
        yield lambda done, total: None
        return
    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), text, BarColumn(30), TimeElapsedColumn())
    with Progress(*columns, console=errors(), transient=True, disable=not sys.stderr.isatty()) as bars:
        bar = bars.add_task(visible(what), total=None)
        _moving.append(what)
        try:
            yield lambda done, total: bars.update(bar, completed=done, total=total)
        finally:
            _moving.remove(what)


def tell_count(what: str, done: int, total: int) -> None:
    """Say on standard error how much is done: on a terminal in the place of the last, else in a line."""
    start, end = ("\r", "\n" * (done == total)) if sys.stderr.isatty() else ("", "\n")
    print(f"{start}{visible(what)}: {done}/{total}", end=end, file=sys.stderr, flush=True)


def warn_over(line: str) -> None:
    """Print a line on standard error that the next one is written over, where that is a terminal."""
    print(visible(line), end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def answers_yes(question: str) -> bool:
    """Ask on standard error and read one line."""
    print(visible(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write(file: TextIO, line: str) -> None:
    encoding = file.encoding or "utf-8"
    text = visible(line).encode(encoding, "backslashreplace").decode(encoding)
    if file.isatty():
        text = at_words(text, get_terminal_size().columns)
    print(text, file=file, flush=True)


def at_words(line: str, width: int) -> str:
    """A line broken between words where it is wider than a terminal; a word that is wider stays whole."""
    if cell_len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip(" "))] + "  "
    parts = wrap(line, width - 1, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts)


@dataclass(slots=True)
class JsonOut:
    """Whether this command has printed its document: there is one on standard output, never two."""

    printed: bool = False


json_out = JsonOut()


def print_json(document: object, *, indent: int | None = 2) -> None:
    """Print the one JSON document of a command: strict (see `policy.strict_json`), in ASCII."""
    json_out.printed = True
    print(strict_json(document, indent), flush=True)


class Sheet:
    """A table of texts, which are shortened where they must, and of numbers, which are not."""

    def __init__(self, *columns: str, title: str = "", **style: Any) -> None:  # noqa: ANN401
        """A column whose heading begins with `#` holds numbers; `style` is for rich's Table.

        The title may have several lines, so no name that has a line end may stand in it as it is.
        """
        self._heads = [visible(column.removeprefix("#")) for column in columns]
        self._is_number = [column.startswith("#") for column in columns]
        self._rows: list[tuple[list[str], str]] = []
        self._title = Text("\n".join(map(visible, title.split("\n")))) if title else None
        self._style = {"title_justify": "left", "caption_justify": "left", "header_style": "bold", **style}

    def row(self, *cells: object, style: str = "") -> None:
        """Add a row; missing cells are empty."""
        texts = [visible(cell) for cell in cells]
        self._rows.append((texts + [""] * (len(self._heads) - len(texts)), style))

    def print(self, console: Console | None = None) -> None:
        """Print the table as wide as it must be, and no wider than the terminal as far as texts give way."""
        (screen() if console is None else console).print(self, crop=False, no_wrap=True, overflow="ignore")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For rich: the table that fits."""
        widths = [max(map(cell_len, column)) for column in zip(*self._texts(), strict=True)]
        frame = self._natural_width(console, self._table(widths)) - sum(widths)
        self._narrow(widths, options.max_width - frame)
        table = self._table(widths)
        yield from console.render(table, options.update(width=self._natural_width(console, table)))

    def _texts(self) -> list[list[str]]:
        return [self._heads, *(cells for cells, _ in self._rows)]

    def _natural_width(self, console: Console, table: Table) -> int:
        endless = console.options.update(width=ENDLESS)
        return max(Measurement.get(console, endless, table).maximum, _longest_line(self._title))

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(title=self._title, **self._style)
        for head, width, is_number in zip(self._heads, widths, self._is_number, strict=True):
            justify: JustifyMethod = "right" if is_number else "left"
            table.add_column(Text(shortened(head, width)), justify=justify, no_wrap=True, min_width=width)
        for cells, style in self._rows:
            fitted = (Text(shortened(cell, width)) for cell, width in zip(cells, widths, strict=True))
            table.add_row(*fitted, style=style or None)
        return table

    def _narrow(self, widths: list[int], room: int) -> None:
        """Make columns of texts narrower, the widest first, until all fit or none can be."""
        while sum(widths) > room:
            long = [i for i, width in enumerate(widths) if not self._is_number[i] and width > SHORTEST]
            if not long:
                return
            widths[max(long, key=widths.__getitem__)] -= 1


def _longest_line(text: Text | None) -> int:
    return max(map(cell_len, text.plain.split("\n"))) if text is not None else 0


def table_of(heads: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Sheet:
    """A table at once."""
    sheet = Sheet(*heads, title=title)
    for row in rows:
        sheet.row(*row)
    return sheet
