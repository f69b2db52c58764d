"""Sends at a rate: what was held up is caught up with, but not more of it than buffers hold."""

import time


class Pacer:
    """Lets a batch go when its last bit would have left a link of this rate."""

    def __init__(self, rate_bit_s: float, credit_bytes: int) -> None:
        """Start now."""
        self.started = self._due = time.monotonic()
        self._second_a_byte = 8.0 / rate_bit_s
        self._credit_s = credit_bytes * self._second_a_byte

    def wait(self, size: int) -> None:
        """Sleep until so many bytes more are due."""
        now = time.monotonic()
        self._due = max(self._due, now - self._credit_s) + size * self._second_a_byte
        if self._due > now:
            time.sleep(self._due - now)

    def idle(self) -> None:
        """Nothing was to be sent until now: that time is not caught up with."""
        self._due = max(self._due, time.monotonic())
