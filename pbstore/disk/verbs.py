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
from pbstore.disk.upkeep import collect, dependents, diff, evict, heat, history, plans, trash
from pbstore.disk.upkeep.collect import GcReport
from pbstore.disk.upkeep.dependents import Dependents
from pbstore.disk.upkeep.diff import Difference
from pbstore.disk.upkeep.evict import EvictReport
from pbstore.disk.upkeep.heat import BalanceReport, FormReport
from pbstore.disk.upkeep.history import ForgetReport, Keep, Revision
from pbstore.disk.upkeep.plans import Plan
from pbstore.disk.upkeep.trash import TrashedModel
from pbstore.folders.ingest import Origin, Progress
from pbstore.folders.select import ALL, Selection
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

    def put(self, names: Sequence[str]) -> None:
        """Remove some models together, or none of them; see `DiskBlockStore.remove`."""
        with self._models.writing():
            for name in names:
                trash.remove(self._models, name)

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
        return self.dependents_of_all([name], besides)[0]

    def dependents_of_all(self, names: Sequence[str], besides: Iterable[str] = ()) -> list[Dependents]:
        """For each of some models that go together: others that lean on it."""
        return dependents.find(self._models, [self._models.model_row(name) for name in names], besides)


class History:
    """Revisions of models: what a name pointed to before, tags, and other names for the same."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def log(self, name: str) -> list[Revision]:
        """All revisions of a model, the newest first.

        Raises:
            ModelMissingError: If there is no such model.
        """
        return history.log(self._models, name)

    def tag(self, name: str, tag: str, *, move: bool = False) -> Revision:
        """Give a model, or `NAME@REVISION`, a tag; tagged revisions are never forgotten.

        Raises:
            ModelMissingError: If there is no such model or revision.
            ModelExistsError: If another revision has the tag and it is not to `move`.
            ValueError: If it cannot be a tag.
        """
        return history.tag(self._models, name, tag, move=move)

    def untag(self, name: str, tag: str) -> None:
        """Take a tag away.

        Raises:
            RevisionMissingError: If the model has none of this name.
        """
        history.untag(self._models, name, tag)

    def diff(self, first: str, second: str) -> Difference:
        """What differs between two models or revisions, file by file and tensor by tensor."""
        return diff.diff(self._models, first, second)

    def rename(self, name: str, new_name: str) -> None:
        """Give a model and all its revisions another name; commits tell of the name, so they change, too.

        Raises:
            ModelMissingError: If there is no such model.
            ModelExistsError: If the new name is taken.
        """
        history.rename(self._models, name, new_name)

    def copy(self, name: str, new_name: str) -> Revision:
        """File a model or a revision under another name, where it becomes the newest revision; costs no room.

        With the model's own name an earlier revision becomes what the name means.
        """
        return history.copy(self._models, name, new_name)

    def forget(
        self, names: Sequence[str], *, keep_last: int | None = None, keep_within_s: float | None = None
    ) -> ForgetReport:
        """Move earlier revisions into the trash, but for some; see `Plans.forget_revisions`."""
        keep = Keep(last=keep_last, within_s=keep_within_s)
        return history.forget(self._models, names, keep)


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
        select: Selection = ALL,
        progress: Progress | None = None,
    ) -> AddPlan:
        """What adding a folder would cost; encodes everything and keeps nothing."""
        models = self._models
        how = HowStored(form=form, thorough=thorough)
        link = None if base is None else identity.base_link(models, base)
        origin = Origin(Path(folder), "plan", link, models.own, keep_damaged, progress, select)
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

    def forget_revisions(
        self, names: Sequence[str], *, keep_last: int | None = None, keep_within_s: float | None = None
    ) -> Plan[ForgetReport]:
        """Which earlier revisions of some models would go into the trash.

        What a name means, and what has a tag, always stays.

        Args:
            names: The models.
            keep_last: So many of the newest revisions of each stay.
            keep_within_s: Those that came in the last so many seconds stay.

        Raises:
            ValueError: If neither is given, or one is out of range.
            ModelMissingError: If there is no such model.
        """
        return plans.plan_forget(self._models, names, Keep(last=keep_last, within_s=keep_within_s))

    def forget(self, names: Sequence[str] | None = None) -> Plan[GcReport]:
        """What `Trash.forget` would drop.

        Raises:
            ModelMissingError: If the trash has none of one of these names.
        """
        return plans.plan_gc(self._models, names)
