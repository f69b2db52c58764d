"""Start a client in a process of its own, with `HF_ENDPOINT` at a device and an empty cache."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).with_name("program.py")
CLIENT_S = 300.0
"""How long a client may take, s."""
_PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")


class ClientError(Exception):
    """A client could not load or run a model."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Question:
    """A model to be loaded."""

    model: str
    """Name, or folder."""
    base: str | None
    """Of an adapter: name or folder of what it is put on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model gave."""

    sha256: str
    """Of all its outputs, bit by bit."""
    line: str
    seconds: float
    """That the whole process took."""


def ask_client(questions: Sequence[Question], endpoint: str | None) -> list[Answer]:
    """Load and run models in one new process.

    Args:
        questions: Which.
        endpoint: `HF_ENDPOINT` for models by name; None: they are folders, and nothing may be fetched.

    Raises:
        ClientError: If the client fails; with its last line.
    """
    began = time.monotonic()
    asked = json.dumps([{"model": one.model, "base": one.base} for one in questions])
    with tempfile.TemporaryDirectory(prefix="pbcast-client-") as cache:
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(PROGRAM)],
                input=asked,
                env=_environment(endpoint, cache),
                cwd=cache,
                capture_output=True,
                text=True,
                timeout=CLIENT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ClientError(f"a client did not end within {CLIENT_S:.0f} s") from None
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(rows) != len(questions):
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ClientError(f"a client failed on {questions[len(rows) if rows else 0].model}: {last[:300]}")
    spent = time.monotonic() - began
    return [Answer(row["sha256"], row["line"], spent) for row in rows]


def _environment(endpoint: str | None, cache: str) -> dict[str, str]:
    """An ordinary user's: nothing but where the Hub is; one thread, so that sums are taken in one order."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    where = {"HF_HUB_OFFLINE": "1"} if endpoint is None else {"HF_ENDPOINT": endpoint}
    return {**kept, **where, "HF_HOME": cache, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
