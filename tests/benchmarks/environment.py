"""A virtual environment for the peers of a benchmark, which sees the packages of this one."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path


def make_environment(home: Path, install: Callable[[list[str]], None]) -> Path:
    """Python of an environment that is made once, and anew if it was not finished.

    Args:
        home: Its folder.
        install: Called with the command that installs packages whose names follow it.
    """
    python = home / "bin" / "python"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
        (Path(paths["purelib"]) / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
        install([str(python), "-m", "pip", "install", *quiet])
        (home / "done").touch()
    return python
