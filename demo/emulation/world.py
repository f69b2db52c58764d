"""The world around the roles: the clock of slots, users who move and ask, faults as the script has them."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from starlette.applications import Starlette

from demo.emulation.log.events import (
    Delivered,
    Ended,
    Event,
    Faulted,
    Planned,
    Recovered,
    Requested,
    SlotBegan,
    Started,
    from_dict,
)
from demo.emulation.log.fold import Snapshot
from demo.emulation.log.writer import LogWriter
from demo.emulation.runtime.base import ORIGIN, Runtime, device_place, node_place
from demo.emulation.walkins import WalkIns
from demo.emulation.wire.ask import Answer, NotReachedError, Verb, Wire, control_routes
from pbstore.serve.run import App, serving
from policy.interfaces import Float, Int

log = logging.getLogger(__name__)
KEPT_PLANS = 256
"""Slots whose computed delays are remembered for who is still to be served."""
LEADER_S = 60.0
"""How long a node that leads is looked for, s."""
DECIDE_S = 600.0
"""How long a node may take to decide and to fill its cache, s."""

RETRY_S = 0.2
"""How long is waited before who did not answer is asked again, s."""
MEND_S = 120.0
"""How long users who are not served are waited for, s."""


class StalledError(Exception):
    """The live edge does not go on: nobody answers, or devices are not served."""

    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who asks for what, and from where, in one slot."""

    user_xy: Float
    """(users, 2), m."""
    requests: Int
    """(users,), -1 for none."""
    source: str = "trace"


class World:
    """Runs the slots of a live edge.

    Args:
        runtime: Starts roles.
        started: What is run; the first line of the log.
        path: The log.
        listener: Called with each event after it was written.
        patience_s: How long nodes wait for one another's reports, s.
    """

    def __init__(
        self,
        runtime: Runtime,
        started: Started,
        path: Path,
        listener: Callable[[Event], None] | None = None,
        patience_s: float = 10.0,
    ) -> None:
        self._runtime, self._about, self._patience_s = runtime, started, patience_s
        self._wire, self._stack = Wire(), ExitStack()
        self.state = Snapshot()
        """All that was logged so far."""
        self._listener = listener
        self.log = LogWriter(path, self._heard)
        self.urls: dict[str, str] = {}
        """Address of each role that runs."""
        self.on_phase: Callable[[int, str], None] = lambda slot, phase: None
        """Called when a phase of a slot begins: `decide`, `ask`, `serve`."""
        self._computed: dict[int, tuple[float, ...]] = {}
        self._is_over = False
        self.slot = 0
        models = {about.name: number for number, about in enumerate(started.models)}
        self.walk_ins = WalkIns(models, started.num_users)
        self.num_users = started.num_users
        self._pool = ThreadPoolExecutor(len(started.nodes) + started.num_users, "world")

    def __enter__(self) -> "World":
        self.log.write(self._about)
        verbs: dict[str, Verb] = {"events": self._take, "client": self.walk_ins.ask}
        with self._stack:
            self._collector = self._stack.enter_context(serving(control_app(verbs), self._runtime.host))
            self._stack.callback(self._runtime.close)
            first, *others = self.places()
            self.urls[first] = self._runtime.start(first)
            self.urls.update(zip(others, self._pool.map(self._runtime.start, others), strict=True))
            self.introduce()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.walk_ins.close()
        self._stack.close()
        self._pool.shutdown()
        self._wire.close()
        self.log.close()

    def places(self) -> list[str]:
        """Names of all roles."""
        nodes = [node_place(about.node) for about in self._about.nodes]
        return [ORIGIN, *nodes, *map(device_place, range(self._about.num_users))]

    def introduce(self, places: Sequence[str] | None = None) -> None:
        """Tell roles where all others are, and what time it is."""
        known = {
            "nodes": {str(n.node): self.urls.get(node_place(n.node), "") for n in self._about.nodes},
            "devices": {str(k): self.urls.get(device_place(k), "") for k in range(self._about.num_users)},
        }
        told: dict[str, Any] = {
            kind: {at: url for at, url in table.items() if url} for kind, table in known.items()
        }
        here = list(self.urls) if places is None else [place for place in places if place in self.urls]
        list(self._pool.map(lambda place: self._greet(place, told), here))

    def _greet(self, place: str, told: Mapping[str, Any]) -> None:
        now_s = self.log.now_s()
        self.ask(place, "hello", collector=self._collector, now_s=now_s, slot=self.slot, **told)

    def ask(self, place: str, verb: str, patience_s: float = 20.0, **question: Any) -> Answer | None:  # noqa: ANN401
        """Ask a role; None if it does not answer."""
        url = self.urls.get(place)
        try:
            return None if url is None else self._wire.ask(url, verb, patience_s, **question)
        except NotReachedError as error:
            log.info("%s", error)
            return None

    def step(self, wanted: Wanted) -> None:
        """One slot: nodes decide, users move and ask, nodes report, the first of them leads the service."""
        slot = self.slot
        self.on_phase(slot, "decide")
        self._all_nodes("decide", DECIDE_S, slot=slot)
        places = tuple(tuple(map(float, xy)) for xy in wanted.user_xy)
        self.log.write(SlotBegan(slot=slot, user_xy=places))
        self.on_phase(slot, "ask")
        self._ask_for(wanted)
        self._all_nodes("close", 3 * self._patience_s, slot=slot, wait_s=self._patience_s)
        self.on_phase(slot, "serve")
        self._lead("serve", slot=slot)
        self.slot += 1

    @property
    def waiting(self) -> list[tuple[int, int, str]]:
        """Slot, user and model of each request that is not delivered."""
        with self.log.paused():
            devices = dict(self.state.devices)
            return [(slot, user, model) for user, device in devices.items() for slot, model in device.waiting]

    def serve_clients(self, user_xy: Float, is_over: Callable[[], bool]) -> None:
        """Live by the requests of clients at the devices' endpoints: a slot whenever somebody asks.

        Args:
            user_xy: Where users are, (users, 2), m.
            is_over: Says when to stop.
        """
        while not is_over():
            if self.walk_ins.wait(0.2):
                self.step(Wanted(user_xy=user_xy, requests=self.walk_ins.take(), source="client"))
                self.mend(MEND_S)

    def mend(self, patience_s: float) -> None:
        """Go on until all users are served.

        Raises:
            StalledError: If some are not in time.
        """
        end = time.monotonic() + patience_s
        while waiting := self.waiting:
            self._lead("mend")
            if waiting == self.waiting:  # somebody is gone, and nothing can be done until it is back
                time.sleep(RETRY_S)
            if self.waiting and time.monotonic() > end:
                raise StalledError(f"not served after {patience_s:.0f} s (slot, user, model): {self.waiting}")

    def end(self) -> Ended:
        """Write the last line."""
        for place in list(self.urls):
            self.ask(place, "flush")
        self._is_over = True
        totals = self.state.totals
        sums = {item.name: getattr(totals, item.name) for item in fields(Ended)}
        ended = Ended(**sums)
        self.log.write(ended)
        return ended

    def fault(self, fault: str, place: str, about: str) -> None:
        """Log a fault."""
        self.log.write(Faulted(slot=self.slot, fault=fault, place=place, about=about))

    def recovered(self, fault: str, place: str, seconds: float) -> None:
        """Log a recovery."""
        self.log.write(Recovered(slot=self.slot, fault=fault, place=place, recovered_s=seconds))

    def kill(self, place: str) -> None:
        """End a role at once."""
        self.urls.pop(place, None)
        self._runtime.kill(place)

    def restart(self, place: str, *, comes_back: bool) -> None:
        """Start a role again and let all know."""
        self.urls[place] = self._runtime.start(place, comes_back=comes_back)
        self.introduce()

    def break_inside(self, place: str, fault: str, seed: int, seconds: float) -> str:
        """Have a role break itself; what it did, empty if it does not answer."""
        answer = self.ask(place, "fault", fault=fault, seed=seed, seconds=seconds)
        return "" if answer is None else str(answer["about"])

    def _ask_for(self, wanted: Wanted) -> None:
        """Every device says where it is; who asks for something tells the nearest node that answers."""
        xy = np.array([[about.x_m, about.y_m] for about in self._about.nodes])

        def one(user: int) -> Answer | None:
            place = wanted.user_xy[user]
            near = np.argsort(np.linalg.norm(xy - place, axis=1), kind="stable").tolist()
            urls = [self.urls[node_place(n)] for n in near if node_place(n) in self.urls]
            return self.ask(
                device_place(user),
                "ask",
                slot=self.slot,
                xy=[float(value) for value in place],
                model=int(wanted.requests[user]),
                source=wanted.source,
                nodes=urls,
            )

        answers = self._pool.map(one, range(self._about.num_users))
        for user, answer in enumerate(answers):
            if wanted.requests[user] >= 0:
                model = self._about.models[int(wanted.requests[user])].name
                node = -1 if answer is None else int(answer["node"])
                self.log.write(
                    Requested(slot=self.slot, user=user, model=model, node=node, source=wanted.source)
                )

    def _all_nodes(self, verb: str, patience_s: float, **question: Any) -> None:  # noqa: ANN401
        nodes = [node_place(about.node) for about in self._about.nodes]
        list(self._pool.map(lambda place: self.ask(place, verb, patience_s, **question), nodes))

    def _lead(self, verb: str, **question: Any) -> None:  # noqa: ANN401
        """Have the first node that answers lead; when it goes in the middle, the next goes on.

        Raises:
            StalledError: If no node does.
        """
        again, end = False, time.monotonic() + LEADER_S
        while time.monotonic() < end:
            for about in self._about.nodes:
                told = {"again": again, "open": self._open(), **question}
                if self.ask(node_place(about.node), verb, DECIDE_S, **told) is not None:
                    return
                again = True
            time.sleep(RETRY_S)
        raise StalledError(f"no node leads slot {self.slot}")

    def _open(self) -> list[dict[str, Any]]:
        """Requests that are not delivered, each with the delay that was planned for it."""
        return [
            {
                "slot": slot,
                "user": user,
                "model": model,
                "computed_s": self._computed[slot][user] if slot in self._computed else 0.0,
            }
            for slot, user, model in self.waiting
        ]

    def _take(self, question: Mapping[str, Any]) -> Answer:
        """Take events of a role; what comes after the end was told by a role that is gone."""
        for row in () if self._is_over else question["events"]:
            event = from_dict(row)
            if not self._is_told_twice(event):
                self.log.write(event)
        return {}

    def _is_told_twice(self, event: Event) -> bool:
        """Whether a good delivery is logged already: a leader that was cut off tells it when it is back."""
        if not isinstance(event, Delivered) or not event.sha256_ok:
            return False
        return (event.slot, event.user, event.model) not in self.waiting

    def _heard(self, line: Any) -> None:  # noqa: ANN401
        self.state.take(line)
        if isinstance(line.event, Planned):
            self._computed[line.event.slot] = line.event.computed_delay_s
            self._computed.pop(line.event.slot - KEPT_PLANS, None)
        self.walk_ins.heard(line.event)
        if self._listener is not None:
            self._listener(line.event)


def control_app(verbs: Mapping[str, Verb]) -> App:
    """An application that only answers questions."""
    routes = control_routes(verbs)(None)  # type: ignore[arg-type]
    return Starlette(routes=list(routes))
