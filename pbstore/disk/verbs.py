"""What a store lets be done besides adding and reading, by what it is done to: forms, the trash, plans.

Each plan is its verb tried on a copy of the store, and reports what the whole store occupied before
and after.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pbstore.disk.add import identity, plan
from pbstore.disk.add.adding import HowStored
from pbstore.disk.add.plan import AddPlan
from pbstore.disk.index.model_rows import COLD, HOT
from pbstore.disk.models import Models
from pbstore.disk.upkeep import collect, dependents, evict, heat, plans, trash
from pbstore.disk.upkeep.collect import GcReport
from pbstore.disk.upkeep.dependents import Dependents
from pbstore.disk.upkeep.evict import EvictReport
from pbstore.disk.upkeep.heat import BalanceReport, FormReport
from pbstore.disk.upkeep.plans import Plan
from pbstore.disk.upkeep.trash import TrashedModel
from pbstore.folders.ingest import Origin, Progress
from pbstore.folders.source import steadily
from pbstore.manifest import Manifest


class Forms:
    """Hot and cold models: raw blocks that can be mapped, or the smallest ones."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def heat(self, name: str) -> FormReport:
        """Store all blocks of a model raw, so that they can be mapped."""
        return heat.heat(self._models, name)

    def cool(self, name: str) -> FormReport:
        """Store a model as small as possible, in the slow forms, too."""
        return heat.cool(self._models, name)

    def balance(self, raw_room_bytes: int | None = None, *, dry_run: bool = False) -> BalanceReport:
        """Heat the models used most, as far as they fit, and cool the others."""
        if dry_run:
            return plans.plan_balance(self._models, raw_room_bytes).report
        return heat.balance(self._models, raw_room_bytes)


class Trash:
    """Removed models, which keep their blocks until a gc after some days lets go of them."""

    def __init__(self, models: Models) -> None:
        self._models = models

    @property
    def days(self) -> float:
        """For how many days a gc leaves removed models alone."""
        return self._models.settings.trash_days

    def models(self) -> list[TrashedModel]:
        """Removed models that can be restored, those that were removed first first."""
        return trash.listed(self._models)

    def restore(self, name: str, new_name: str | None = None) -> Manifest:
        """Take a model out of the trash, under its name or another one; the newest if there are several.

        Raises:
            ModelMissingError: If the trash has none of this name.
            ModelExistsError: If the name is taken.
        """
        return trash.restore(self._models, name, new_name)

    def forget(self, names: Sequence[str] | None = None) -> GcReport:
        """Let go of models in the trash, of all if None, and free their blocks at once.

        Raises:
            ModelMissingError: If the trash has none of one of these names.
        """
        return collect.gc(self._models, names=names)

    def keep(self, days: float) -> None:
        """Set for how many days a gc leaves removed models alone.

        Raises:
            ValueError: If it is negative or out of range.
        """
        trash.keep(self._models, days)

    def dependents_of(self, name: str, besides: Iterable[str] = ()) -> Dependents:
        """Models that lean on one: adapters bound to it, models stored against it; but for some others."""
        return dependents.find(self._models, self._models.model_row(name), besides)


class Plans:
    """What each verb would do; nothing changes before a plan's `apply`, and no lock is held meanwhile."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def add(
        self,
        folder: str | Path,
        base: str | None = None,
        *,
        form: str = COLD,
        thorough: bool = False,
        keep_damaged: bool = False,
        progress: Progress | None = None,
    ) -> AddPlan:
        """What adding a folder would cost; encodes everything and keeps nothing."""
        models = self._models
        how = HowStored(form=form, thorough=thorough)
        link = None if base is None else identity.base_link(models, base)
        origin = Origin(Path(folder), "plan", link, models.own, keep_damaged, progress)
        return steadily(lambda: plan.plan_add(models, origin, how))

    def heat(self, name: str) -> Plan[FormReport]:
        """What heating a model would change."""
        return plans.plan_form(self._models, name, HOT)

    def cool(self, name: str) -> Plan[FormReport]:
        """What cooling a model would change."""
        return plans.plan_form(self._models, name, COLD)

    def balance(self, raw_room_bytes: int | None = None) -> Plan[BalanceReport]:
        """Which models balancing would heat and cool."""
        return plans.plan_balance(self._models, raw_room_bytes)

    def evict(self, wanted_bytes: int, order: str | evict.Order = "lru") -> Plan[EvictReport]:
        """Which models an eviction would remove.

        Raises:
            ValueError: If the order's name is unknown.
            EvictGoalError: If so much cannot be freed.
        """
        return plans.plan_evict(self._models, wanted_bytes, order)

    def gc(self) -> Plan[GcReport]:
        """What a gc would drop."""
        return plans.plan_gc(self._models)

    def forget(self, names: Sequence[str] | None = None) -> Plan[GcReport]:
        """What `Trash.forget` would drop.

        Raises:
            ModelMissingError: If the trash has none of one of these names.
        """
        return plans.plan_gc(self._models, names)
