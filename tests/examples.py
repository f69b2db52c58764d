"""The examples of a package, found by looking: a new one is tested without a word here."""

from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]


def examples_of(package: str) -> list[str]:
    """Modules in `examples/` that are programs; schemes and learners have tests of their own."""
    files = sorted((ROOT / package / "examples").glob("[!_]*.py"))
    return [f"{package}.examples.{file.stem}" for file in files if "def main(" in file.read_text()]


def run_example(name: str, folder: Path) -> None:
    """Run it in this process; all files that it makes go into the folder."""
    import_module(name).main(folder)
