"""What adding a model would cost."""

from pbstore.disk.add import adding
from pbstore.disk.add.adding import HowStored
from pbstore.disk.models import Models
from pbstore.disk.rehearse import rehearsal
from pbstore.folders.ingest import AddReport, Origin


class _RolledBackError(Exception):
    """Ends a trial transaction."""


def plan_add(models: Models, origin: Origin, how: HowStored) -> AddReport:
    """What adding a folder would cost; encodes everything and keeps nothing."""
    if models.read_only:
        with rehearsal(models) as copy:
            return plan_add(copy, origin, how)
    reports: list[AddReport] = []
    try:
        with models.writing() as tx:
            reports.append(adding.try_blocks(models, tx, origin, how))
            raise _RolledBackError
    except _RolledBackError:
        return reports[0]
