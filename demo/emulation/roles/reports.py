"""What nodes tell one another of a slot: where users are and what they asked for. It grows to the history."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from demo.emulation.roles.mind import Row
from demo.emulation.wire.ask import NotReachedError, Wire

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """One exchange of reports."""

    requests: int
    visits: tuple[int, ...]
    """Models that programs asked this node for."""
    sent_bytes: int
    late: tuple[int, ...]


class Reports:
    """A node's reports, its own and those of others; safe to use from many threads."""

    def __init__(self, node: int, num_users: int, wire: Wire) -> None:
        self._node, self.num_users, self._wire = node, num_users, wire
        self.rows: list[Row] = []
        """Slots that are known, from the first on."""
        self._own: dict[int, dict[int, tuple[list[float], int]]] = {}
        self._visited: set[int] = set()
        self._heard_visits: dict[int, dict[int, list[int]]] = {}
        self._heard: dict[int, dict[int, dict[int, tuple[list[float], int]]]] = {}
        self._changed = threading.Condition()

    def take(self, slot: int, user: int, xy: list[float], model: int) -> None:
        """Note what a device says of itself; a request outweighs an earlier word without one."""
        with self._changed:
            mine = self._own.setdefault(slot, {})
            if model >= 0 or user not in mine:
                mine[user] = (xy, model)

    def visit(self, model: int) -> None:
        """Note that a program asked this node for a model: once for each report, however often it does."""
        with self._changed:
            self._visited.add(model)

    def hear(self, question: Mapping[str, Any]) -> None:
        """Take another node's report."""
        users = {int(user): ([float(x), float(y)], int(model)) for user, x, y, model in question["users"]}
        with self._changed:
            slot, node = int(question["slot"]), int(question["node"])
            self._heard_visits.setdefault(slot, {})[node] = [int(one) for one in question["visits"]]
            self._heard.setdefault(slot, {})[node] = users
            self._changed.notify_all()

    def exchange(self, slot: int, others: Mapping[int, str], patience_s: float) -> Told:
        """Tell all others, wait for theirs, and take the slot into the history, with what came in time."""
        mine = dict(self._own.get(slot, {}))
        with self._changed:
            visits, self._visited = sorted(self._visited), set()
        users = [[user, *xy, model] for user, (xy, model) in mine.items()]
        sent, reached = 0, set[int]()
        for node, url in others.items():
            try:
                told = self._wire.ask_counted(
                    url, "report", patience_s, slot=slot, node=self._node, users=users, visits=visits
                )
                sent += told[1]
                reached.add(node)
            except NotReachedError as error:
                log.info("%s", error)
        heard = self._wait(slot, reached, patience_s)
        late = tuple(sorted(set(others) - set(heard)))
        every = {self._node: visits, **self._heard_visits.get(slot, {})}
        visited = sorted((node, model) for node, models in every.items() for model in models)
        self._append(slot, [mine, *heard.values()], tuple(visited))
        return Told(sum(model >= 0 for _, model in mine.values()), tuple(visits), sent, late)

    def _wait(
        self, slot: int, nodes: set[int], patience_s: float
    ) -> dict[int, dict[int, tuple[list[float], int]]]:
        end = time.monotonic() + patience_s
        with self._changed:
            while nodes - set(self._heard.get(slot, {})) and time.monotonic() < end:
                self._changed.wait(max(0.0, min(0.5, end - time.monotonic())))
            return dict(self._heard.get(slot, {}))

    def _append(
        self,
        slot: int,
        reports: list[dict[int, tuple[list[float], int]]],
        visits: tuple[tuple[int, int], ...],
    ) -> None:
        """One more slot; users of whom nobody says anything are where they were, and ask for nothing."""
        self._fill_up(slot)
        places = self._last_places()
        requests = np.full(self.num_users, -1, dtype=np.int64)
        for report in reports:
            for user, (xy, model) in report.items():
                places[user] = xy
                if model >= 0:
                    requests[user] = model
        self.rows.append(Row(places, requests, visits))
        tables: tuple[dict[int, Any], ...] = (self._own, self._heard, self._heard_visits)
        for table in tables:
            for old in [number for number in table if number < slot]:
                del table[old]

    def catch_up(self, slot: int, others: Mapping[int, str]) -> None:
        """Know all slots before one: from others, or in the end as slots of which nothing is known."""
        if len(self.rows) >= slot:
            return
        for url in others.values():
            try:
                rows = [Row.from_dict(row) for row in self._wire.ask(url, "history")["rows"]]
            except NotReachedError as error:
                log.info("%s", error)
                continue
            if len(rows) >= slot:
                self.rows = rows[:slot]
                return
        self._fill_up(slot)

    def _fill_up(self, slot: int) -> None:
        while len(self.rows) < slot:
            nobody = np.full(self.num_users, -1, dtype=np.int64)
            self.rows.append(Row(self._last_places(), nobody))

    def _last_places(self) -> Any:  # noqa: ANN401 - an array, (users, 2)
        return self.rows[-1].user_xy.copy() if self.rows else np.zeros((self.num_users, 2))
