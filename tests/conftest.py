"""Laws are about results, not about time: a busy machine must not fail them. In CI every run draws alike."""

import os
import signal

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
