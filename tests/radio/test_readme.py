"""The README's example prints what the README says."""

import contextlib
import io
import re
from pathlib import Path


def test_the_example_prints_its_comments() -> None:
    text = (Path(__file__).parents[2] / "radio" / "README.md").read_text()
    (code,) = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)  # all that the page has
    promised = re.findall(r"^# (.*)$", code, re.MULTILINE)
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        exec(code, {})

    # The gap is at the level of rounding, so its digits may differ from machine to machine.
    without_gap = [re.sub(r"gap .*", "gap", line) for line in printed.getvalue().splitlines()]
    assert without_gap == [re.sub(r"gap .*", "gap", line) for line in promised]
