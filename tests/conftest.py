"""Laws are about results, not about time: a busy machine must not fail them. In CI every run draws alike."""

import os
import signal
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: no more threads than cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "pbcast",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("pbcast")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job, which children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a matrix marked `sampled(n)` one case in n is plain and the rest slow: together all of it runs."""
    seen: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("sampled")
        if marker is None:
            continue
        law = item.nodeid.partition("[")[0]
        if seen[law] % marker.args[0]:
            item.add_marker(pytest.mark.slow)
        seen[law] += 1
