"""What decides between saving soon and saving work: three numbers, each a function of the circumstances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float
from policy.learn.request_statistics import Single
from policy.scenario import Scenario

FEATURES = ("one", "room", "busy")
"""1; log2 of all nodes' room over the catalog, + 1, within -2..3; share of the last slot in which links were
busy, mean over nodes."""
OUTPUTS = ("update", "near", "work", "patience")
UNTRAINED = ((-4.0, 0.0, 0.0), (4.0, 0.0, 0.0), (-4.0, 0.0, 0.0), (-20.0, 0.0, 0.0))
"""Nearly: updates cost 0.02 of their time, the table stands as it is, no price on the cloud's work, no
patience."""

MOST_PATIENCE = 0.9
"""Patience stays below this: with more, all that will ever be asked for counts alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tradeoffs:
    """How one slot is decided."""

    update: float
    """Seconds of mean user delay that a second of update transfer must save, > 0."""
    near: float
    """How far differences between nodes, and further copies, count against first copies, 0..1."""
    work: float
    """Price of a second of all nodes' links to the cloud, beyond what it delays this slot's users, > 0."""
    patience: float = 0.0
    """What a later slot counts against the one before it in that price, 0..`MOST_PATIENCE`."""


@dataclass(frozen=True, slots=True, eq=False)
class DecisionWeights:
    """Linear in the features, then exp, logistic and exp; (outputs, features)."""

    weights: Float

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Single]) -> "DecisionWeights":
        """Read them from a checkpoint; outputs that an older file lacks are untrained."""
        weights = np.asarray(tensors["decisions.weights"], dtype=np.float64)
        return cls(
            np.vstack([weights, UNTRAINED[len(weights) :]]) if len(weights) < len(OUTPUTS) else weights
        )

    @classmethod
    def untrained(cls) -> "DecisionWeights":
        """What one would write down without trying."""
        return cls(np.array(UNTRAINED))

    def at(self, features: Float) -> Tradeoffs:
        """The trade-offs in some circumstances, (features,)."""
        update, near, work, patience = np.clip(self.weights @ features, -20.0, 6.0).tolist()
        return Tradeoffs(
            update=float(np.exp(update)),
            near=float(1 / (1 + np.exp(-near))),
            work=float(np.exp(work)),
            patience=float(MOST_PATIENCE / (1 + np.exp(-patience))),
        )


def circumstances(scenario: Scenario, idle_s: Float) -> Float:
    """The features of `FEATURES`, (features,).

    Args:
        scenario: Room and catalog.
        idle_s: Time that each node's incoming link has for updates, (nodes,), s.
    """
    room = np.log2(scenario.capacity_bytes.sum() / scenario.catalog.dedup_bytes) + 1.0
    slot_s = scenario.config.slot_s
    busy = 1.0 - float(np.minimum(idle_s, slot_s).mean()) / slot_s
    return np.array([1.0, np.clip(room, -2.0, 3.0), busy])
