r"""A bound for policies that do not see the future, on any radio and any timing.

A policy decides x_t before it knows the requests w_t of slot t; H_t is what could be known by then. It pays
g(x_t, w_t), in the mean E g(x_t | H_t): information relaxation with the penalty g(x_t, w_t) -
E[g(x_t, w) | H_t], which costs no such policy anything in the mean (Brown, Smith and Sun, 2010).
Told all H_t at once, the best placements cost at least

    E  min over x_1, x_2, ...  of  sum over t of  E[ lower(x_t, w) | H_t ] + updates(x_t-1, x_t),

where lower <= g is a bound on serving (`policy.slot.lower_bounds`) and `updates` is what the scenario
charges. So no policy does better, however it serves, and even if it knows the request process, its hidden
state and how users will move. Sampled means only lower the bound (the minimum of a mean of samples is too
low in the mean); so does dropping that links limit updates. Where work is carried over, users wait for the
least that any policy leaves of the band (`policy.bounds.unlimited.least_backlog_s`): it hangs on the past
alone.

Each sample may use the table of placements that bounds it best near a placement that is good in the mean, or
the bound of the band, which holds for any placement: all are below g everywhere, so the choice is free.
Capacities are priced (Lagrange). `of_band_s` is what the band alone tells: it sees no placement.

A world's luck, which its schemes share, is added as a control variate: how much a placement that H_t tells
would have paid at least in this slot, above its mean over futures drawn apart. Its own mean is zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from policy.batched.tables import update_table
from policy.batched.worlds import WorldBatch, radio_of
from policy.bounds.horizon import hindsight_bracket
from policy.bounds.unlimited import least_backlog_s
from policy.errors import PolicyError
from policy.interfaces import Float, Int
from policy.place.greedy import greedy_masks
from policy.scenario import Scenario, World
from policy.slot.lower_bounds import SHARES, SlotNeeds, bound_tables, user_seconds_per_bit
from policy.slot.tables import MAX_TABLE_NODES, mask_bits
from policy.world.processes import step_requests

Futures = Callable[[int], tuple[Int, Float]]
"""Requests that a slot may bring given what came before: (samples, users), and chances, (samples,)."""
ROUNDS = 3
"""How often the samples choose their tables, each time near the best placement of the time before."""
PRICE_STEPS = 150
"""Subgradient steps on the prices of room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalBound:
    """What no policy that does not see the future can fall below, in the mean over worlds."""

    lower_s: float
    """Bound on the mean cost of a slot, s."""
    of_band_s: float
    """The part of it that holds whatever is cached, s; 0 where blocks' delays are summed."""

    def gap(self, cost_s: float) -> float:
        """How far a policy's cost is above the bound at most, as a share of its cost."""
        return 1.0 - self.lower_s / cost_s if cost_s > 0 else 0.0


def sampled_futures(world: World, rng: np.random.Generator, count: int) -> Futures:
    """Requests drawn from the true process and its hidden state, users where they will be.

    Raises:
        PolicyError: If the world is a replayed trace: nobody knows its process.
    """
    if not world.hidden:
        raise PolicyError("a bound for policies that do not see the future needs drawn worlds")
    cells, config = world.trace.cells(), world.scenario.config

    def draw(slot: int) -> tuple[Int, Float]:
        state, families = world.hidden[slot].demand, world.scenario.families
        drawn = [step_requests(rng, state, cells[slot], families, config.requests)[1] for _ in range(count)]
        return np.stack(drawn), np.full(count, 1.0 / count)

    return draw


def causal_bound(world: World, futures: Futures) -> CausalBound:
    """The bound of one world; its mean over worlds bounds that of every policy that does not see the future.

    Args:
        world: The world; its own requests tell what devices keep of earlier slots, and its luck.
        futures: See `sampled_futures`.

    Raises:
        PolicyError: If there are too many nodes for tables, or blocks travel in several forms.
    """
    scenario, slots = world.scenario, world.trace.num_slots
    if scenario.config.num_nodes > MAX_TABLE_NODES:
        raise PolicyError(f"this bound needs at most {MAX_TABLE_NODES} nodes")
    if scenario.catalog.forms is not None:
        raise PolicyError("this bound is for catalogs whose blocks have one form each")
    carries = scenario.config.carries_backlog and scenario.config.objective == "mean-user"
    waits = least_backlog_s(world) if carries else np.zeros(slots)
    tables, constants, bands, luck = [], [], [], []
    for slot in range(slots):
        demand, (requests, chances) = _Demand(world, slot, float(waits[slot])), futures(slot)
        by_place, by_band = demand.bounds(requests)
        table, constant = _best_of(by_place, by_band, chances, scenario)
        tables.append(table)
        constants.append(constant)
        bands.append(float(chances @ by_band))
        luck.append(_luck(demand, table, *futures(slot)))
    stacked = np.stack(tables)
    if scenario.config.timing == "additive":  # the one timing in which updates are charged
        placed = _charged(world, stacked) + float(np.mean(constants))
    else:
        placed = float(np.mean([room_dual(t, scenario) + c for t, c in zip(tables, constants, strict=True)]))
    band_s, luck_s = float(np.mean(bands)), float(np.mean(luck))
    return CausalBound(lower_s=max(placed, band_s) + luck_s, of_band_s=band_s + luck_s)


class _Demand:
    """One slot of a world, whatever is asked for in it, if the band is busy for some seconds first."""

    def __init__(self, world: World, slot: int, busy_s: float) -> None:
        scenario, self._busy_s = world.scenario, busy_s
        self.scenario, self.own = scenario, world.trace.requests[slot]
        self._bits = 8.0 * scenario.catalog.sizes_bytes.astype(np.float64)
        self._kept = world.devices(slot)
        users, nodes = world.trace.num_users, scenario.config.num_nodes
        self._per_bit = user_seconds_per_bit(world.delay, slot, users, nodes)

    def bounds(self, requests: Int) -> tuple[Float, Float]:
        """Tables of placements (samples, bounds, blocks, 2^nodes) and the bound of the band (samples,), s."""
        demands = [self._needs(asked) for asked in requests]
        parts = [bound_tables(demand, self.scenario.config) for demand in demands]
        tables, bands = np.stack([part[0] for part in parts]), np.array([part[1] for part in parts])
        waiting = [demand.needs.any(axis=1).sum() / max(demand.asked, 1) for demand in demands]
        wait_s = self._busy_s * np.array(waiting)
        shares = np.array(SHARES if tables.shape[1] == len(SHARES) else (1.0,))
        a_block = wait_s[:, None] * shares / tables.shape[2]  # every block counts once in every placement
        return tables + a_block[:, :, None, None], bands + wait_s

    def _needs(self, asked: Int) -> SlotNeeds:
        needs = self.scenario.catalog.members[np.maximum(asked, 0)] & (asked >= 0)[:, None]
        return SlotNeeds(
            needs=needs if self._kept is None else needs & ~self._kept,
            asked=int((asked >= 0).sum()),
            per_bit=self._per_bit,
            air_bits=self._bits,
            wire_bits=self._bits,
        )


def _luck(demand: _Demand, table_s: Float, requests: Int, chances: Float) -> float:
    """How much the slot's own requests cost above the mean, s, at a placement that is good for a table.

    The futures must be drawn apart from those behind the table, else the mean is too low.
    """
    scenario, rows = demand.scenario, np.arange(table_s.shape[0])
    masks = greedy_masks(table_s, scenario.catalog.sizes_bytes, scenario.capacity_bytes)
    tables, bands = demand.bounds(np.concatenate([demand.own[None], requests]))
    pays = np.maximum(tables[:, :, rows, masks].sum(axis=2).max(axis=1), bands)
    return float(pays[0] - chances @ pays[1:])


def _best_of(tables: Float, bands: Float, chances: Float, scenario: Scenario) -> tuple[Float, float]:
    """The mean over samples, each with the table or constant that bounds it best at a good placement.

    Args:
        tables: (samples, bounds, blocks, 2^nodes), s.
        bands: (samples,), s.
        chances: (samples,).
        scenario: Sizes and capacities.
    """
    rows, best = np.arange(tables.shape[2]), (-np.inf, tables[0, 0], 0.0)
    mean = np.einsum("m,mtbc->bc", chances, tables) / tables.shape[1]
    for _ in range(ROUNDS):
        masks = greedy_masks(mean, scenario.catalog.sizes_bytes, scenario.capacity_bytes)
        values = tables[:, :, rows, masks].sum(axis=2)
        which, flat = values.argmax(axis=1), bands > values.max(axis=1)
        chosen = tables[np.arange(len(tables)), which]
        mean = np.einsum("m,mbc->bc", np.where(flat, 0.0, chances), chosen)
        constant = float(chances[flat] @ bands[flat])
        value = room_dual(mean, scenario) + constant
        if value > best[0]:
            best = (value, mean, constant)
    return best[1], best[2]


def room_dual(table_s: Float, scenario: Scenario) -> float:
    """Bound on the least sum of a table over all placements that fit, s: room has prices (Lagrange).

    Args:
        table_s: (blocks, 2^nodes), s.
        scenario: Sizes and capacities.
    """
    sizes, room = scenario.catalog.sizes_bytes.astype(np.float64), scenario.capacity_bytes
    bits, rows = mask_bits(room.size).astype(np.float64), np.arange(sizes.size)
    masks = greedy_masks(table_s, scenario.catalog.sizes_bytes, room)
    aim, best, stalled, length = float(table_s[rows, masks].sum()), -np.inf, 0, 1.0
    typical = float((table_s[:, 0] - table_s[:, -1]).clip(min=0.0).sum() / sizes.sum())
    prices = np.full(room.size, 0.3 * typical)
    for _ in range(PRICE_STEPS):
        priced = table_s + sizes[:, None] * (bits @ prices)
        pick = priced.argmin(axis=1)
        value = float(priced[rows, pick].sum() - prices @ room)
        stalled = 0 if value > best + 1e-5 * abs(best) else stalled + 1
        if stalled == 8:
            stalled, length = 0, 0.6 * length
        best = max(best, value)
        slope = sizes @ bits[pick] - room
        norm = float(slope @ slope)
        if norm == 0 or aim - best <= 1e-9 * abs(aim):
            break
        prices = np.maximum(prices + length * max(aim - value, 0.0) / norm * slope, 0.0)
    return max(best, float(table_s.min(axis=1).sum()))


def _charged(world: World, tables_s: Float) -> float:
    """Least mean cost of a slot with what the scenario charges for updates, s: one shortest path a block."""
    scenario = world.scenario
    batch = WorldBatch(
        scenario=scenario,
        tables_s=torch.tensor(tables_s[None]),
        update_s_bit=update_table(radio_of(scenario)),
        bits=torch.tensor(8.0 * scenario.catalog.sizes_bytes.astype(np.float64)),
        requests=torch.tensor(world.trace.requests[None]),
        user_xy=torch.tensor(world.trace.user_xy[None]),
        snr=None,
    )
    return float(hindsight_bracket(batch).lower_s[0])


__all__ = ["CausalBound", "Futures", "causal_bound", "room_dual", "sampled_futures"]
