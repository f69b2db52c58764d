"""What decides between saving soon and saving work: five numbers, each a function of the circumstances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float
from policy.learn.request_statistics import Single
from policy.scenario import Scenario

FEATURES = ("one", "room", "busy", "load", "room^2", "room load")
"""1; log2 of all nodes' room over the catalog, + 1, within -2..3; share of the last slot in which links were
busy, mean over nodes; log2 of the bits that are thought to be missed in the slot over those that the links to
the cloud bring in it, within -3..3; two products."""
OUTPUTS = ("update", "near", "work", "patience", "ease")
UNTRAINED = ((-4.0, 0.0, 0.0), (4.0, 0.0, 0.0), (-4.0, 0.0, 0.0), (-20.0, 0.0, 0.0), (-20.0, 0.0, 0.0))
"""Nearly: updates cost 0.02 of their time, the table stands as it is, no price on the cloud's work, no
patience, and nothing of the price let go. Of the first features; the others count nothing."""

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
    ease: float = 0.0
    """Part of the price of work that is let go, 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class DecisionWeights:
    """Linear in the features, then exp, logistic, exp, logistic and logistic; (outputs, features)."""

    weights: Float

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]] | Float) -> "DecisionWeights":
        """Of the first outputs and features: others count nothing, and other outputs are untrained."""
        weights = np.zeros((len(OUTPUTS), len(FEATURES)))
        for part in (UNTRAINED, np.asarray(rows, dtype=np.float64)):
            own = np.asarray(part)
            weights[: len(own)] = 0.0
            weights[: len(own), : own.shape[1]] = own
        return cls(weights)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Single]) -> "DecisionWeights":
        """Read them from a checkpoint, also from an older one, see `of`."""
        return cls.of(np.asarray(tensors["decisions.weights"], dtype=np.float64))

    @classmethod
    def untrained(cls) -> "DecisionWeights":
        """What one would write down without trying."""
        return cls.of(UNTRAINED)

    def at(self, features: Float) -> Tradeoffs:
        """The trade-offs in some circumstances, (features,)."""
        update, near, work, patience, ease = np.clip(self.weights @ features, -20.0, 6.0).tolist()
        return Tradeoffs(
            update=float(np.exp(update)),
            near=_share(near),
            work=float(np.exp(work)),
            patience=MOST_PATIENCE * _share(patience),
            ease=_share(ease),
        )


def _share(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))


def circumstances(scenario: Scenario, idle_s: Float, missed_bits: float) -> Float:
    """The features of `FEATURES`, (features,).

    Args:
        scenario: Room, links and catalog.
        idle_s: Time that each node's incoming link has for updates, (nodes,), s.
        missed_bits: Bits of all blocks that somebody is thought to miss in the coming slot, each once.
    """
    config = scenario.config
    room = np.log2(scenario.capacity_bytes.sum() / scenario.catalog.dedup_bytes) + 1.0
    room = float(np.clip(room, -2.0, 3.0))
    busy = 1.0 - float(np.minimum(idle_s, config.slot_s).mean()) / config.slot_s
    brought = config.num_nodes * config.links.cloud_bit_s * config.slot_s
    load = float(np.log2(np.clip(missed_bits / brought, 2.0**-3, 2.0**3)))
    return np.array([1.0, room, busy, load, room * room, room * load])
