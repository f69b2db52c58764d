"""Command lines of the experiments: `--help` and a misspelt option change nothing."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def experiment_parser(doc: str | None, out: Path) -> argparse.ArgumentParser:
    """A parser with `--out`, where the results go, by default over the committed ones.

    Args:
        doc: The module's docstring.
        out: The committed file or folder.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=out, help="file or folder of the results (%(default)s)")
    return parser


def out_option(doc: str | None, out: Path, argv: Sequence[str] | None) -> Path:
    """Read a command line that has nothing but `--out`."""
    path: Path = experiment_parser(doc, out).parse_args(argv).out
    return path
