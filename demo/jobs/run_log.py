"""The event log of `pbcast run`: what real bytes were moved, on the clock of the plan. See `EVENTS.md`."""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType

import numpy as np

from demo.emulation.log.events import (
    Broadcast,
    Decided,
    Delivered,
    Ended,
    Event,
    Line,
    Planned,
    Requested,
    SlotBegan,
    Started,
    Transferred,
)
from demo.emulation.log.fold import Snapshot
from demo.emulation.log.writer import LogWriter
from demo.emulation.replay import Moved, Sent, Update
from demo.jobs.report import DeliveryReport
from policy.interfaces import Bool, DelayModel, Float
from policy.play.rollout import Step
from policy.scenario import World


class RunLog:
    """Writes the log of a run, slot after slot.

    The clock is the plan's: slot k begins `slot_s` after slot k - 1, the first when the caches are filled.
    Each line stands where the plan has its end, also if that is in a later slot.

    Args:
        path: The file; one that is there is replaced.
        started: What is run; the first line.
        world: The world that is played.
        delay: The radio that the slots were served by.
    """

    def __init__(self, path: Path, started: Started, world: World, delay: DelayModel) -> None:
        path.unlink(missing_ok=True)
        self._now_s, self._first_s = 0.0, 0.0
        self._about, self._world, self._delay = started, world, delay
        self._state = Snapshot()
        self._held: Bool = np.zeros((len(started.nodes), len(started.unit_bytes)), dtype=bool)
        self._coming: list[tuple[float, int, int, Event]] = []
        self._count = itertools.count()
        self._log = LogWriter(path, self._heard, clock=lambda: self._now_s)
        self._log.write(started)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def slot(
        self,
        step: Step,
        worth: Float | None,
        moved: Moved,
        deliveries: Sequence[tuple[DeliveryReport, str]],
    ) -> None:
        """Tell of a slot.

        Args:
            step: As it was played.
            worth: What the scheme took each copy to be worth, (nodes, units), if it said so.
            moved: What went where.
            deliveries: Each with the hash of its files on the device.
        """
        slot = step.outcome.slot
        spent = self._update_s(moved.updates)
        if slot == 0:
            self._first_s = max(spent.values(), default=0.0)
        began = self._first_s + slot * self._about.slot_s
        self._tell_until(began)
        self._tell_updates(slot, moved.updates, began, spent)
        self._tell_decisions(step, worth)
        self._tell_requests(slot)
        outcome = step.outcome
        self._log.write(
            Planned(
                slot=slot,
                node=0,
                transfers=len(outcome.transfers),
                broadcasts=len(outcome.broadcasts),
                plan_ms=0.0,
                computed_delay_s=tuple(outcome.user_delay_s.tolist()),
            )
        )
        self._await_moves(step, moved, began)
        for row, digest in deliveries:
            self._await(began + row.delay_s, 2, _delivered(row, digest))

    def end(self) -> None:
        """Write what is still to come, and the last line."""
        self._tell_until(float("inf"))
        totals = self._state.totals
        self._log.write(Ended(**{item.name: getattr(totals, item.name) for item in fields(Ended)}))

    def _heard(self, line: Line) -> None:
        self._state.take(line)

    def _await(self, at_s: float, rank: int, event: Event) -> None:
        heapq.heappush(self._coming, (at_s, rank, next(self._count), event))

    def _tell_until(self, at_s: float) -> None:
        while self._coming and self._coming[0][0] <= at_s:
            self._now_s, *_, event = heapq.heappop(self._coming)
            self._log.write(event)
        self._now_s = max(self._now_s, at_s) if np.isfinite(at_s) else self._now_s

    def _seconds_of(self, update: Update) -> float:
        links = self._world.scenario.config.links
        rate = links.cloud_bit_s if update.source < 0 else links.backhaul_bit_s
        return 8.0 * update.payload_bytes / rate

    def _update_s(self, updates: Sequence[Update]) -> dict[int, float]:
        """Time on each node's link for its updates, s."""
        spent: dict[int, float] = {}
        for update in updates:
            spent[update.target] = spent.get(update.target, 0.0) + self._seconds_of(update)
        return spent

    def _tell_updates(
        self, slot: int, updates: Sequence[Update], began: float, spent: Mapping[int, float]
    ) -> None:
        """They ride on what the slot before has left of each link, and are over when the slot begins."""
        at = {node: max(0.0, began - seconds) for node, seconds in spent.items()}
        for update in updates:
            start = at[update.target]
            at[update.target] = min(began, start + self._seconds_of(update))
            self._log.write(
                Transferred(
                    slot=slot,
                    unit=update.unit,
                    form="kept",
                    source=update.source,
                    target=update.target,
                    cause="update",
                    payload_bytes=update.payload_bytes,
                    started_s=start,
                    ended_s=at[update.target],
                )
            )

    def _tell_decisions(self, step: Step, worth: Float | None) -> None:
        slot, sizes = step.outcome.slot, np.array(self._about.unit_bytes)
        for node, (held, before) in enumerate(zip(step.placement, self._held, strict=True)):
            added = np.flatnonzero(held & ~before)
            self._log.write(
                Decided(
                    slot=slot,
                    node=node,
                    added=tuple(added.tolist()),
                    dropped=tuple(np.flatnonzero(before & ~held).tolist()),
                    held_bytes=int(held @ sizes),
                    worth=() if worth is None else tuple(worth[node][added].tolist()),
                    why=f"{self._about.scheme} on {slot} slots of history",
                    decision_ms=1e3 * step.decision_s,
                )
            )
        self._held = step.placement.copy()

    def _tell_requests(self, slot: int) -> None:
        trace = self._world.trace
        places, requests = trace.user_xy[slot], trace.requests[slot]
        self._log.write(SlotBegan(slot=slot, user_xy=tuple(tuple(map(float, xy)) for xy in places)))
        nodes = np.array([[about.x_m, about.y_m] for about in self._about.nodes])
        for user in np.flatnonzero(requests >= 0).tolist():
            near = int(np.linalg.norm(nodes - places[user], axis=1).argmin())
            model = self._about.models[int(requests[user])].name
            self._log.write(Requested(slot=slot, user=user, model=model, node=near, source="trace"))

    def _await_moves(self, step: Step, moved: Moved, began: float) -> None:
        outcome = step.outcome
        for move, size in moved.transfers:
            by_itself = outcome.alone is not None and bool(outcome.alone[move.block])
            event = Transferred(
                slot=outcome.slot,
                unit=move.block,
                form="alone" if by_itself else "kept",
                source=move.source,
                target=move.target,
                cause="serve",
                payload_bytes=size,
                started_s=began + move.start_s,
                ended_s=began + move.end_s,
            )
            self._await(event.ended_s, 0, event)
        for sent in moved.casts:
            others = (other.plan for other in moved.casts if other is not sent)
            beside = tuple(other.number for other in others if sent.plan.is_beside(other))
            cast = self._cast(outcome.slot, sent, began, beside)
            self._await(cast.ended_s, 1, cast)

    def _cast(self, slot: int, sent: Sent, began: float, beside: tuple[int, ...]) -> Broadcast:
        plan = sent.plan
        rate = 8.0 * sent.payload_bytes / plan.on_air_s
        bound = getattr(self._delay, "bound_bit_s", None)
        return Broadcast(
            slot=slot,
            units=plan.units,
            form="alone" if plan.alone else "kept",
            holders=plan.holders,
            users=plan.users,
            rate_bit_s=rate,
            bound_bit_s=0.0 if bound is None else max(rate, float(bound(slot, plan.holders, plan.users))),
            payload_bytes=sent.payload_bytes,
            wire_bytes=0,
            repair_bytes=0,
            started_s=began + plan.start_s,
            ended_s=began + plan.end_s,
            blake3=sent.blake3,
            number=plan.number if plan.pieces else -1,
            together=beside,
            alone_bit_s=8.0 * sent.payload_bytes / plan.seconds if plan.pieces else 0.0,
        )


def _delivered(row: DeliveryReport, digest: str) -> Delivered:
    return Delivered(
        slot=row.slot,
        user=row.user,
        model=row.model,
        delay_s=row.delay_s,
        computed_delay_s=row.delay_s,
        wait_s=0.0,
        received_bytes=row.bytes_sent,
        unicast_weight_bytes=0,
        files_sha256=digest,
        sha256_ok=row.sha256_ok,
        inference_equal=row.inference_equal,
        answer=row.sample_output,
        by_air=row.bytes_sent > 0,
    )
