"""Bayes' rule for who is told the request process (`policy.world.demand`) and not where it stands.

Hidden are the popularity ranks, drawn anew now and then. They are followed by a particle filter (Gordon,
Salmond and Smith, 1993); after each slot the particles are moved by Metropolis steps that swap the ranks of
two models and leave the posterior as it is (resample-move: Gilks and Berzuini, 2001). All settings of the
process are known. Common ranks, families, recent models and reshuffles are covered; cells' own tastes,
drift, flash crowds and daily waves are not.
"""

from dataclasses import dataclass

import numpy as np

from policy.config import RequestConfig
from policy.errors import PolicyError
from policy.interfaces import Float, Int
from policy.learn.request_statistics import LATER
from policy.schemes.fitted import push

HORIZON = 20
"""Slots ahead that a forecast of later slots looks at; the last one stands for all that follow."""


def check_known(config: RequestConfig) -> None:
    """Refuse processes with parts that this module does not know.

    Raises:
        PolicyError: If the config has cells' tastes, drift, flash crowds or daily waves, or is not `ranks`.
    """
    if config.process != "ranks":
        raise PolicyError(f"Bayes' rule is written for the process 'ranks', not for {config.process!r}")
    names = ("cell_taste", "drift_prob", "flash_prob", "diurnal_amplitude")
    unknown = [name for name in names if getattr(config, name)]
    if unknown:
        raise PolicyError(f"Bayes' rule is written for processes without {', '.join(unknown)}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """What users may ask for, given their last requests; any leading axes."""

    free: Float
    """1 for what a request anywhere may be for, (..., models)."""
    kin: Float
    """1 for what a request within the last family may be for, (..., models)."""
    stay: Float
    """Chance that a request stays within the family, (...)."""

    @classmethod
    def after(cls, last: Int, families: Int, config: RequestConfig) -> "Choices":
        """Choices of users with the given last models, newest first, -1 for none, (..., users, memory)."""
        models = np.arange(families.size)
        recent = (last[..., : config.no_repeat, None] == models).any(axis=-2)
        family = np.where(last[..., 0] < 0, -1, families[np.maximum(last[..., 0], 0)])
        free = ~recent
        kin = free & (families == family[..., None])
        stay = np.where(kin.any(axis=-1), config.stickiness, 0.0)
        return cls(free=free.astype(np.float64), kin=kin.astype(np.float64), stay=stay)


def popularity(ranks: Int, config: RequestConfig) -> Float:
    """Zipf's law: weight of each model by its rank, same shape as `ranks`."""
    return np.asarray((1.0 + ranks) ** -config.zipf_exponent)


def reshuffled(rng: np.random.Generator, ranks: Int, config: RequestConfig) -> tuple[Int, Int]:
    """One slot of the ranks' own motion.

    Returns:
        The new ranks, (particles, models), and which particles drew theirs anew.
    """
    drawn = np.flatnonzero(rng.random(len(ranks)) < config.reshuffle_prob)
    shuffled = ranks.copy()
    shuffled[drawn] = rng.permuted(shuffled[drawn], axis=1)
    return shuffled, drawn


def forecast(rng: np.random.Generator, ranks: Int, last: Int, families: Int, config: RequestConfig) -> Float:
    """Chance that each user asks for each model in the coming slot, and in a slot after it.

    The requests in between are sampled, one course a particle; the last step is exact.

    Args:
        rng: Draws what happens in between.
        ranks: Ranks in the coming slot, one sample of them a row, (particles, models).
        last: Last models of each user, newest first, -1 for none, (users, memory).
        families: Family of each model, (models,).
        config: The process.

    Returns:
        (2, users, models), rows sum to `request_prob`. How far the later slot is ahead is geometric, see
        `policy.learn.request_statistics.LATER`.
    """
    lasts = np.broadcast_to(last, (len(ranks), *last.shape))
    coming = later = np.zeros((last.shape[0], families.size))
    for ahead in range(1, HORIZON + 1):
        if ahead > 1:
            ranks, _ = reshuffled(rng, ranks, config)
        chance = _chances(popularity(ranks, config), Choices.after(lasts, families, config))
        if ahead == 1:
            coming = chance.mean(axis=0)
        else:
            share = LATER ** (ahead - 2) * (1.0 if ahead == HORIZON else 1.0 - LATER)
            later = later + share * chance.mean(axis=0)
        lasts = push(lasts, _draw(rng, config.request_prob * chance))
    return config.request_prob * np.stack([coming, later])


def _chances(weights: Float, choices: Choices) -> Float:
    """Chance of each model for each user who asks, (particles, users, models)."""
    free, kin = choices.free * weights[:, None], choices.kin * weights[:, None]
    stay = choices.stay[..., None]
    inside = kin / np.maximum(kin.sum(axis=-1, keepdims=True), 1e-300)
    return np.asarray((1.0 - stay) * free / free.sum(axis=-1, keepdims=True) + stay * inside)


def _draw(rng: np.random.Generator, chance: Float) -> Int:
    """Model of each user, -1 for none, (particles, users)."""
    drawn = (rng.random((*chance.shape[:2], 1)) >= np.cumsum(chance, axis=-1)).sum(axis=-1)
    return np.where(drawn < chance.shape[-1], drawn, -1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """Requests so far, one after another."""

    choices: Choices
    """What could have been asked for, (requests, models) and (requests,)."""
    asked: Int
    """What was, (requests,)."""
    slot: Int
    """When, (requests,)."""

    def plus(self, choices: Choices, asked: Int, slot: int) -> "_Seen":
        """With the requests of one more slot, given for all users, -1 for none."""
        own, mine = asked >= 0, self.choices
        return _Seen(
            choices=Choices(
                free=np.concatenate([mine.free, choices.free[own]]),
                kin=np.concatenate([mine.kin, choices.kin[own]]),
                stay=np.concatenate([mine.stay, choices.stay[own]]),
            ),
            asked=np.concatenate([self.asked, asked[own]]),
            slot=np.concatenate([self.slot, np.full(own.sum(), slot)]),
        )

    def log_chance(self, weights: Float) -> Float:
        """Log chance of each request under each particle's weights, (particles, requests)."""
        choices, rows = self.choices, np.arange(self.asked.size)
        inside = choices.stay * choices.kin[rows, self.asked]
        chance = (1.0 - choices.stay) / (weights @ choices.free.T)
        chance += inside / np.maximum(weights @ choices.kin.T, 1e-300)
        return np.asarray(np.log(weights[:, self.asked] * chance))


class RankFilter:
    """Samples of the ranks given all requests so far; one object a world."""

    def __init__(
        self,
        rng: np.random.Generator,
        users: int,
        families: Int,
        config: RequestConfig,
        particles: int = 600,
        moves: int = 12,
    ) -> None:
        """Start with nothing seen.

        Args:
            rng: Source of every draw.
            users: Number of users.
            families: Family of each model, (models,).
            config: The process.
            particles: Samples.
            moves: Metropolis steps of each particle after each slot.
        """
        check_known(config)
        self._rng, self._families, self._config, self._moves = rng, families, config, moves
        models = families.size
        self.ranks: Int = rng.permuted(np.tile(np.arange(models), (particles, 1)), axis=1)
        """Ranks in the coming slot, one sample a row, (particles, models)."""
        self.last: Int = np.full((users, max(1, config.no_repeat)), -1, dtype=np.int64)
        """Last models of each user, newest first, -1 for none, (users, memory)."""
        self._since = np.zeros(particles, dtype=np.int64)  # slot in which each particle drew its ranks
        self._slot = 0
        nothing = Choices(free=np.zeros((0, models)), kin=np.zeros((0, models)), stay=np.zeros(0))
        none = np.zeros(0, dtype=np.int64)
        self._seen = _Seen(choices=nothing, asked=none, slot=none)

    def observe(self, requests: Int) -> None:
        """Take in the requests of the coming slot, (users,), -1 for none, and go on to the next one."""
        choices = Choices.after(self.last, self._families, self._config)
        self._seen = self._seen.plus(choices, requests, self._slot)
        self._resample()
        self._move()
        self.last = push(self.last, requests)
        self._slot += 1
        self.ranks, drawn = reshuffled(self._rng, self.ranks, self._config)
        self._since[drawn] = self._slot

    def _resample(self) -> None:
        """Draw particles anew in proportion to their chance of the newest slot's requests (systematic)."""
        count = len(self.ranks)
        log_chance = self._seen.log_chance(popularity(self.ranks, self._config))
        newest = log_chance[:, self._seen.slot == self._slot].sum(axis=1)
        upto = np.cumsum(np.exp(newest - newest.max()))
        marks = (np.arange(count) + self._rng.random()) / count * upto[-1]
        kept = np.minimum(np.searchsorted(upto, marks, side="right"), count - 1)
        self.ranks, self._since = self.ranks[kept], self._since[kept]

    def _move(self) -> None:
        """Metropolis steps: swap the ranks of two models, on all requests since the ranks were drawn."""
        rng, rows, (count, models) = self._rng, np.arange(len(self.ranks)), self.ranks.shape
        counts = self._seen.slot >= self._since[:, None]

        def log_chance(ranks: Int) -> Float:
            each = self._seen.log_chance(popularity(ranks, self._config))
            return np.asarray(np.where(counts, each, 0.0).sum(axis=1))

        now = log_chance(self.ranks)
        for _ in range(self._moves):
            one, two = rng.integers(models, size=(2, count))
            tried = self.ranks.copy()
            tried[rows, one], tried[rows, two] = self.ranks[rows, two], self.ranks[rows, one]
            then = log_chance(tried)
            taken = np.log1p(-rng.random(count)) < then - now
            self.ranks = np.where(taken[:, None], tried, self.ranks)
            now = np.where(taken, then, now)
