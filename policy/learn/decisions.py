"""What decides between saving soon and saving work: five numbers, each a function of the circumstances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float
from policy.learn.request_statistics import Single
from policy.scenario import Scenario

FEATURES = ("one", "room", "busy", "certain", "refill")
"""1; log2 of all nodes' room over the catalog, + 1, within -2..3; share of the last slot in which links were
busy, mean over nodes; how certain the forecast is, `certainty`; log2 of the bytes that a link brings from the
cloud in a slot, over a node's room, within -4..4."""
OUTPUTS = ("update", "near", "work", "patience", "ease")
UNTRAINED = (
    (-4.0, 0.0, 0.0, 0.0, 0.0),
    (4.0, 0.0, 0.0, 0.0, 0.0),
    (-4.0, 0.0, 0.0, 0.0, 0.0),
    (-20.0, 0.0, 0.0, 0.0, 0.0),
    (-20.0, 0.0, 0.0, 0.0, 0.0),
)
"""Nearly: updates cost 0.02 of their time, the table stands as it is, no price on the cloud's work, no
patience, and no ease."""

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
    def from_tensors(cls, tensors: Mapping[str, Single]) -> "DecisionWeights":
        """Read what `demo.experiments.tradeoffs` trained; what an older file lacks is untrained."""
        weights = np.array(UNTRAINED)
        old = np.asarray(tensors["decisions.weights"], dtype=np.float64)
        weights[: len(old)] = 0.0
        weights[: len(old), : old.shape[1]] = old
        return cls(weights)

    @classmethod
    def untrained(cls) -> "DecisionWeights":
        """What one would write down without trying."""
        return cls(np.array(UNTRAINED))

    def at(self, features: Float) -> Tradeoffs:
        """The trade-offs in some circumstances, (features,)."""
        update, near, work, patience, ease = np.clip(self.weights @ features, -20.0, 6.0).tolist()
        return Tradeoffs(
            update=float(np.exp(update)),
            near=float(1 / (1 + np.exp(-near))),
            work=float(np.exp(work)),
            patience=float(MOST_PATIENCE / (1 + np.exp(-patience))),
            ease=float(1 / (1 + np.exp(-ease))),
        )


def circumstances(scenario: Scenario, idle_s: Float, chance: Float) -> Float:
    """The features of `FEATURES`, (features,).

    Args:
        scenario: Room, links and catalog.
        idle_s: Time that each node's incoming link has for updates, (nodes,), s.
        chance: Forecast that each user asks for each model, (users, models).
    """
    config = scenario.config
    room = np.log2(scenario.capacity_bytes.sum() / scenario.catalog.dedup_bytes) + 1.0
    busy = 1.0 - float(np.minimum(idle_s, config.slot_s).mean()) / config.slot_s
    brought = config.slot_s * config.links.cloud_bit_s / 8.0
    refill = np.log2(brought / max(float(scenario.capacity_bytes.mean()), 1.0))
    return np.array([1.0, np.clip(room, -2.0, 3.0), busy, certainty(chance), np.clip(refill, -4.0, 4.0)])


def certainty(chance: Float) -> float:
    """How certain a forecast is of what is asked for: 0 for any model alike, 1 for one model a user.

    One less the entropy of the model of a request, over that of any model alike; each user counts as often as
    it is thought to ask.

    Args:
        chance: That a user asks for a model, (users, models).
    """
    asks, models = chance.sum(axis=1, keepdims=True), chance.shape[1]
    if models < 2 or asks.sum() <= 0:
        return 1.0
    share = np.divide(chance, asks, out=np.zeros_like(chance), where=asks > 0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return float(1.0 - (entropy @ asks[:, 0]) / (asks.sum() * np.log(models)))
