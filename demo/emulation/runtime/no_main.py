"""Imported in the process that roles are forked from: it tells them that the main program is there already.

`multiprocessing` has each new process run the main program's file again, under another name, for the sake of
what is pickled from it. Nothing of a role is; and the file may import for seconds, as that of a worker of Ray
does.
"""

import os
import sys
from multiprocessing import spawn

VARIABLE = "PBCAST_MAIN_FILE"


def main_file() -> str:
    """The file that a process started from here would run; empty: none."""
    return str(spawn.get_preparation_data("role").get("init_main_from_path", ""))


if VARIABLE in os.environ:
    sys.modules["__main__"].__file__ = os.environ.pop(VARIABLE)
