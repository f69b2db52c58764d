"""The leading node of a slot: plans it, has others fetch and send, and sees that all devices are served."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from demo.emulation.log.events import Delivered, Planned
from demo.emulation.roles.casts import CastPlan, alone_of, casts_of, repairs
from demo.emulation.roles.lanes import Lanes
from demo.emulation.roles.mind import Minds, Row, Service
from demo.emulation.roles.neighbours import Neighbours
from demo.emulation.roles.sending import Sending
from demo.emulation.roles.settings import EdgeSettings
from demo.emulation.roles.teller import Teller
from demo.emulation.wire.air import part_row
from demo.emulation.wire.ask import NotReachedError, Wire
from pbstore import BlockId, Manifest, ModelMissingError

log = logging.getLogger(__name__)
Open: TypeAlias = Mapping[str, Any]
"""A request that is not delivered: `slot`, `user`, `model`, and the delay that was planned for it."""
REPAIRS = 4
"""Rounds in which what devices miss is sent again, before the next slot goes on with it."""

KEPT_SLOTS = 256
"""Slots of which it is remembered when their service began, for who is served later."""


class Conductor:
    """Conducts slots.

    Args:
        settings: Of the node that leads.
        minds: What plans.
        wire: How others are asked.
        teller: Where events go.
        neighbours: Who there is.
    """

    def __init__(
        self, settings: EdgeSettings, minds: Minds, wire: Wire, teller: Teller, neighbours: Neighbours
    ) -> None:
        self._settings, self._minds, self._neighbours = settings, minds, neighbours
        self._wire, self._teller = wire, teller
        self._manifests: dict[str, Manifest] = {}
        self._computed: dict[tuple[int, int], float] = {}
        self._began: dict[int, float] = {}
        self._sending = Sending(settings, minds, neighbours, teller)

    def serve(self, rows: Sequence[Row], waiting: Sequence[Open], *, again: bool) -> dict[str, Any]:
        """Serve the last slot: prepare devices, have nodes fetch, send, repair, check.

        Args:
            rows: History, the slot to be served last.
            waiting: Requests that are not delivered, those of earlier slots too.
            again: The node that led before is gone: only what devices still lack is sent.
        """
        slot, service = len(rows) - 1, self._minds.service(rows)
        outcome = service.outcome
        self._teller.tell(
            Planned(
                slot=slot,
                node=self._settings.node,
                transfers=len(outcome.transfers),
                broadcasts=len(outcome.broadcasts),
                plan_ms=1e3 * service.seconds,
                computed_delay_s=tuple(outcome.user_delay_s.tolist()),
            )
        )
        for user in np.flatnonzero(rows[-1].requests >= 0).tolist():
            self._computed[slot, user] = float(outcome.user_delay_s[user])
        self._sending.gone = self._prepare(rows, service)
        began = self._teller.now_s()
        if not again:
            self._began[slot] = began
            self._began.pop(slot - KEPT_SLOTS, None)
            self._move(service)
            self._send_all(rows, casts_of(service.outcome, self._settings.unit_bytes))
        return self._finish(rows, waiting, began)

    def mend(self, rows: Sequence[Row], waiting: Sequence[Open]) -> dict[str, Any]:
        """Go on with what devices still wait for, between slots or after the last."""
        self._sending.gone = set()
        return self._finish(rows, waiting, self._teller.now_s())

    def _prepare(self, rows: Sequence[Row], service: Service) -> set[int]:
        """Tell every device that asked what it is about to get, and what the plan counts on it to have.

        Returns:
            Users whose devices do not answer.
        """
        slot, requests, delays = len(rows) - 1, rows[-1].requests, service.outcome.user_delay_s
        gone = set()
        for user in np.flatnonzero(requests >= 0).tolist():
            self._computed[slot, user] = float(delays[user])
            name = self._settings.model_names[requests[user]]
            kept = [] if service.kept is None else np.flatnonzero(service.kept[user]).tolist()
            parts = [part_row(part) for unit in kept for part in self._settings.units[unit]]
            if not self._prepare_one(user, slot, name, parts):
                gone.add(user)
        return gone

    def _prepare_one(self, user: int, slot: int, name: str, keep: Sequence[Mapping[str, Any]] | None) -> bool:
        """Tell one device; whether it answers. A device that knows already is not disturbed."""
        manifests = self._manifests_of(name)
        if not manifests:
            return False
        told = self._neighbours.ask_device(
            user, "prepare", slot=slot, model=name, manifests=manifests, keep=keep
        )
        return told is not None

    def _manifests_of(self, name: str) -> list[str]:
        """Manifests of a model and of the base that it needs to run, as JSON; empty if nobody has one."""
        wanted = [name, *filter(None, [self._settings.bases.get(name)])]
        try:
            for one in wanted:
                if one not in self._manifests:
                    self._manifests[one] = self._find_manifest(one)
        except NotReachedError as error:
            log.info("%s", error)
            return []
        return [self._manifests[one].to_json() for one in wanted]

    def _find_manifest(self, name: str) -> Manifest:
        """A manifest from the origin, else from a node that has seen it."""
        try:
            return self._wire.manifest(self._settings.origin_url, name)
        except NotReachedError:
            for node in self._neighbours.others(self._settings.node):
                answer = self._neighbours.ask_node(node, "manifest", name=name)
                if answer is not None:
                    return Manifest.from_json(answer["manifest"])
            raise

    def manifest(self, name: str) -> Manifest:
        """A manifest that was seen.

        Raises:
            ModelMissingError: If it was not.
        """
        if name not in self._manifests:
            raise ModelMissingError(name)
        return self._manifests[name]

    def _move(self, service: Service) -> None:
        """Have every node fetch what the plan gives it, in its order."""
        alone, pace = alone_of(service.outcome, len(self._settings.units)), self._settings.pace
        lists: dict[int, list[list[float | bool]]] = {}
        for move in sorted(service.outcome.transfers, key=lambda one: (one.start_s, one.end_s)):
            seconds = (move.end_s - move.start_s) / pace if pace else 0.0
            lists.setdefault(move.target, []).append(
                [move.block, move.source, bool(alone[move.block]), seconds]
            )
        for go in (False, True):  # all know what will come where before anybody asks for it
            for node, moves in lists.items():
                self._neighbours.ask_node(node, "move", moves=moves, go=go)

    def _send_all(self, rows: Sequence[Row], casts: Sequence[CastPlan]) -> None:
        """Send a plan: at once what it has at once."""
        if any(cast.pieces for cast in casts):
            Lanes(self._sending, self._minds, rows, self._settings.at_once).run(casts)
        else:
            self._sending.send_all(rows, casts)

    def _finish(self, rows: Sequence[Row], waiting: Sequence[Open], began: float) -> dict[str, Any]:
        """Check devices, send again what they miss, and check again; who still waits is told."""
        for one in waiting:
            self._computed.setdefault((one["slot"], one["user"]), float(one["computed_s"]))
            self._prepare_one(one["user"], one["slot"], one["model"], None)
        lacking = self._check(began)
        for _ in range(REPAIRS):
            if not lacking:
                break
            for cast in repairs(lacking, self._settings.units):
                self._sending.send(rows, cast)
            lacking = self._check(began)
        return {"waiting": sorted(lacking)}

    def _check(self, began: float) -> dict[int, list[BlockId]]:
        """Have devices check what is whole; blocks that the others still lack."""
        lacking: dict[int, list[BlockId]] = {}
        for user in self._neighbours.devices:
            answer = self._neighbours.ask_device(user, "finish", 120.0)
            for row in () if answer is None else answer["done"]:
                self._deliver(user, row, began)
            if answer is not None and answer["lacks"]:
                lacking[user] = [BlockId(one) for one in answer["lacks"]]
        return lacking

    def _deliver(self, user: int, row: Mapping[str, Any], began: float) -> None:
        slot, pace = int(row["slot"]), self._settings.pace or 1.0
        computed_s = self._computed.pop((slot, user), 0.0)
        since = self._began.get(slot, began) if row["by_air"] else float(row["told_s"])
        self._teller.tell(
            Delivered(
                slot=slot,
                user=user,
                model=str(row["model"]),
                delay_s=max(0.0, float(row["done_s"]) - since) * pace,
                computed_delay_s=computed_s,
                wait_s=float(row["waited_s"]),
                received_bytes=int(row["received_bytes"]),
                unicast_weight_bytes=int(row["unicast_weight_bytes"]),
                files_sha256=str(row["files_sha256"]),
                sha256_ok=bool(row["sha256_ok"]),
                by_air=bool(row["by_air"]),
                lived_s=float(row["lived_s"]),
            )
        )
        self._teller.flush()
