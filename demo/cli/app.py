"""The tree of commands and the one place where an error becomes a line and an exit code."""

import logging
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from demo.blame import is_expected
from demo.cli.signals import ending_on_signals
from demo.console import json_out, print_json, visible, warn

EXIT_CODES = (
    "Exit codes: 0 done; 1 an error, in one line; 2 usage; "
    "3 integrity (something does not hash to what it should); 130 interrupted. "
    'With --json an error is a JSON document on stdout, {"error": {"type", "message", "exit_code"}}, '
    "unless the command's own is there already; its line is on stderr."
)
INTERRUPTED = 130

COMMANDS: dict[str, str] = {
    # name on the command line: module whose `app` is a Typer
    "store": "demo.cli.store",
    "serve": "demo.cli.serve",
    "device": "demo.cli.device",
    "origin": "demo.cli.origin",
    "doctor": "demo.cli.doctor",
    "run": "demo.cli.run",
    "radio": "demo.cli.radio",
    "train": "demo.cli.train",
    "evaluate": "demo.cli.evaluate",
    "zoo": "demo.zoo.cli",
    "explain": "demo.cli.explain",
}


class LazyGroup(TyperGroup):
    """Imports a command's module only when that command is asked for, so that starting stays fast."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer's own context type is private
        """Names of all commands, in the order of the table."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """The command of that name, from its module."""
        if cmd_name in COMMANDS:
            command = typer.main.get_command(import_module(COMMANDS[cmd_name]).app)
            command.name = cmd_name
            return command
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="pbcast",
    cls=LazyGroup,
    help="Cache real Hugging Face models at the network edge, block by block, and broadcast them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class _VisibleLines(logging.Formatter):
    """Each record as one line of printable text."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return "\n".join(visible(line) for line in super().format(record).split("\n"))


@app.callback()
def _root(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what is done, to stderr."),
) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_VisibleLines("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, printing any error as one line on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    json_out.printed = False
    for stream in (sys.stdout, sys.stderr):
        _take_any_text(stream)
    with ending_on_signals() as ended:
        code = _run(argv, as_json)
    if code != INTERRUPTED:
        return code
    if ended:
        line = f"ended by {ended[0].name}; what was finished is kept"
        return _fail(KeyboardInterrupt(), line, 128 + ended[0], as_json)
    return _interrupted(as_json)


def _run(argv: Sequence[str] | None, as_json: bool) -> int:
    """Run one command; its exit code."""
    try:
        result = app(args=argv, standalone_mode=False)
    except typer.TyperException as error:
        if hasattr(error, "show") and not as_json:  # Typer's own account: the usage line and what was wrong
            error.message = visible(error.message)
            error.show()
            return error.exit_code
        return _fail(error, _message(error), error.exit_code, as_json)
    except typer.Exit as stop:
        result = stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        if not is_expected(error):
            raise
        if getattr(error, "exit_code", 1) == INTERRUPTED:  # said once, by whoever called
            return INTERRUPTED
        if logging.getLogger().isEnabledFor(logging.INFO):  # --verbose
            traceback.print_exc()
        return _fail(error, str(error), int(getattr(error, "exit_code", 1)), as_json)
    return result if isinstance(result, int) else 0


def _message(error: typer.TyperException) -> str:
    """What was wrong with the words of the command line."""
    return error.format_message() if hasattr(error, "format_message") else str(error)


def _interrupted(as_json: bool) -> int:
    if sys.stderr.isatty():
        warn("")  # leave the line of the progress and of ^C
    return _fail(KeyboardInterrupt(), "interrupted; what was finished is kept", INTERRUPTED, as_json)


def _fail(error: BaseException, message: str, code: int, as_json: bool) -> int:
    line = " ".join(message.split())
    if as_json and not json_out.printed:
        document = {"type": type(error).__name__, "message": line, "exit_code": code}
        print_json({"error": document})
    warn(f"pbcast: {line}")
    return code


def _take_any_text(stream: TextIO) -> None:
    """Let a stream whose encoding lacks a character show it escaped."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
