"""Laws are about results, not about time: a busy machine must not fail them. In CI every run draws alike."""

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pbcast",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("pbcast")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job, which children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
