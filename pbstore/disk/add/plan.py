"""What adding a model would cost, tried on a copy of the store; then done, if the store is still the same."""

from dataclasses import dataclass, replace

from pbstore.disk.add import adding
from pbstore.disk.add.adding import HowStored
from pbstore.disk.index import database
from pbstore.disk.models import Models
from pbstore.disk.rehearse import Rehearsal, rehearse
from pbstore.errors import PlanOutdatedError
from pbstore.folders.ingest import AddReport, Origin, Progress
from pbstore.folders.source import steadily
from pbstore.manifest import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPlan:
    """What adding a folder would cost; nothing is stored before `apply`."""

    report: AddReport
    """New blocks are counted as if none were the base of another one: a real add may take less."""
    _models: Models
    _origin: Origin
    _how: HowStored
    _state: str

    def apply(self, name: str, progress: Progress | None = None) -> AddReport:
        """Add the folder as it is now, under a name.

        Raises:
            PlanOutdatedError: If models or blocks have changed since the plan was made; nothing is stored.
            ModelExistsError, CapacityError, BadFileError, CheckpointError, SourceChangedError: As `add`.
        """
        origin = replace(self._origin, name=check_name(name), progress=progress)
        return steadily(lambda: adding.add_model(self._models, origin, self._how, self._check))

    def _check(self) -> None:
        if database.state(self._models.connection) != self._state:
            raise PlanOutdatedError(str(self._models.path))


def plan_add(models: Models, origin: Origin, how: HowStored) -> AddPlan:
    """Encode everything that is new, and keep nothing; others may write to the store meanwhile."""
    models.disk_use()  # empties the index's log

    def encode(copy: Rehearsal) -> AddReport:
        with copy.writing() as tx:
            return adding.try_blocks(copy, tx, origin, how)

    report, state = rehearse(models, encode)
    return AddPlan(report=report, _models=models, _origin=origin, _how=how, _state=state)
