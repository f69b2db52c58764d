"""The half of a store that gives room back: the trash, forms of models, eviction and collection.

Each verb has a plan, which is the verb itself tried on a copy of the store, and reports what the whole store
occupied before and after.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from pbstore.disk.files.layout import write_settings
from pbstore.disk.index.model_rows import COLD, HOT
from pbstore.disk.upkeep import collect, dependents, evict
from pbstore.disk.upkeep import heat as forms
from pbstore.disk.upkeep import trash as trash_can
from pbstore.disk.upkeep.collect import GcReport
from pbstore.disk.upkeep.dependents import Dependents
from pbstore.disk.upkeep.evict import EvictReport
from pbstore.disk.upkeep.heat import BalanceReport, FormReport
from pbstore.disk.upkeep.trash import TrashedModel
from pbstore.manifest import Manifest

if TYPE_CHECKING:
    from pbstore.disk.plans import Plan
    from pbstore.disk.store import DiskBlockStore


class Upkeep:
    """Part of `DiskBlockStore`; plans are imported late, for they are made on stores."""

    @property
    def _store(self) -> "DiskBlockStore":
        return cast("DiskBlockStore", self)

    def trash(self) -> list[TrashedModel]:
        """Removed models that can be restored, those that were removed first first."""
        return trash_can.listed(self._store)

    def restore(self, name: str, new_name: str | None = None) -> Manifest:
        """Take a model out of the trash, under its name or another one; the newest if there are several.

        Raises:
            ModelMissingError: If the trash has none of this name.
            ModelExistsError: If the name is taken.
        """
        return trash_can.restore(self._store, name, new_name)

    def forget(self, names: Sequence[str] | None = None) -> GcReport:
        """Let go of models in the trash, of all if None, and free their blocks at once.

        Raises:
            ModelMissingError: If the trash has none of one of these names.
        """
        return collect.gc(self._store, names=names)

    def dependents_of(self, name: str, besides: Iterable[str] = ()) -> Dependents:
        """Models that lean on one: adapters bound to it, models stored against it; but for some others."""
        return dependents.find(self._store, self._store.model_row(name), besides)

    def keep_trash(self, days: float) -> None:
        """Set for how many days a gc leaves removed models alone.

        Raises:
            ValueError: If it is negative or out of range.
        """
        settings = replace(self._store.settings, trash_days=days)
        with self._store.writing():
            write_settings(self._store.layout, settings)
        self._store.settings = settings

    def take_from_trash(self, wanted_bytes: int) -> None:
        """See `DiskBlocks`."""
        evict.take_from_trash(self._store, wanted_bytes)

    def heat(self, name: str) -> FormReport:
        """Store all blocks of a model raw, so that they can be mapped."""
        return forms.heat(self._store, name)

    def cool(self, name: str) -> FormReport:
        """Store a model as small as possible, in the slow forms, too."""
        return forms.cool(self._store, name)

    def balance(self, raw_room_bytes: int | None = None, *, dry_run: bool = False) -> BalanceReport:
        """Heat the models used most, as far as they fit, and cool the others."""
        if dry_run:
            return self.plan_balance(raw_room_bytes).report
        return forms.balance(self._store, raw_room_bytes)

    def plan_heat(self, name: str) -> "Plan[FormReport]":
        """What heating a model would change; nothing changes before its `apply`."""
        from pbstore.disk import plans

        return plans.plan_form(self._store, name, HOT)

    def plan_cool(self, name: str) -> "Plan[FormReport]":
        """What cooling a model would change; nothing changes before its `apply`."""
        from pbstore.disk import plans

        return plans.plan_form(self._store, name, COLD)

    def plan_balance(self, raw_room_bytes: int | None = None) -> "Plan[BalanceReport]":
        """Which models balancing would heat and cool; nothing changes before its `apply`."""
        from pbstore.disk import plans

        return plans.plan_balance(self._store, raw_room_bytes)

    def plan_evict(self, wanted_bytes: int, order: str | evict.Order = "lru") -> "Plan[EvictReport]":
        """Which models an eviction would remove; nothing changes before its `apply`.

        Raises:
            ValueError: If the order's name is unknown.
            EvictGoalError: If so much cannot be freed.
        """
        from pbstore.disk import plans

        return plans.plan_evict(self._store, wanted_bytes, order)

    def plan_gc(self) -> "Plan[GcReport]":
        """What a gc would drop; nothing changes before its `apply`."""
        from pbstore.disk import plans

        return plans.plan_gc(self._store)

    def plan_forget(self, names: Sequence[str] | None = None) -> "Plan[GcReport]":
        """What `forget` would drop; nothing changes before its `apply`.

        Raises:
            ModelMissingError: If the trash has none of one of these names.
        """
        from pbstore.disk import plans

        return plans.plan_gc(self._store, names)

    def evict(
        self, wanted_bytes: int, order: str | evict.Order = "lru", *, dry_run: bool = False
    ) -> EvictReport:
        """Let go of what is in the trash, then of unpinned models, until so many payload bytes are free.

        Raises:
            ValueError: If the order's name is unknown.
            EvictGoalError: If so much cannot be freed; the store is as it was.
        """
        if dry_run:
            return self.plan_evict(wanted_bytes, order).report
        return evict.evict(self._store, wanted_bytes, order)

    def gc(self, dry_run: bool = False) -> GcReport:
        """Delete blocks that no model needs and free their room; with `dry_run` only say what would go."""
        return self.plan_gc().report if dry_run else collect.gc(self._store)
