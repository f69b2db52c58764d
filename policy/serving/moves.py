"""Small changes of plans, drawn at random, and several good ones joined."""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.serving.freight import Freight
from policy.serving.genes import Genes

LAGS = np.array([0, 1, 2, 4, 8])
OPTION, TURN, WAY, NUDGE, LAG = 0.42, 0.50, 0.58, 0.92, 0.98
"""Up to which draw a change is of this sort; beyond: whether the band waits. Other turns alone hardly ever
help (3 of 1,000 did in P2, of nudges 64): they do once holders are chosen anew, see `reordered`."""
DRAWS = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """What may be changed."""

    options: Int
    """Options of each parcel that may be taken, the first so many, (plans, parcels)."""
    split: Bool
    """Whether users may be split otherwise, (plans,)."""


def changed(freight: Freight, genes: Genes, scope: Scope, draws: Float) -> Genes:
    """Each plan with one change.

    Args:
        freight: The slot.
        genes: Plans.
        scope: What may be changed.
        draws: In [0, 1), (plans, DRAWS); the first says what sort of change.
    """
    sort, rows = draws[:, 0], np.arange(genes.size)
    weight = np.cumsum(freight.wire_bits + freight.wire_bits.mean())
    parcel = np.searchsorted(weight, draws[:, 1] * weight[-1], side="right")
    near = (
        np.abs(np.arange(freight.num_parcels) - parcel[:, None])
        <= 8 * np.maximum(draws[:, 2] - 0.5, 0)[:, None] ** 2 * freight.num_parcels
    )
    reach = near & (freight.bundle == freight.bundle[parcel][:, None])
    option = (draws[:, 3] * scope.options[rows, parcel]).astype(np.int64)
    users = np.flatnonzero(freight.sets.members.any(axis=0))
    later = (draws[:, 4] * 2 - 1) * users.size
    return genes._replace(
        option=np.where((sort < OPTION)[:, None] & reach, option[:, None], genes.option),
        turn=_other_turns(genes.turn, users, (sort >= OPTION) & (sort < TURN), draws),
        way=_other_ways(freight, genes.way, (sort >= TURN) & (sort < WAY) & scope.split, draws),
        nudge=np.where(((sort >= WAY) & (sort < NUDGE))[:, None] & reach, later[:, None], genes.nudge),
        lag=np.where(
            (sort >= NUDGE) & (sort < LAG), LAGS[(draws[:, 4] * LAGS.size).astype(np.int64)], genes.lag
        ),
        swift=genes.swift ^ (sort >= LAG),
    )


def reordered(freight: Freight, genes: Genes, draws: Float) -> Genes:
    """Each plan with one user served before or behind another; draws as for `changed`."""
    users = np.flatnonzero(freight.sets.members.any(axis=0))
    return genes._replace(turn=_other_turns(genes.turn, users, np.ones(genes.size, dtype=bool), draws))


def _other_turns(turn: Float, users: Int, which: Bool, draws: Float) -> Float:
    """One user goes before or behind another."""
    row = np.flatnonzero(which)
    one, other = (users[(draws[row, d] * users.size).astype(np.int64)] for d in (3, 4))
    moved = turn[row]
    at = np.arange(row.size)
    moved[at, one] = moved[at, other] + np.where(draws[row, 5] < 0.5, -0.5, 0.5)
    turn = turn.copy()
    turn[row] = np.argsort(np.argsort(moved, axis=1, kind="stable"), axis=1)
    return turn


def _other_ways(freight: Freight, way: Int, which: Bool, draws: Float) -> Int:
    """Another way to split one set of users."""
    count = freight.sets.num_ways
    several, way = np.flatnonzero(count > 1), way.copy()
    row = np.flatnonzero(which & bool(several.size))
    if row.size:
        users = several[(draws[row, 3] * several.size).astype(np.int64)]
        way[row, users] = (draws[row, 4] * count[users]).astype(np.int64)
    return way


def united(parent: Genes, children: list[Genes], better: list[Bool]) -> Genes:
    """Parents with the changes of several children each, the first child's where they collide.

    Args:
        parent: (threads,) plans.
        children: Of each thread one child, best first.
        better: Which of them to use, each (threads,).
    """
    parts = {name: getattr(parent, name) for name in ("option", "turn", "way", "nudge", "lag", "swift")}
    for child, use in zip(children, better, strict=True):
        for name, value in parts.items():
            old, new = getattr(parent, name), getattr(child, name)
            fresh = (new != old) & (value == old) & use.reshape(-1, *[1] * (old.ndim - 1))
            if name == "turn":  # turns are a permutation: all or nothing
                fresh = (fresh.any(axis=1) & (value == old).all(axis=1))[:, None]
            parts[name] = np.where(fresh, new, value)
    return parent._replace(**parts)
