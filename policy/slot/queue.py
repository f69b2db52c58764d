"""A plan for given holders: links carry what is sent first, and never wait while they could work.

A link that waits for a copy from another node takes the next transfer that can start. The orders found so are
then kept as the plan.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from policy.config import LinkConfig
from policy.slot.timeline import CLOUD, Cast, Move, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A broadcast to be timed: who sends to whom, and for how long."""

    holders: tuple[int, ...]
    users: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that has to happen for one block."""

    block: int
    size_bits: float
    """On the wire."""
    cached: tuple[int, ...]
    """Nodes that have it in their cache."""
    holders: tuple[int, ...]
    """Nodes that must have it before it is sent; contains `cached`."""
    sends: tuple[Send, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """Nodes that have to fetch it."""
        return tuple(node for node in self.holders if node not in self.cached)


def plan_of(jobs: list[Job], links: LinkConfig, links_free: list[float]) -> Plan:
    """Plan of jobs in sending order.

    A block that nobody caches comes to the holder with the shortest
    queue.
    """
    queue = _Queue(links_free)
    load = list(links_free)
    for number, job in enumerate(jobs):
        hop, cloud = job.size_bits / links.backhaul_bit_s, job.size_bits / links.cloud_bit_s
        first = CLOUD if job.cached else min(job.missing, key=load.__getitem__)
        for node in job.missing:
            load[node] += cloud if node == first else hop
            if first == CLOUD:
                queue.add(
                    number, Move(blocks=(job.block,), seconds=(hop,), source=job.cached[0], target=node)
                )
            elif node == first:
                queue.add(number, Move(blocks=(job.block,), seconds=(cloud,), source=CLOUD, target=node))
            else:
                queue.wait(number, Move(blocks=(job.block,), seconds=(hop,), source=first, target=node))
    queue.run()
    casts = [
        Cast(
            blocks=(job.block,), seconds=(send.seconds,), holders=send.holders, users=send.users, after=after
        )
        for number, job in enumerate(jobs)
        for after in [tuple(queue.places.get(number, ()))]
        for send in job.sends
    ]
    return Plan(moves=tuple(queue.moves), casts=tuple(casts))


class _Queue:
    """Links that take the next transfer that can start."""

    def __init__(self, links_free: list[float]) -> None:
        """Empty queues; `links_free` is (nodes,), s."""
        self.moves: list[Move] = []
        self.places: dict[int, list[int]] = {}
        self._free = list(links_free)
        self._direct: list[deque[tuple[int, Move]]] = [deque() for _ in links_free]
        self._relays: list[list[tuple[float, int, int]]] = [[] for _ in links_free]
        self._waiting: dict[int, list[Move]] = {}
        self._relayed: list[Move] = []

    def add(self, job: int, move: Move) -> None:
        """A transfer that waits for nobody."""
        self._direct[move.target].append((job, move))

    def wait(self, job: int, move: Move) -> None:
        """A transfer of what the job's first transfer brings."""
        self._waiting.setdefault(job, []).append(move)

    def run(self) -> None:
        """Start transfers, always the one that can start first, of several the one that is sent first."""
        while True:
            start, node = min((self._start(node), node) for node in range(len(self._free)))
            if start == math.inf:
                return
            job, move = self._take(node)
            self.places.setdefault(job, []).append(len(self.moves))
            self.moves.append(move)
            self._free[node] = end = start + sum(move.seconds)
            for later in self._waiting.pop(job, []):
                heappush(self._relays[later.target], (end, job, len(self._relayed)))
                self._relayed.append(replace(later, after=len(self.moves) - 1))

    def _start(self, node: int) -> float:
        """When the link could start its next transfer."""
        if self._direct[node]:
            return self._free[node]
        return max(self._free[node], self._relays[node][0][0]) if self._relays[node] else math.inf

    def _take(self, node: int) -> tuple[int, Move]:
        """The transfer that the link starts next."""
        direct, relays = self._direct[node], self._relays[node]
        waits = bool(relays) and relays[0][0] > self._free[node]
        if direct and (not relays or waits or direct[0][0] < relays[0][1]):
            return direct.popleft()
        _, job, place = heappop(relays)
        return job, self._relayed[place]
