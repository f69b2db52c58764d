"""The leading node of a slot: plans it, has others fetch and send, and sees that all devices are served."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from demo.emulation.log.events import Broadcast, Delivered, Planned, Rejected
from demo.emulation.roles.casts import CastPlan, alone_of, casts_of, repairs
from demo.emulation.roles.mind import Minds, Row, Service
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


@dataclass(slots=True)
class Neighbours:
    """Where everybody is."""

    nodes: dict[int, str] = field(default_factory=dict)
    devices: dict[int, str] = field(default_factory=dict)

    def meet(self, question: Mapping[str, Any]) -> None:
        """Learn it."""
        self.nodes = {int(node): str(url) for node, url in question["nodes"].items()}
        self.devices = {int(user): str(url) for user, url in question["devices"].items()}

    def others(self, me: int) -> dict[int, str]:
        """All nodes but one."""
        return {node: url for node, url in self.nodes.items() if node != me}


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
        self._gone: set[int] = set()
        """Users whose devices do not answer."""

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
        self._gone = self._prepare(rows, service)
        began = self._teller.now_s()
        if not again:
            self._began[slot] = began
            self._began.pop(slot - KEPT_SLOTS, None)
            self._move(service)
            self._send_all(rows, list(casts_of(service.outcome, self._settings.unit_bytes)))
        return self._finish(rows, waiting, began)

    def mend(self, rows: Sequence[Row], waiting: Sequence[Open]) -> dict[str, Any]:
        """Go on with what devices still wait for, between slots or after the last."""
        self._gone = set()
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
        told = self._ask_device(user, "prepare", slot=slot, model=name, manifests=manifests, keep=keep)
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
                answer = self._ask_node(node, "manifest", name=name)
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
                self._ask_node(node, "move", moves=moves, go=go)

    def _send_all(self, rows: Sequence[Row], casts: Sequence[CastPlan]) -> None:
        """Send objects one after another; holders make the next one ready while one is on the air."""
        with ThreadPoolExecutor(1, "ahead") as ahead:
            ready = [ahead.submit(self._ready_holders, cast) for cast in casts[:1]]
            for number, cast in enumerate(casts):
                told = ready.pop().result()
                ready = [ahead.submit(self._ready_holders, one) for one in casts[number + 1 : number + 2]]
                self._send(rows, cast, told)

    def _send(
        self, rows: Sequence[Row], cast: CastPlan, told: dict[int, dict[str, Any]] | None = None
    ) -> None:
        """Send one object from all of its holders that have it; `told` by them, if they were asked before."""
        cast = replace(cast, users=tuple(user for user in cast.users if user not in self._gone))
        began = self._teller.now_s()
        if told is None and cast.users:
            told = self._ready_holders(cast)
        if not (told and cast.users):
            return
        holders = tuple(sorted(told))
        size = int(told[holders[0]]["payload_bytes"])
        rate = self._rate(rows, cast, holders, size)
        if rate <= 0:
            return
        began = self._teller.now_s() if self._settings.pace else began
        loss = self._minds.loss(rows, holders, cast.users) if self._settings.snr_loss else {}
        answer = self._air(cast, holders, rate, loss)
        self._gone |= {user for user in answer["missed"] if self._ask_device(user, "ping", 2.0) is None}
        self._teller.tell(
            Broadcast(
                slot=len(rows) - 1,
                units=cast.units,
                form="alone" if cast.alone else "kept",
                holders=holders,
                users=cast.users,
                rate_bit_s=rate,
                bound_bit_s=max(rate, self._minds.bound_bit_s(rows, holders, cast.users)),
                payload_bytes=size,
                wire_bytes=int(answer["wire_bytes"]),
                repair_bytes=int(answer["repair_bytes"]),
                started_s=began,
                ended_s=self._teller.now_s(),
                blake3=str(told[holders[0]]["blake3"]),
                missed=tuple(answer["missed"]),
                is_repair=cast.is_repair,
            )
        )
        self._teller.flush()

    def _ready_holders(self, cast: CastPlan) -> dict[int, dict[str, Any]]:
        """Holders that have all units and agree on their bytes; when all of the plan's are gone, any node."""
        told = self._ensure(cast, cast.holders)
        if not told:
            others = [node for node in self._neighbours.nodes if node not in cast.holders]
            for node in others:
                if told := self._ensure(cast, [node]):
                    break
        if not told:
            return {}
        agreed, _ = Counter(str(one["blake3"]) for one in told.values()).most_common(1)[0]
        for node in [node for node, one in told.items() if one["blake3"] != agreed]:
            self._reject(len(cast.units), f"node {node} would send other bytes")
            del told[node]
        return told

    def _ensure(self, cast: CastPlan, nodes: Sequence[int]) -> dict[int, dict[str, Any]]:
        question = {"units": list(cast.units), "alone": cast.alone, "wait_s": 60.0}

        def ask(node: int) -> dict[str, Any] | None:
            answer = self._ask_node(node, "ensure", 120.0, **question)
            # Once more: an answer that was lost on a worn connection must not change who sends.
            return answer or self._ask_node(node, "ensure", 120.0, **question)

        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            answers = list(pool.map(ask, nodes))
        return {node: answer for node, answer in zip(nodes, answers, strict=True) if answer is not None}

    def _rate(self, rows: Sequence[Row], cast: CastPlan, holders: tuple[int, ...], size: int) -> float:
        if holders == cast.holders and cast.seconds > 0:
            return 8.0 * size / cast.seconds
        return self._minds.rate_bit_s(rows, holders, cast.users)

    def _air(
        self, cast: CastPlan, holders: Sequence[int], rate: float, loss: Mapping[int, float]
    ) -> dict[str, Any]:
        """Let the first holder that is there put the object on the air for all."""
        question = {
            "units": list(cast.units),
            "alone": cast.alone,
            "users": list(cast.users),
            "rate_bit_s": rate * self._settings.pace,
            "loss": [[user, share] for user, share in loss.items()],
        }
        for node in holders:
            answer = self._ask_node(node, "air", 600.0, **question)
            if answer is not None:
                return answer
        return {"wire_bytes": 0, "repair_bytes": 0, "missed": list(cast.users)}

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
                self._send(rows, cast)
            lacking = self._check(began)
        return {"waiting": sorted(lacking)}

    def _check(self, began: float) -> dict[int, list[BlockId]]:
        """Have devices check what is whole; blocks that the others still lack."""
        lacking: dict[int, list[BlockId]] = {}
        for user in self._neighbours.devices:
            answer = self._ask_device(user, "finish", 120.0)
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

    def _reject(self, unit: int, why: str) -> None:
        self._teller.tell(Rejected(slot=-1, place=f"node {self._settings.node}", unit=unit, why=why))

    def _ask_node(
        self,
        node: int,
        verb: str,
        patience_s: float = 20.0,
        **question: Any,  # noqa: ANN401
    ) -> dict[str, Any] | None:
        return self._ask(self._neighbours.nodes.get(node), verb, patience_s, question)

    def _ask_device(
        self,
        user: int,
        verb: str,
        patience_s: float = 20.0,
        **question: Any,  # noqa: ANN401
    ) -> dict[str, Any] | None:
        return self._ask(self._neighbours.devices.get(user), verb, patience_s, question)

    def _ask(
        self, url: str | None, verb: str, patience_s: float, question: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The answer; None if there is none."""
        try:
            return None if url is None else self._wire.ask(url, verb, patience_s, **question)
        except NotReachedError as error:
            log.info("%s", error)
            return None
