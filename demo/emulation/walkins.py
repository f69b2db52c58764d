"""Requests of real clients: who asks at a device's endpoint for what is not there waits for the next slot."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from demo.emulation.log.events import Delivered, Event
from policy.interfaces import Int

GATHER_S = 0.3
"""Clients that ask within so long of the first are served in one slot, s."""


class WalkIns:
    """Clients that wait; safe to use from many threads.

    Args:
        models: Number of each model that can be asked for.
        num_users: Users.
    """

    def __init__(self, models: Mapping[str, int], num_users: int) -> None:
        self._models, self._num_users = models, num_users
        self._waiting: dict[int, str] = {}
        self._served: set[tuple[int, str]] = set()
        self._changed = threading.Condition()
        self._is_open = True

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Wait until a user has a model.

        Raises:
            ValueError: If there is no such model, or the run ends first.
        """
        user, model = int(question["user"]), str(question["model"])
        if model not in self._models or not 0 <= user < self._num_users:
            raise ValueError(f"there is no model {model!r} in this run")
        with self._changed:
            self._served.discard((user, model))
            self._changed.wait_for(lambda: not self._is_open or user not in self._waiting)
            self._waiting[user] = model
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_open or (user, model) in self._served)
            if not self._is_open:
                raise ValueError("the run is over")
        return {}

    def heard(self, event: Event) -> None:
        """Take an event of the run: a delivery ends a wait."""
        if isinstance(event, Delivered):
            with self._changed:
                self._served.add((event.user, event.model))
                self._changed.notify_all()

    def wait(self, patience_s: float) -> bool:
        """Wait until somebody asks, and a little longer for others; whether somebody does."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting), patience_s)
            if not self._waiting:
                return False
        time.sleep(GATHER_S)
        return True

    def take(self) -> Int:
        """What each user who waits asks for, (users,), -1 for none; it is asked for no more."""
        requests = np.full(self._num_users, -1, dtype=np.int64)
        with self._changed:
            for user, model in self._waiting.items():
                requests[user] = self._models[model]
            self._waiting.clear()
            self._changed.notify_all()
        return requests

    def close(self) -> None:
        """The run is over: nobody waits any more."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
