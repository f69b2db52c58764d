"""The semidefinite program of `pbcast radio --sdp`: its price said before, its progress, an end at once.

The convex solver is one long call into native code, which no signal interrupts: so it runs in a process of
its own, which ends with this one.
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from demo.console import warn, warn_over
from radio import BroadcastResult, SolverFailedError, solve_broadcast

__all__ = ["SdpCost", "announce", "sdp_cost", "solve_sdp"]

_SAY_EVERY_S = 10.0
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SdpCost:
    """What the solver will take, to a factor of about two: fitted to runs of Clarabel on one 2 GHz core."""

    seconds: float
    memory_bytes: float

    def __str__(self) -> str:
        small, seconds = self.memory_bytes < 1e9, max(self.seconds, 1.0)
        memory = self.memory_bytes / (1e6 if small else 1e9)
        size = f"{memory:.0f} MB" if small else f"{memory:.1f} GB"
        passed = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        return f"about {passed} and {size}"


def sdp_cost(users: int, antennas: int, *, robust: bool) -> SdpCost:
    """From the numbers of users that wait and of antennas that send.

    A complex Hermitian matrix of size n is a real cone of c = n (2n + 1) numbers, whose scaling is dense: c^2
    numbers, and c^3 operations a step. Known channels have one of the antennas' size, CSI error adds one with
    a row more for every user.
    """
    plain = float(antennas * (2 * antennas + 1))
    seconds, memory = 3e-10 * plain**3, 64.0 * plain**2
    if robust:
        cone = float((antennas + 1) * (2 * antennas + 3))
        seconds, memory = seconds + 1e-8 * users * cone**3, memory + 128.0 * users * cone**2
    return SdpCost(seconds=1.0 + seconds, memory_bytes=1.5e8 + memory)


def announce(users: int, antennas: int, *, robust: bool) -> None:
    """Say what the program takes, before anything is solved.

    Raises:
        SolverFailedError: If it would not fit into the memory of this machine.
    """
    cost = sdp_cost(users, antennas, robust=robust)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if cost.memory_bytes > memory:
        raise SolverFailedError("--sdp", f"it takes {cost}, and this machine has {memory / 1e9:.0f} GB")
    _say(f"--sdp takes {cost}; Ctrl-C stops it")


def solve_sdp(problem: tuple[Any, ...], options: dict[str, Any], seed: int) -> tuple[BroadcastResult, float]:
    """`radio.solve_broadcast(*problem, **options)` in a process of its own.

    Args:
        problem: Positional arguments: h, power, noise, holders, users.
        options: Keyword arguments.
        seed: Of the generator.

    Returns:
        The result and its CPU time, ms.

    Raises:
        SolverFailedError: If the process died.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.jobs.broadcast_sdp", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C comes here, and only here
    )
    try:
        answer = _wait(process, pickle.dumps((problem, options, seed)))
    finally:  # an interruption, too
        process.kill()
        process.wait()
    if process.returncode != 0 and not answer:
        raise SolverFailedError("--sdp", f"its process ended with {process.returncode}: out of memory?")
    result: BroadcastResult | Exception
    result, cpu_ms = pickle.loads(answer)
    if isinstance(result, Exception):
        raise result
    return result, cpu_ms


def _wait(process: "subprocess.Popen[bytes]", question: bytes) -> bytes:
    """The answer of the process, with a line now and then."""
    started, said = time.monotonic(), 0.0
    send: bytes | None = question
    while True:
        try:
            return process.communicate(send, timeout=0.2)[0]
        except subprocess.TimeoutExpired:
            send = None
        passed = time.monotonic() - started
        if passed - said >= (1.0 if sys.stderr.isatty() else _SAY_EVERY_S):
            said = passed
            _say(f"--sdp: {passed:.0f} s", over=True)


def _say(line: str, *, over: bool = False) -> None:
    """On stderr; over the last line where that is a terminal."""
    (warn_over if over else warn)(line)


def _main() -> None:
    """In the process: read the question, die with the parent, answer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return
    problem, options, seed = pickle.loads(sys.stdin.buffer.read())
    started = time.process_time()
    try:
        answer: BroadcastResult | Exception = solve_broadcast(
            *problem, **{**options, "rng": np.random.default_rng(seed)}
        )
    except Exception as error:  # told by the parent, of whatever kind it is
        answer = error
    sys.stdout.buffer.write(pickle.dumps((answer, 1e3 * (time.process_time() - started))))


if __name__ == "__main__":
    _main()
