"""Runs a command as root of namespaces of its own, without being root: `python rootless.py COMMAND ...`.

By itself on purpose: only a process with one thread can make a user namespace, and numpy starts more.
"""

import ctypes
import os
import sys
from pathlib import Path

NEW_USER, NEW_NET = 0x10000000, 0x40000000
"""CLONE_NEWUSER and CLONE_NEWNET (linux/sched.h)."""


def become_root() -> None:
    """Make a user and a network namespace in which this user is root.

    Raises:
        OSError: If the system does not let users do that.
    """
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_USER | NEW_NET):
        number = ctypes.get_errno()
        raise OSError(number, f"this system lets nobody make user namespaces ({os.strerror(number)})")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def command(*arguments: str) -> list[str]:
    """How to run a command of this Python that way."""
    return [sys.executable, str(Path(__file__).resolve()), sys.executable, *arguments]


if __name__ == "__main__":
    try:
        become_root()
    except OSError as error:
        sys.exit(f"pbcast: {error.strerror}; use --links plain")
    os.execv(sys.argv[1], sys.argv[1:])
