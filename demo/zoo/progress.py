"""Progress on stderr: bars on a terminal, one line per finished task elsewhere; stdout stays for results."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from demo.console import errors, visible, warn

Step = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class Bars:
    """The bars of one run."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._live = enabled and sys.stderr.isatty()
        title = TextColumn("{task.description}", markup=False)
        columns = (title, BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        self._progress = Progress(
            *columns,
            TimeElapsedColumn(),
            console=errors(),
            disable=not self._live,
            transient=True,
        )

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def task(self, title: str) -> Iterator[Step]:
        """A bar while the block runs, then one line with the time it took."""
        start = time.monotonic()
        bar = self._progress.add_task(visible(title), total=None)
        try:
            yield lambda step, steps: self._progress.update(bar, completed=step, total=steps)
            self.line(f"{title}: {time.monotonic() - start:.1f} s", always=False)
        finally:
            self._progress.remove_task(bar)

    def line(self, text: str, *, always: bool = True) -> None:
        """One line above the bars; warnings are shown even when progress is not."""
        if self._live:
            self._progress.console.print(text, soft_wrap=True)
        elif self._enabled or always:
            warn(text)
