"""Who asks for what: one pure step per slot, so that a planner can sample the same futures as the trace."""

import math
from dataclasses import dataclass, replace

import numpy as np

from policy.config import RequestConfig
from policy.interfaces import Float, Int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemandState:
    """All that the next requests depend on."""

    slot: int
    """Slots so far."""
    ranks: Int
    """Rank of each model, common in row 0 and of each cell below, (1 + nodes, models)."""
    last: Int
    """Last models each user asked for, newest first, -1 for none, (users, memory)."""
    flash_model: int
    """Model of the flash crowd, -1 for none."""
    flash_left: int
    """Slots the flash crowd still lasts."""


def start_demand(
    rng: np.random.Generator, users: int, nodes: int, models: int, config: RequestConfig
) -> DemandState:
    """Random ranks, nobody has asked yet."""
    return DemandState(
        slot=0,
        ranks=rng.permuted(np.tile(np.arange(models), (1 + nodes, 1)), axis=1).astype(np.int64),
        last=np.full((users, max(1, config.no_repeat)), -1, dtype=np.int64),
        flash_model=-1,
        flash_left=0,
    )


def step_demand(
    rng: np.random.Generator, state: DemandState, cells: Int, families: Int, config: RequestConfig
) -> tuple[DemandState, Int]:
    """Draw one slot of requests.

    Args:
        rng: Source of every draw.
        state: Where the process stands.
        cells: Nearest node of each user, (users,).
        families: Family of each model, (models,).
        config: The process.

    Returns:
        The next state, and the model each user asks for, -1 for none, (users,).
    """
    state = _move_ranks(rng, _move_flash(rng, state, families.size, config), config)
    weights = request_weights(rng, state, cells, families, config)
    noise = rng.gumbel(size=weights.shape)
    with np.errstate(divide="ignore"):
        drawn = np.argmax(np.log(weights) + noise, axis=1)
    asks = (rng.random(cells.size) < _asking(state, config)) & (weights.sum(axis=1) > 0)
    requests = np.where(asks, drawn, -1).astype(np.int64)
    pushed = np.concatenate([requests[:, None], state.last[:, :-1]], axis=1)
    last = np.where(asks[:, None], pushed, state.last)
    return replace(state, slot=state.slot + 1, last=last), requests


def request_weights(
    rng: np.random.Generator, state: DemandState, cells: Int, families: Int, config: RequestConfig
) -> Float:
    """Unnormalised chance of each model for each user, after the user's mood is drawn, (users, models).

    The mood: own cell's taste or the common one; within the last family or free; flash crowd or not.
    """
    users, models = cells.size, families.size
    mood = rng.random((3, users))
    row = np.where(mood[0] < config.cell_taste, 1 + cells, 0)
    weights = (1.0 + state.ranks[row]) ** -config.zipf_exponent
    last = state.last[:, 0]
    sticks = (mood[1] < config.stickiness) & (last >= 0)
    inside = families[None, :] == families[np.maximum(last, 0)][:, None]
    weights = np.where(sticks[:, None] & ~inside, 0.0, weights)
    if state.flash_model >= 0:
        hot = mood[2] < config.flash_share
        only = np.arange(models) == state.flash_model
        weights = np.where(hot[:, None], only.astype(np.float64), weights)
    free = weights * _not_recent(state, models, config)
    barred = free.sum(axis=1) == 0  # a family with nothing new: draw from all models but the recent ones
    anywhere = (1.0 + state.ranks[row]) ** -config.zipf_exponent * _not_recent(state, models, config)
    return np.where(barred[:, None], anywhere, free)


def expected_requests(
    rng: np.random.Generator, state: DemandState, cells: Int, families: Int, config: RequestConfig
) -> Float:
    """Chance that each user asks for each model in the coming slot, for oracles, (users, models).

    Exact but for what moves first (ranks, the flash crowd), which is drawn: the mean over draws is the
    chance. Arguments as for `step_demand`.
    """
    state = _move_ranks(rng, _move_flash(rng, state, families.size, config), config)
    last, allowed = state.last[:, :1], _not_recent(state, families.size, config)
    inside = (families[None, :] == families[np.maximum(last, 0)]) & (last >= 0)
    stay = np.where(last >= 0, config.stickiness, 0.0)
    hot = config.flash_share if state.flash_model >= 0 else 0.0
    flash = np.arange(families.size) == state.flash_model
    chance = np.zeros(allowed.shape)
    for row, share in ((np.zeros_like(cells), 1.0 - config.cell_taste), (1 + cells, config.cell_taste)):
        weights = (1.0 + state.ranks[row]) ** -config.zipf_exponent * allowed
        anywhere = _shares(weights, weights)
        mild = stay * _shares(weights * inside, weights) + (1.0 - stay) * anywhere
        chance += share * ((1.0 - hot) * mild + hot * _shares(flash * allowed, weights))
    return chance * _asking(state, config)


def _shares(weights: Float, otherwise: Float) -> Float:
    """Weights that sum to 1; those of `otherwise` where all are 0."""
    barred = weights.sum(axis=1, keepdims=True) == 0
    either = np.where(barred, otherwise, weights)
    return np.asarray(either / np.maximum(either.sum(axis=1, keepdims=True), 1e-300))


def _asking(state: DemandState, config: RequestConfig) -> float:
    """Chance that a user asks in the coming slot."""
    wave = 1 + config.diurnal_amplitude * math.sin(2 * math.pi * state.slot / config.diurnal_slots)
    return min(1.0, config.request_prob * wave)


def _not_recent(state: DemandState, models: int, config: RequestConfig) -> Float:
    """1 where a user may ask for a model, 0 for one of its last ones, (users, models)."""
    allowed = np.ones((state.last.shape[0], models + 1))
    for back in range(config.no_repeat):
        allowed[np.arange(allowed.shape[0]), state.last[:, back]] = 0.0  # -1 lands in the spare column
    return allowed[:, :models]


def _move_flash(
    rng: np.random.Generator, state: DemandState, models: int, config: RequestConfig
) -> DemandState:
    starts, model = rng.random() < config.flash_prob, int(rng.integers(models))
    if state.flash_left > 1:
        return replace(state, flash_left=state.flash_left - 1)
    if starts:
        return replace(state, flash_model=model, flash_left=config.flash_slots)
    return replace(state, flash_model=-1, flash_left=0)


def _move_ranks(rng: np.random.Generator, state: DemandState, config: RequestConfig) -> DemandState:
    models = state.ranks.shape[1]
    shuffles, swaps = rng.random() < config.reshuffle_prob, rng.random() < config.drift_prob
    fresh = rng.permuted(state.ranks, axis=1)
    pair = rng.integers(models, size=2)
    if shuffles:
        return replace(state, ranks=fresh)
    if not swaps:
        return state
    ranks = state.ranks.copy()
    ranks[:, pair] = ranks[:, pair[::-1]]
    return replace(state, ranks=ranks)
