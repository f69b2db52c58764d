"""The tree of commands and the one place where an error becomes a line and an exit code."""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from demo.blame import is_expected
from demo.cli.commands import COMMANDS, needs_extra
from demo.cli.signals import ending_on_signals
from demo.console import json_out, print_json, say, visible, warn

EXIT_CODES = (
    "Exit codes: 0 done; 1 an error, in one line; 2 usage; "
    "3 integrity (something does not hash to what it should); 130 interrupted. "
    'With --json an error is a JSON document on stdout, {"error": {"type", "message", "exit_code"}}, '
    "unless the command's own is there already; its line is on stderr."
)
INTERRUPTED = 130
NUMBER_OF_SYSTEM = re.compile(r"\[Errno -?\d+\] ")

DIST = "pbcast"


class LazyGroup(TyperGroup):
    """Imports a command's module only when that command is run, so that starting stays fast."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer's own context type is private
        """Names of all commands, in the order of the table."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """What a list of commands shows of one: its name and its first line."""
        if cmd_name in COMMANDS:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name].help)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401
        """The command that the first word names, from its module."""
        name = args[0]
        if name not in COMMANDS:
            if not name.startswith("-"):
                ctx.fail(f"No such command {name!r}.{meant(name, COMMANDS)}")
            return super().resolve_command(ctx, args)
        command = typer.main.get_command(import_module(COMMANDS[name].module).app)
        command.name = name
        _reflow(command)
        return name, command, args[1:]


def _reflow(command: Any) -> None:  # noqa: ANN401
    """Let lines of help break where the terminal ends, not where they do in the source; brackets are text."""
    if command.help:
        paragraphs = re.split(r"\n\s*\n", command.help)
        command.help = _as_text("\n\n".join(" ".join(part.split()) for part in paragraphs))
    for one in command.params:
        if getattr(one, "help", None):
            one.help = _as_text(one.help)
    for one in getattr(command, "commands", {}).values():
        _reflow(one)


def _as_text(help_text: str) -> str:
    """A help without markup: `[mount]` in it is no style."""
    return re.sub(r"\[(?=[a-z#/@])", r"\\[", help_text)


def meant(word: str, known: Iterable[str]) -> str:
    """A question that names what was probably meant; empty if nothing is near."""
    near = get_close_matches(word, list(known), 1, 0.65)
    return f" Did you mean {near[0]!r}?" if near else ""


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


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"{DIST} {version(DIST)}")
        raise typer.Exit


@app.callback()
def _root(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what is done, to stderr."),
    _version: bool = typer.Option(
        False, "--version", callback=_tell_version, is_eager=True, help="Show the version."
    ),
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
        result = app(args=argv, prog_name=DIST, standalone_mode=False)
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
        if not is_expected(error) and not _lacks_extra(error):
            raise
        if getattr(error, "exit_code", 1) == INTERRUPTED:  # said once, by whoever called
            return INTERRUPTED
        if logging.getLogger().isEnabledFor(logging.INFO):  # --verbose
            traceback.print_exc()
        told = said_plainly(error, sys.argv[1:] if argv is None else argv)
        return _fail(error, told, int(getattr(error, "exit_code", 1)), as_json)
    return result if isinstance(result, int) else 0


def _lacks_extra(error: Exception) -> bool:
    return isinstance(error, ModuleNotFoundError) and needs_extra(error.name) is not None


def said_plainly(error: Exception, words: Sequence[str] = ()) -> str:
    """An error as a sentence: a file's name before what is wrong with it, no numbers of the system's.

    Args:
        error: What went wrong.
        words: The command line, whose command says what should be installed.
    """
    if isinstance(error, ModuleNotFoundError):
        home = next((COMMANDS[word] for word in words if word in COMMANDS), None)
        extra = (home and home.extra) or needs_extra(error.name)
        return f"this needs {error.name}, which is not installed: pip install '{DIST}[{extra}]'"
    if type(error).__str__ is OSError.__str__ and isinstance(error, OSError) and error.strerror:
        files = [
            os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)
        ]
        where = " -> ".join(files)
        words = error.strerror[:1].lower() + error.strerror[1:]
        return f"{where}: {words}" if where else words
    return NUMBER_OF_SYSTEM.sub("", str(error))


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
