"""Expected delay of every block under every set of caching nodes, from forecasts of demand and places.

Slots are sampled (whom the forecast says may ask for what, from where) and each is priced exactly: the
slowest user of each broadcast, the best migration. A block's expected delay is its size times a number
that depends only on which models contain it, so blocks are first merged into classes; the price is paid
per class, not per block.
"""

from dataclasses import dataclass

import numpy as np

from policy.config import LinkConfig, RadioProxyConfig
from policy.interfaces import Bool, Float, Int
from policy.learn.request_statistics import Single
from policy.slot.tables import ServiceRules, mask_bits
from policy.world.cheap_radio import link_snr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classes:
    """Blocks merged by the set of models that contain them."""

    of_block: Int
    """Class of each block, (blocks,)."""
    members: Bool
    """Which model needs which class, (models, classes)."""
    models_of: Int
    """Models that need each class in any form, padded with the number of models, (classes, most models)."""
    alone: Bool | None = None
    """Which model is sent which class if it is sent alone; None: blocks have one form, see `OtherForms`."""


def classes_of(members: Bool, alone: Bool | None = None) -> Classes:
    """Merge blocks that the same models need; `members` is (models, blocks), so is `alone`."""
    both = members if alone is None else np.vstack([members, alone])
    distinct, of_block = np.unique(both.T, axis=0, return_inverse=True)
    needed = np.ascontiguousarray(distinct.T)
    kept, other = needed[: len(members)], needed[len(members) :]
    return Classes(
        of_block=of_block.reshape(-1).astype(np.int64),
        members=kept,
        models_of=_padded_models(kept if alone is None else kept | other),
        alone=None if alone is None else other,
    )


def spread_draws(rng: np.random.Generator, samples: int, users: int) -> Float:
    """Stratified uniforms, (samples, users): each user's column hits every 1/samples-th of [0, 1) once."""
    order = rng.permuted(np.tile(np.arange(samples), (users, 1)), axis=1).T
    return np.asarray((order + rng.random((samples, users))) / samples)


def draw_requests(chance: Float, uniforms: Float) -> Int:
    """Model of each user in each sample, -1 for none.

    Args:
        chance: Chance that a user asks for a model, (users, models), rows sum to at most 1.
        uniforms: (samples, users).
    """
    edges = np.cumsum(chance, axis=1)
    drawn = (uniforms[:, :, None] >= edges[None]).sum(axis=2)
    return np.where(drawn < chance.shape[1], drawn, -1)


def seconds_per_bit(node_xy: Float, user_xy: Float, radio: RadioProxyConfig) -> Single:
    """Air time of a bit to each user from each set of nodes, (samples, users, 2^nodes); 0 for no node."""
    snr = link_snr(node_xy, user_xy, radio)
    bits = mask_bits(node_xy.shape[0]).astype(np.float64)
    joint = (np.sqrt(snr) @ bits.T) ** 2 if radio.combining == "coherent" else snr @ bits.T
    joint[..., 0] = np.inf
    seconds = np.log(2.0) / (radio.bandwidth_hz * np.log1p(joint.astype(np.float32)))
    seconds[..., 0] = 0.0
    return np.asarray(np.minimum(seconds, 1e3), dtype=np.float32)


def class_times(
    asked: Int, air: Single, of: Classes, kept: Bool | None = None, rules: ServiceRules | None = None
) -> Single:
    """Air time of one bit of each class in each sample: that of the slowest user who misses it.

    As the ablations want it: of the best single node, and of all users one after another.

    Args:
        asked: Model of each user in each sample, -1 for none, (samples, users).
        air: See `seconds_per_bit`, (samples, users, 2^nodes).
        of: The classes.
        kept: Classes on each device, (users, classes); None: devices keep nothing.
        rules: Ablations.

    Returns:
        (2^nodes, classes, samples), s/bit; 0 where nobody misses the class.
    """
    rules = rules or ServiceRules()
    if not (rules.comp or rules.share_air):  # every user alone has its best node
        air = _best_single(air.transpose(2, 0, 1)).transpose(1, 2, 0)
    times = _by_model(asked, air, of, rules) if kept is None else _by_user(asked, air, of, kept, rules)
    return times if rules.comp or not rules.share_air else _best_single(times)


def _by_model(asked: Int, air: Single, of: Classes, rules: ServiceRules) -> Single:
    """Users of one model miss the same: first the time of each model, then of each class."""
    samples, users, sets = air.shape
    join, models, rows = _join(rules), of.members.shape[0], np.arange(samples)
    times = np.zeros((models + 1, samples, sets), dtype=np.float32)
    for user in range(users):
        model = asked[:, user]
        times[model, rows] = join(times[model, rows], air[:, user])
    times[models] = 0.0  # -1 landed there
    by_set = np.ascontiguousarray(times.transpose(2, 0, 1))
    seconds = by_set[:, of.models_of[:, 0]]
    for column in of.models_of.T[1:]:
        join(seconds, by_set[:, column], out=seconds)
    return np.asarray(seconds)


def _by_user(asked: Int, air: Single, of: Classes, kept: Bool, rules: ServiceRules) -> Single:
    """Devices hold some blocks: users of one model may miss different ones."""
    samples, users, sets = air.shape
    join, classes = _join(rules), kept.shape[1]
    needs = np.vstack([of.members, np.zeros((1, classes), dtype=bool)])[asked] & ~kept
    needed, by_user = (np.ascontiguousarray(part.transpose(1, 2, 0)) for part in (needs, air))
    seconds = np.zeros((sets, classes, samples), dtype=np.float32)
    for user in range(users):
        join(seconds, needed[user] * by_user[user, :, None], out=seconds)
    return seconds


def _join(rules: ServiceRules) -> np.ufunc:
    """How the times of several users make one: the slowest counts, or all one after another."""
    return np.maximum if rules.share_air else np.add


def _best_single(times: Single) -> Single:
    """Time of each set if its best node sends alone; sets along the first axis."""
    best = times.copy()
    for held in range(1, len(times)):
        low = held & -held
        if held != low:
            best[held] = np.minimum(times[low], best[held ^ low])
    return best


def _padded_models(members: Bool) -> Int:
    """Models that need each class, padded with the number of models, (classes, most models)."""
    models, classes = members.shape
    most = int(members.sum(axis=0).max())
    models_of = np.full((classes, most), models, dtype=np.int64)
    for place in range(classes):
        having = np.flatnonzero(members[:, place])
        models_of[place, : having.size] = having
    return models_of


def expected_tables(air: Single, links: LinkConfig, migration: bool = True, parts: int = 1) -> Float:
    """Expected seconds a bit with the best migration, per class and set of caching nodes.

    Args:
        air: See `class_times`, (2^nodes, classes, samples); overwritten.
        links: Backhaul and cloud.
        migration: Whether nodes may fetch from one another.
        parts: Equal parts of the samples that are averaged apart.

    Returns:
        (parts, classes, 2^nodes), s/bit.
    """
    sets = air.shape[0]
    wanted = air[-1] > 0
    hop = (wanted / links.backhaul_bit_s).astype(np.float32)
    nodes = sets.bit_length() - 1
    air[0] = np.inf
    for node in range(nodes if migration else 0):
        view = air.reshape(sets >> (node + 1), 2, 1 << node, *wanted.shape)
        np.minimum(view[:, 0], view[:, 1] + hop, out=view[:, 0])
    air[0] = np.where(wanted, air[1 << np.arange(nodes)].min(axis=0) + 1 / links.cloud_bit_s, 0.0)
    means = air.reshape(*air.shape[:2], parts, -1).mean(axis=3, dtype=np.float64)
    return np.ascontiguousarray(means.transpose(2, 1, 0))
