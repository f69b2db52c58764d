"""Laws are about results, not about time: a busy machine must not fail them. In CI every run draws alike."""

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator
from functools import cache

import httpx._transports.default as transports
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.thoroughness import TIMES, takes_slow

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: no more threads than cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Some machines forbid it: then each worker and each process of a test compiles all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Every client of httpx reads the certificates of all the world, for 40 ms of CPU, to speak plain HTTP here.
transports.create_ssl_context = cache(transports.create_ssl_context)

# Nor does it wait five seconds only: on a busy machine a server may take longer to get its turn.
for kind_of_wait in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, kind_of_wait, 60.0)

settings.register_profile(
    "pbcast",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("pbcast"), max_examples=100 * TIMES)
settings.load_profile("pbcast")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job, which children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Laws that name no number of examples are tried on 25, and on 100 in a run of slow tests."""
    if takes_slow(config.option.markexpr):
        settings.load_profile("long")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays: no garbage is sought while it comes, nor among it later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a matrix marked `sampled(n)` one case in n is plain and the rest slow: together all of it runs.

    A law of chance is plain in a plain run, where it is short, and slow in a run of slow tests: long.
    """
    seen: Counter[str] = Counter()
    long = takes_slow(config.option.markexpr)
    for item in items:
        if long and is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.slow)
        marker = item.get_closest_marker("sampled")
        if marker is None:
            continue
        law = item.nodeid.partition("[")[0]
        if seen[law] % marker.args[0]:
            item.add_marker(pytest.mark.slow)
        seen[law] += 1
