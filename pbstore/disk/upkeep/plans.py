"""Plans: what a verb would do to a store, tried on a copy; then done, if the store is still the same."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pbstore.disk.index import database
from pbstore.disk.index.model_rows import HOT, ModelRow
from pbstore.disk.models import Models
from pbstore.disk.rehearse import rehearse
from pbstore.disk.upkeep import collect, evict, heat, history
from pbstore.disk.upkeep.collect import GcReport
from pbstore.disk.upkeep.evict import EvictReport
from pbstore.disk.upkeep.heat import BalanceReport, FormReport
from pbstore.disk.upkeep.history import ForgetReport, Keep
from pbstore.errors import PlanOutdatedError

Report = TypeVar("Report", GcReport, EvictReport, FormReport, BalanceReport, ForgetReport)
Step = Callable[[Models, Callable[[], None]], Report]
"""A verb: it changes a store after it has called a check under the writer's lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Generic[Report]):
    """What a verb would do; nothing is done before `apply`."""

    report: Report
    """What `apply` will report, byte for byte, but for `dry_run`."""
    _models: Models
    _step: Step[Report]
    _state: str

    def apply(self) -> Report:
        """Do it.

        Raises:
            PlanOutdatedError: If models or blocks have changed since the plan was made; nothing is done.
        """
        return self._step(self._models, self._check)

    def _check(self) -> None:
        if database.state(self._models.connection) != self._state:
            raise PlanOutdatedError(str(self._models.path))


def make(models: Models, step: Step[Report]) -> Plan[Report]:
    """Try a step on a copy of the store."""
    models.disk_use()  # empties the index's log
    report, state = rehearse(models, lambda copy: step(copy, lambda: None))
    return Plan(report=replace(report, dry_run=True), _models=models, _step=step, _state=state)


def plan_gc(models: Models, names: Iterable[str] | None = ()) -> Plan[GcReport]:
    """What a gc would drop, with models of the trash whose time is not over; all of it if None."""
    chosen = None if names is None else tuple(names)
    now = time.time()
    return make(models, lambda one, check: collect.gc(one, check, chosen, now))


def plan_evict(models: Models, wanted_bytes: int, order: str | evict.Order) -> Plan[EvictReport]:
    """Which models an eviction would remove."""
    plan = make(models, lambda one, check: evict.evict(one, wanted_bytes, order, check))
    places = {name: place for place, name in enumerate(plan.report.models)}

    def these(row: ModelRow) -> tuple[float, ...]:
        return (places.get(row.address, math.inf),)

    return replace(plan, _step=lambda one, check: evict.evict(one, wanted_bytes, these, check))


def plan_forget(models: Models, names: Sequence[str], keep: Keep) -> Plan[ForgetReport]:
    """Which earlier revisions would go into the trash."""
    keep = keep if keep.now is not None else replace(keep, now=time.time())
    return make(models, lambda one, check: history.forget(one, names, keep, check))


def plan_form(models: Models, name: str, form: str) -> Plan[FormReport]:
    """What heating or cooling a model would change."""
    change = heat.heat if form == HOT else heat.cool
    return make(models, lambda one, check: change(one, name, check))


def plan_balance(models: Models, raw_room_bytes: int | None) -> Plan[BalanceReport]:
    """Which models balancing would heat and cool."""
    plan = make(models, lambda one, check: heat.balance(one, raw_room_bytes, check))
    changes = plan.report.changes
    return replace(plan, _step=lambda one, check: heat.balance(one, None, check, changes))
