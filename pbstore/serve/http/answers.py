"""Counters of a server's answers: plain numbers of the event loop's thread, which the registry collects.

A client library's counter takes a lock for each step, several times for an answer: as much as all else that a
short answer costs.
"""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper ends of the durations that are told apart, s."""


class Answers(Collector):
    """How many answers of each route and code there were, and how long they took.

    Args:
        most_routes: Most routes that are told apart.
        other: What further ones are called.
    """

    def __init__(self, most_routes: int, other: str) -> None:
        self._most_routes, self._other = most_routes, other
        self._routes: set[str] = set()
        self._counts: dict[tuple[str, int], int] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def note(self, route: str, code: int, seconds: float) -> None:
        """An answer went out; to be called by one thread."""
        key = (route, code)
        if key not in self._counts:
            key = (self._bounded(route), code)
            self._counts.setdefault(key, 0)
        self._counts[key] += 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        requests = CounterMetricFamily(
            "pbcast_http_requests", "Requests that were answered.", labels=("route", "code")
        )
        for (route, code), count in tuple(self._counts.items()):
            requests.add_metric((route, str(code)), count)
        yield requests
        counts, total, buckets = tuple(self._buckets), 0, list[tuple[str, float]]()
        for end, count in zip((*BUCKETS, float("inf")), counts, strict=True):
            total += count
            buckets.append(("+Inf" if end == float("inf") else str(end), total))
        yield HistogramMetricFamily(
            "pbcast_http_request_duration_seconds",
            "Time from a request's head to the last byte of its answer.",
            buckets=buckets,
            sum_value=self._seconds,
        )

    def _bounded(self, route: str) -> str:
        if route not in self._routes and len(self._routes) < self._most_routes:
            self._routes.add(route)
        return route if route in self._routes else self._other
