"""Sends at a rate: what was held up is caught up with, but not more of it than buffers hold."""

import threading
import time


class Tempo:
    """A rate that may change while something is sent at it; for any number of threads.

    Args:
        rate_bit_s: The rate at first, > 0; inf: no time passes.
        most_bit_s: What it never exceeds; None: it stays as it is.
    """

    def __init__(self, rate_bit_s: float, most_bit_s: float | None = None) -> None:
        self.most_bit_s = rate_bit_s if most_bit_s is None else most_bit_s
        self._changes = [(float("-inf"), rate_bit_s)]
        self._changed = threading.Condition()

    @property
    def rate_bit_s(self) -> float:
        """The rate now."""
        return self._changes[-1][1]

    def set(self, rate_bit_s: float) -> None:
        """Change the rate from now on, up to `most_bit_s`.

        Raises:
            ValueError: If it is not above 0.
        """
        if not rate_bit_s > 0:
            raise ValueError(f"rate_bit_s must be > 0, got {rate_bit_s}")
        with self._changed:
            self._changes.append((time.monotonic(), min(rate_bit_s, self.most_bit_s)))
            self._changed.notify_all()

    def due(self, start: float, bits: float) -> float:
        """When so many bits are through that begin at `start`, if the rate stays as it is now."""
        with self._changed:
            return self._due(start, bits)

    def wait(self, start: float, bits: float) -> float:
        """Sleep until so many bits are through that begin at `start`; when that is, also if it is over."""
        with self._changed:
            while (due := self._due(start, bits)) > time.monotonic():
                self._changed.wait(due - time.monotonic())
            return due

    def _due(self, start: float, bits: float) -> float:
        ends = [at for at, _ in self._changes[1:]]
        for (_, rate), end in zip(self._changes, ends, strict=False):
            through = max(0.0, end - start) * rate
            if through >= bits:
                return start + bits / rate
            start, bits = max(start, end), bits - through
        return start + bits / self._changes[-1][1]


class Pacer:
    """Lets a batch go when its last bit would have left a link of this rate."""

    def __init__(self, rate: float | Tempo, credit_bytes: int) -> None:
        """Start now; a rate in bit/s, or one that may change."""
        self.started = self._due = time.monotonic()
        self._tempo = rate if isinstance(rate, Tempo) else Tempo(rate)
        self._credit_bits = 8.0 * credit_bytes

    def wait(self, size: int) -> None:
        """Sleep until so many bytes more are due."""
        earliest = time.monotonic() - self._credit_bits / self._tempo.rate_bit_s
        self._due = self._tempo.wait(max(self._due, earliest), 8.0 * size)

    def idle(self) -> None:
        """Nothing was to be sent until now: that time is not caught up with."""
        self._due = max(self._due, time.monotonic())
