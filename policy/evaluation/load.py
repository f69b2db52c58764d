"""How busy band and links were: utilisation, and what was left undone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from policy.slot.dynamics import SlotOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work given to band and links over the time there was: 1 is all of it, more cannot be done in time."""

    band: float
    """Time on the air over all time."""
    backhaul: float
    """Time of incoming links for copies from nodes, updates included; mean over nodes."""
    cloud: float
    """The same for copies from the cloud."""
    busiest_link: float
    """Both together at the node where they are most."""
    band_backlog_s: float
    """Work of the band that is left at the end, s; 0 where slots carry nothing over."""
    link_backlog_s: float
    """The same for the incoming link with most, s."""
    update_cut_bytes: float
    """Bytes of wanted copies that links or budget could not bring, mean over slots."""

    @property
    def overloaded(self) -> bool:
        """Whether band or a link was given more than it can do."""
        return max(self.band, self.busiest_link) >= 1.0


def load_of_episode(outcomes: Sequence[SlotOutcome], slot_s: float) -> Load:
    """Load of one episode."""
    time_s = len(outcomes) * slot_s
    backhaul = np.sum([outcome.load.backhaul_s for outcome in outcomes], axis=0) / time_s
    cloud = np.sum([outcome.load.cloud_s for outcome in outcomes], axis=0) / time_s
    last = outcomes[-1].load
    return Load(
        band=sum(outcome.load.band_s for outcome in outcomes) / time_s,
        backhaul=float(backhaul.mean()),
        cloud=float(cloud.mean()),
        busiest_link=float((backhaul + cloud).max()),
        band_backlog_s=last.band_backlog_s,
        link_backlog_s=float(last.link_backlog_s.max(initial=0.0)),
        update_cut_bytes=sum(outcome.update.cut_bytes for outcome in outcomes) / len(outcomes),
    )


def mean_load(loads: Sequence[Load]) -> Load:
    """Mean of the loads of several episodes."""
    rows = [asdict(load) for load in loads]
    return Load(**{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})
