"""An edge node: decides by what nodes report, caches its row of the decision, fetches, and sends."""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.emulation.air import Tempo
from demo.emulation.faults.inside import break_role
from demo.emulation.log.events import ORIGIN, Decided, Reported
from demo.emulation.node import EdgeNode
from demo.emulation.roles.conduct import Conductor
from demo.emulation.roles.mind import Minds
from demo.emulation.roles.neighbours import Neighbours
from demo.emulation.roles.reports import Reports
from demo.emulation.roles.settings import EdgeSettings
from demo.emulation.roles.shelves import Link, Shelves, Wish
from demo.emulation.roles.teller import Teller
from demo.emulation.roles.visits import VisitedLibrary
from demo.emulation.wire.air import AirObject, part_of
from demo.emulation.wire.ask import Answer, Verb, Wire, control_routes
from demo.emulation.wire.band import Band
from demo.emulation.wire.offers import OfferedLibrary, Offers, offered_blocks
from pbstore import BlockMissingError
from pbstore.serve.app import create_app
from pbstore.serve.run import App
from policy.interfaces import Bool

log = logging.getLogger(__name__)
_KEPT_OBJECTS = 2
"""Objects that are kept ready for each broadcast that may be on the air: it and the next."""
_KEPT_TEMPOS = 64


class EdgeRole:
    """One edge node.

    Args:
        settings: What it is.
        minds: What decides.
        band: The air.
        comes_back: Whether it finds on its disk what an earlier node left.
    """

    def __init__(self, settings: EdgeSettings, minds: Minds, band: Band, *, comes_back: bool = False) -> None:
        self.settings, self._minds, self._band = settings, minds, band
        self.wire = Wire()
        self.teller = Teller(self.wire)
        edge = EdgeNode(settings.folder, settings.capacity_bytes, comes_back=comes_back)
        self.shelves = Shelves(settings.node, edge, settings.units, self.wire, self.teller)
        self._offers = Offers(self.shelves.give)
        self._link = Link(self.shelves, self.teller.flush)
        self.reports = Reports(settings.node, settings.num_users, self.wire)
        self._is_met = False
        """Whether it knows who else there is."""
        self._neighbours = Neighbours(self.wire)
        self._objects: dict[tuple[tuple[int, ...], bool], tuple[bytes, int]] = {}
        self._tempos: dict[tuple[int, ...], Tempo] = {}
        """Of broadcasts whose rates may change, by slot and number."""
        self._mutex = threading.Lock()
        self._conductor = Conductor(settings, minds, self.wire, self.teller, self._neighbours)
        self._parts = OfferedLibrary(edge.cache.store, self._offers)
        clients = VisitedLibrary(edge.cache.store, settings.origin_url, self._visited)
        self.app: App = create_app(
            clients,
            groups=[control_routes(self._verbs(), lambda: self.wire.cut), offered_blocks(self._parts)],
        )

    def close(self) -> None:
        """Let go of threads, connections and files."""
        self._link.join()
        self.wire.close()
        asyncio.run(self._parts.close())
        self.shelves.close()

    def _visited(self, model: str) -> None:
        """A program asks here for a model: what decides sees it as a request."""
        if model in self.settings.model_names:
            self.reports.visit(self.settings.model_names.index(model))

    def _verbs(self) -> Mapping[str, Verb]:
        told: dict[str, Verb] = {
            "decide": self._decide,
            "request": self._request,
            "close": self._close_slot,
            "serve": self._serve,
            "mend": self._mend,
        }
        return {
            **{name: self._telling(self._if_met(verb)) for name, verb in told.items()},
            "hello": self._telling(self._hello),
            "flush": self._telling(lambda _: {}),
            "ping": lambda _: {},
            "report": self._hear,
            "history": lambda _: {"rows": [row.to_dict() for row in self.reports.rows]},
            "manifest": lambda one: {"manifest": self._conductor.manifest(str(one["name"])).to_json()},
            "move": self._move,
            "ensure": self._ensure,
            "air": self._air,
            "tempo": self._set_tempo,
            "offer": self._offer,
            "fault": self._fault,
        }

    def _if_met(self, verb: Verb) -> Verb:
        """A verb that a node refuses until it knows who else there is, and what has been."""

        def answer(question: Mapping[str, Any]) -> Answer:
            if not self._is_met:
                raise ValueError(f"node {self.settings.node} has not been told yet who else there is")
            return verb(question)

        return answer

    def _telling(self, verb: Verb) -> Verb:
        """A verb whose events are in the log before it answers."""

        def answer(question: Mapping[str, Any]) -> Answer:
            try:
                return verb(question)
            finally:
                self.teller.flush()

        return answer

    def _hello(self, question: Mapping[str, Any]) -> Answer:
        """Learn where all others are; a node that comes back takes up the history of one of them."""
        self.teller.meet(str(question["collector"]), float(question["now_s"]))
        self._neighbours.meet(question)
        self.shelves.urls = {ORIGIN: self.settings.origin_url, **self._neighbours.nodes}
        slot = int(question["slot"])
        if self.shelves.slot < 0 < slot:  # it comes in the middle of a slot, and begins the next
            self.shelves.slot = slot
        self.reports.catch_up(slot, self._neighbours.others(self.settings.node))
        self._is_met = True
        return {}

    def _decide(self, question: Mapping[str, Any]) -> Answer:
        slot, me = int(question["slot"]), self.settings.node
        self._link.join()
        self.reports.catch_up(slot, self._neighbours.others(me))
        rows = self.reports.rows[:slot]
        decision = self._minds.decision(rows)
        before = self._minds.decision(rows[:-1]).placement if rows else np.zeros_like(decision.placement)
        added, dropped = self._place(slot, decision.placement, before)
        held_bytes = self.shelves.end_slot()
        self._offers.forget()
        worth = () if decision.worth is None else decision.worth[me][added]
        self.teller.tell(
            Decided(
                slot=slot,
                node=me,
                added=tuple(added),
                dropped=tuple(dropped),
                held_bytes=held_bytes,
                worth=tuple(float(value) for value in worth),
                why=f"{self.settings.scheme} on {slot} slots of history",
                decision_ms=1e3 * decision.seconds,
            )
        )
        return {"message_bytes": decision.message_bytes}

    def _place(self, slot: int, wanted: Bool, before: Bool) -> tuple[list[int], list[int]]:
        """Make the cache hold its row: evict first, then fetch; units that came and went."""
        mine, cache = np.flatnonzero(wanted[self.settings.node]).tolist(), self.shelves.edge.cache
        parts = frozenset(part for unit in mine for part in self.settings.units[unit])
        held = cache.parts()
        dropped = [
            unit
            for unit, some in enumerate(self.settings.units)
            if any(part in held and part not in parts for part in some)
        ]
        self.shelves.evict(held - parts)
        added = [unit for unit in mine if any(not cache.has(part) for part in self.settings.units[unit])]
        wishes = [self._wish(unit, wanted, before) for unit in added if not self.shelves.keep_relayed(unit)]
        self.shelves.begin(slot, wishes)
        came = {
            wish.unit for wish in self._by_source(wishes) if self.shelves.fetch(wish, "update", cached=True)
        }
        self.shelves.expect_nothing()
        fetched = {wish.unit for wish in wishes}
        return [unit for unit in added if unit in came or unit not in fetched], dropped

    def _wish(self, unit: int, wanted: Bool, before: Bool) -> Wish:
        """Where a unit for the cache is taken from: a node that keeps it, or had it, or gets it first."""
        me = self.settings.node
        others = np.arange(wanted.shape[0]) != me
        stays = before[:, unit] & wanted[:, unit] & others
        had, gets = before[:, unit] & others, np.flatnonzero(wanted[:, unit] & ~before[:, unit])
        if stays.any():
            return Wish(unit, int(stays.argmax()), False)
        if had.any():
            return Wish(unit, int(had.argmax()), False)
        first = int(gets[0]) if gets.size else me
        return Wish(unit, ORIGIN if first == me else first, False)

    def _by_source(self, wishes: Sequence[Wish]) -> list[Wish]:
        """Those first that depend on nobody who is fetching just now."""
        return sorted(wishes, key=lambda wish: (wish.source != ORIGIN, wish.source, wish.unit))

    def _request(self, question: Mapping[str, Any]) -> Answer:
        """Take what a device says of itself: where it is, and what it asks for."""
        slot, user, model = int(question["slot"]), int(question["user"]), int(question["model"])
        self.reports.take(slot, user, [float(one) for one in question["xy"]], model)
        return {"node": self.settings.node}

    def _close_slot(self, question: Mapping[str, Any]) -> Answer:
        """Exchange reports with the other nodes; then the slot is known."""
        slot, me = int(question["slot"]), self.settings.node
        told = self.reports.exchange(slot, self._neighbours.others(me), float(question["wait_s"]))
        self.teller.tell(
            Reported(
                slot=slot,
                node=me,
                requests=told.requests,
                sent_bytes=told.sent_bytes,
                late=told.late,
                visits=told.visits,
            )
        )
        return {"late": list(told.late), "message_bytes": told.sent_bytes}

    def _hear(self, question: Mapping[str, Any]) -> Answer:
        self.reports.hear(question)
        return {}

    def _serve(self, question: Mapping[str, Any]) -> Answer:
        slot = int(question["slot"])
        self.reports.catch_up(slot + 1, self._neighbours.others(self.settings.node))
        rows = self.reports.rows[: slot + 1]
        return self._conductor.serve(rows, question["open"], again=bool(question["again"]))

    def _mend(self, question: Mapping[str, Any]) -> Answer:
        return self._conductor.mend(self.reports.rows, question["open"])

    def _move(self, question: Mapping[str, Any]) -> Answer:
        """Learn what to fetch; then, when all have learnt it, begin."""
        wishes = [Wish(int(u), int(s), bool(a), float(t)) for u, s, a, t in question["moves"]]
        (self._link.start if question["go"] else self.shelves.expect)(wishes)
        return {}

    def _ensure(self, question: Mapping[str, Any]) -> Answer:
        """Have some units ready to be sent; the hash of what would go out."""
        units, alone = [int(unit) for unit in question["units"]], bool(question["alone"])
        patience_s = float(question["wait_s"])
        for unit in self.shelves.wait_for(units, alone=alone, patience_s=patience_s):
            if not self.shelves.fetch(Wish(unit, ORIGIN, alone), "repair"):
                raise BlockMissingError(self.settings.units[unit][0].block_id, f"node {self.settings.node}")
        data, size = self._built(units, alone)
        return {"blake3": AirObject.hash_of(data), "payload_bytes": size}

    def _built(self, units: Sequence[int], alone: bool) -> tuple[bytes, int]:
        """The object that some units make; the last are kept: those on the air and the next."""
        key = (tuple(units), alone)
        with self._mutex:
            if key not in self._objects:
                parts = [
                    self.shelves.give(part, alone) for unit in units for part in self.settings.units[unit]
                ]
                content = AirObject(parts=tuple(parts))
                while len(self._objects) >= _KEPT_OBJECTS * self.settings.at_once:
                    del self._objects[next(iter(self._objects))]
                self._objects[key] = (content.encode(), content.payload_bytes)
            return self._objects[key]

    def _air(self, question: Mapping[str, Any]) -> Answer:
        """Send some units to some users."""
        units, alone = tuple(int(unit) for unit in question["units"]), bool(question["alone"])
        data, _ = self._built(units, alone)
        users = [int(user) for user in question["users"]]
        loss = {int(user): float(share) for user, share in question["loss"]}
        tempo = self._tempo(question) if "tempo" in question else None
        rate = float(question["rate_bit_s"]) if tempo is None else tempo.rate_bit_s
        sent = self._band.send(self.settings.node, data, users, rate, loss, tempo)
        with self._mutex:
            self._objects.pop((units, alone), None)
        return {
            "wire_bytes": sent.wire_bytes,
            "repair_bytes": sent.repair_bytes,
            "missed": list(sent.missed),
        }

    def _tempo(self, question: Mapping[str, Any]) -> Tempo:
        """The tempo of a broadcast: who asks first, to send it or to change it, begins it."""
        key = tuple(int(one) for one in question["tempo"])
        with self._mutex:
            if key not in self._tempos:
                while len(self._tempos) >= _KEPT_TEMPOS:
                    del self._tempos[next(iter(self._tempos))]
                self._tempos[key] = Tempo(float(question["rate_bit_s"]), float(question["most_bit_s"]))
            return self._tempos[key]

    def _set_tempo(self, question: Mapping[str, Any]) -> Answer:
        """Let a broadcast, on the air or about to be, go at another rate."""
        self._tempo(question).set(float(question["rate_bit_s"]))
        return {}

    def _offer(self, question: Mapping[str, Any]) -> Answer:
        alone = bool(question["alone"])
        parts = [part_of(row) for row in question["parts"]]
        units = sorted({self.shelves.unit_of[part] for part in parts})
        patience_s, slot = float(question["wait_s"]), int(question["slot"])
        self.shelves.wait_for(units, alone=alone, patience_s=patience_s, slot=slot)
        return self._offers.offer(parts, alone=alone)

    def packs(self) -> Path:
        """See `Breakable`."""
        return self.settings.folder / "cache"

    def step_clock(self, seconds: float) -> None:
        """See `Breakable`."""
        self.teller.step_s += seconds

    def _fault(self, question: Mapping[str, Any]) -> Answer:
        return break_role(self, question)
