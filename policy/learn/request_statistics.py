"""What the requests seen so far say about each user's next request: statistics kept up to date slot by slot.

Everything is per user and per model with the same formula for each, so numbers of users, models and nodes are
free, and any renumbering of them renumbers the result. A leading axis of worlds lets training and deployment
share the code.

A small mixture model is fitted online, by one step of expectation maximisation per slot (Dempster, Laird and
Rubin, 1977): a request stays in the family of the user's last model with chance `stay`, else goes
anywhere; within either set a model is drawn in proportion to its popularity (Luce's choice axiom, fitted
as by Hunter, 2004); a model asked for k requests ago is avoided or preferred by a factor. Beside it stand
simple forecasts from counts alone: of all requests, of the cell, of the user. They are blended by how well
each has forecast so far (exponential weights); the network in `policy.learn.demand` corrects the blend.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policy.interfaces import BlockCatalog, Bool, Float, Int
from policy.learn.columns import columns, width_of

BACK = 3
"""Last requests of a user that count one by one."""
DECAYS = (0.985, 0.85)
"""What a popularity count keeps each slot: slow and fast."""
CELL_DECAY = 0.985
"""What the counts of a cell keep each slot."""
EXPERTS = 5
"""Simple forecasters beside the mixture; what each said of past requests tells which one to trust."""
PAIR = columns(
    asked_back=BACK,  # whether it was the last request, the one before, ...
    asked_back_by_factor=BACK,  # the same, by how users repeat themselves, log
    kin=1,  # whether it is of the last request's family
    overlap_last=1,
    overlap_before=1,  # share of blocks with the last two requests
    popular_slow=1,
    popular_fast=1,
    fresh=1,  # requests of the last slots against expected ones, log
    cell=1,
    own=1,  # the same of the cell, and of the user
    forecast=1,  # what is corrected, log
    family=1,  # chance within the family, log
    asks=1,
    asks_of_all=1,  # requests seen so far, log
    stay=1,  # chance to stay in a family
    hottest=1,  # largest `fresh`
    models=1,  # how many there are, log
    experts=3,  # forecasts of the middle experts, log
    expert_scores=EXPERTS,
    trust=1,  # in the mixture
    first_expert=1,
    mixture=1,  # forecast of the mixture, log
)
"""Features of one (user, model) pair."""
NUM_FEATURES = width_of(PAIR)
ASK = columns(own_rate=1, rate_of_all=1, recent_rates=2, slots=1)
"""Features of one user's urge to ask at all; rates as log odds."""
NUM_ASK_FEATURES = width_of(ASK)
NO_KIN = 0.03
"""Kin of less weight than this is as good as none; a model weighs 1 on average."""
LATER = 0.8
"""Weight of each slot after the next relative to the one before, in what is forecast of later slots."""
TRUST_START = 0.6
"""Weight of the mixture before anything is seen; the simple forecasters share the rest."""
TRUST_DECAY = 0.97
"""What the evidence for each forecaster keeps each slot."""
TRUST_RATE = 0.3
"""Weight of a request's log chance in that evidence; with 1 it would be Bayes' rule."""

Single = NDArray[np.float32]


def overlap_matrix(catalog: BlockCatalog) -> Float:
    """Shared bytes over the bytes of both together, for every two models, (models, models)."""
    members = catalog.members.astype(np.float64)
    both = (members * catalog.sizes_bytes) @ members.T
    own = catalog.model_bytes.astype(np.float64)
    return np.asarray(both / (own[:, None] + own[None, :] - both))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """Chances of each model for each user who asks, each (worlds, users, models)."""

    whole: Float
    """All effects together."""
    family: Float
    """If the request stays in the family."""
    free: Float
    """If it does not."""
    plain: Float
    """All effects but the avoidance of recent models."""


class RequestStatistics:
    """Running statistics of requests, and the features made of them."""

    def __init__(self, shape: tuple[int, int], families: Int, overlap: Float, nodes: int) -> None:
        """Start with nothing seen.

        Args:
            shape: (worlds, users).
            families: Family of each model, (models,).
            overlap: See `overlap_matrix`, (models, models).
            nodes: Number of nodes (cells).
        """
        (worlds, users), models = shape, families.size
        none = np.zeros((1, models))  # row -1 of each: no last model
        self._kin = np.vstack([families[:, None] == families[None, :], none]).astype(bool)
        self._overlap = np.vstack([overlap, none])
        self._spot = np.vstack([np.eye(models), none])
        self._last = np.full((worlds, users, BACK), -1, dtype=np.int64)
        self._asks = np.zeros((worlds, users))
        self._own = np.zeros((2, worlds, users, models))
        self._counts = np.zeros((2, len(DECAYS), worlds, models))
        self._cell = np.zeros((2, worlds, nodes, models))
        self._fresh = np.zeros((2, worlds, models))
        self._stayed = np.zeros((2, worlds))
        self._repeats = np.zeros((2, worlds, BACK))
        self._score = np.zeros((worlds, EXPERTS))
        self._evidence = np.zeros((worlds, 1 + EXPERTS))
        self._rate = np.zeros((2, worlds))
        self._slots = 0
        self._now: Mixture | None = None

    @property
    def stay(self) -> Float:
        """Chance that a request stays in the last family, (worlds,)."""
        return np.asarray((2.0 + self._stayed[0]) / (5.0 + self._stayed[1]))

    @property
    def repeat(self) -> Float:
        """How much likelier than by chance a model asked for 1, 2, ... requests ago is, (worlds, BACK)."""
        return np.asarray((self._repeats[0] + 0.5) / (self._repeats[1] + 0.5))

    def popularity(self, which: int = 0) -> Float:
        """Popularity of each model by one of `DECAYS`, given how often it was on offer, (worlds, models)."""
        prior = 4.0 / self._fresh.shape[2]
        return np.asarray((self._counts[0, which] + prior) / (self._counts[1, which] + prior))

    def mixture(self) -> Mixture:
        """The fitted mixture; computed once a slot."""
        if self._now is None:
            theta = np.broadcast_to(self.popularity()[:, None, :], self._own.shape[1:])
            recent = 1.0 + np.einsum("wk,wukm->wum", self.repeat - 1.0, self._spot[self._last])
            kin, stay = self._kin[self._last[:, :, 0]], self.stay[:, None, None]
            family, free = _within(theta * np.maximum(recent, 1e-3), kin)
            plain_family, plain_free = _within(theta, kin)
            self._now = Mixture(
                whole=stay * family + (1 - stay) * free,
                family=family,
                free=free,
                plain=stay * plain_family + (1 - stay) * plain_free,
            )
        return self._now

    def later(self) -> Float:
        """Chances of each model for each user who asks in a later slot, (worlds, users, models).

        A user who is free once may be in any family after that; how far ahead is geometric, see `LATER`.
        """
        rate = (self._asks.sum(1) + 1.4) / (self._asks.shape[1] * self._slots + 2.0)
        same = (1 - rate * (1 - self.stay))[:, None, None]
        same = (1 - LATER) * same / (1 - LATER * same)
        theta = self.popularity()[:, None, :]
        return np.asarray(same * self.mixture().plain + (1 - same) * theta / theta.sum(-1, keepdims=True))

    def experts(self, cells: Int) -> Float:
        """Simple forecasts from counts alone, (EXPERTS, worlds, users, models).

        The common popularity, slow and fast; the user's cell; the user itself; and no idea at all.
        """
        forecasts = np.empty((EXPERTS, *self._own.shape[1:]))
        forecasts[0] = (self._counts[0, 0] + 2.0)[:, None]
        forecasts[1] = (self._counts[0, 1] + 0.5)[:, None]
        forecasts[2] = self._cell[0][np.arange(cells.shape[0])[:, None], cells] + 1.0
        forecasts[3] = self._own[0] + 0.5
        forecasts[4] = 1.0
        forecasts /= forecasts.sum(axis=-1, keepdims=True)
        return forecasts

    @property
    def trust(self) -> Float:
        """Weights of the mixture and of each of `experts`, by what they said before each past request.

        (worlds, 1 + EXPERTS); exponential weights as in Vovk (1990), from `TRUST_START` for the mixture.
        """
        start = np.append(TRUST_START, np.full(EXPERTS, (1 - TRUST_START) / EXPERTS))
        weights = start * np.exp(self._evidence - self._evidence.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def observe(self, requests: Int, cells: Int) -> None:
        """Take in one slot.

        Args:
            requests: Model each user asked for, -1 for none, (worlds, users).
            cells: Nearest node of each user, (worlds, users).
        """
        mix = self.mixture()
        asked, hit = requests >= 0, self._spot[requests]
        log_seen = np.log((mix.whole * hit).sum(-1) + ~asked)
        said = np.log((self.experts(cells) * hit).sum(-1) + ~asked) - log_seen
        self._evidence *= TRUST_DECAY
        self._evidence[:, 1:] += TRUST_RATE * said.sum(axis=2).T
        self._score = 0.97 * self._score + 0.03 * said.mean(axis=2).T
        sticky = self._stickiness(mix, asked, hit)
        self._count_popular(asked, hit, sticky)
        expected = mix.whole * asked[:, :, None]
        self._own += (hit, expected)
        here = np.eye(self._cell.shape[2])[cells]
        self._cell *= CELL_DECAY
        self._cell += [np.einsum("wun,wum->wnm", here, seen) for seen in (hit, expected)]
        self._fresh = np.stack([hit.sum(1), expected.sum(1)])
        back = self._spot[self._last]
        self._repeats[0] += np.einsum("wum,wukm->wk", hit, back)
        self._repeats[1] += np.einsum("wum,wukm->wk", mix.plain * asked[:, :, None], back)
        self._remember(requests, asked)

    def _remember(self, requests: Int, asked: Bool) -> None:
        """Who asked, how often, for what last."""
        self._asks += asked
        self._slots += 1
        share = asked.mean(1)
        self._rate = np.stack([share, 0.8 * self._rate[1] + 0.2 * share])
        pushed = np.concatenate([requests[:, :, None], self._last[:, :, :-1]], axis=2)
        self._last = np.where(asked[:, :, None], pushed, self._last)
        self._now = None

    def _stickiness(self, mix: Mixture, asked: Bool, hit: Float) -> Float:
        """Chance that each request was one that stayed in the family (expectation step), (worlds, users)."""
        known = asked & (self._last[:, :, 0] >= 0)
        stay = self.stay[:, None]
        inside, free = stay * (mix.family * hit).sum(-1), (1 - stay) * (mix.free * hit).sum(-1)
        sticky = np.where(known, inside / np.maximum(inside + free, 1e-12), 0.0)
        self._stayed = 0.99 * self._stayed + (sticky.sum(1), known.sum(1))
        return sticky

    def _count_popular(self, asked: Bool, hit: Float, sticky: Float) -> None:
        """Count requests of each model, and how much each was on offer (maximisation step)."""
        kin = self._kin[self._last[:, :, 0]]
        avoided = (np.log(self.repeat[:, :2]).mean(1) < 0)[:, None, None]
        barred = np.minimum(self._spot[self._last[:, :, :2]].sum(axis=2), 1.0) * avoided
        for which, keep in enumerate(DECAYS):
            theta = self.popularity(which)[:, None, :]
            inside = np.maximum(np.where(kin, theta, 0.0).sum(-1, keepdims=True), 1e-12)
            offer = sticky[:, :, None] * kin / inside
            offer = offer + (asked - sticky)[:, :, None] / theta.sum(-1, keepdims=True)
            self._counts[:, which] *= keep
            self._counts[0, which] += hit.sum(1)
            self._counts[1, which] += (offer * (1 - barred)).sum(1)

    def features(self, cells: Int) -> tuple[Single, Single, Single]:
        """Features of the next request.

        Args:
            cells: Nearest node of each user, (worlds, users).

        Returns:
            Log of the blended forecasts of the next slot and of later ones, (2, worlds, users, models), pair
            features (worlds, users, models, NUM_FEATURES), and user features (worlds, users,
            NUM_ASK_FEATURES).
        """
        mix, trust, experts = self.mixture(), self.trust, self.experts(cells)
        worlds, users, models = mix.whole.shape
        pair = np.empty((worlds, users, models, NUM_FEATURES), dtype=np.float32)
        simple = np.einsum("we,ewum->wum", trust[:, 1:], experts)
        blend = trust[:, :1, None] * np.stack([mix.whole, self.later()]) + simple
        base = np.log(np.maximum(blend, 1e-6)).astype(np.float32)
        kin = self._kin[self._last[:, :, 0]]
        self._fill_recent(pair, kin)
        self._fill_counts(pair, cells)
        for name, values in {
            "forecast": base[0] + np.log(models),
            "family": np.log(np.maximum(mix.family * models, 1e-3)) * kin,
            "asks": np.log1p(self._asks)[:, :, None] / 3,
            "asks_of_all": (np.log1p(self._asks.sum(1)) / 5)[:, None, None],
            "stay": self.stay[:, None, None],
            "hottest": pair[..., PAIR["fresh"]].max(axis=(2, 3))[:, :, None],
            "models": np.log(models) / 4,
            "trust": trust[:, :1, None],
            "first_expert": np.log(experts[0] * models),
            "mixture": np.log(np.maximum(mix.whole * models, 1e-3)),
        }.items():
            pair[..., PAIR[name]] = np.asarray(values)[..., None]
        pair[..., PAIR["experts"]] = np.log(experts[1:4] * models).transpose(1, 2, 3, 0)
        pair[..., PAIR["expert_scores"]] = (10 * self._score)[:, None, None, :]
        return base, pair, self._ask_features()

    def _fill_recent(self, pair: Single, kin: Bool) -> None:
        """Was it asked for lately, or something like it?"""
        back = self._spot[self._last]
        factor = np.log(self.repeat)
        pair[..., PAIR["asked_back"]] = back.transpose(0, 1, 3, 2)
        pair[..., PAIR["asked_back_by_factor"]] = (back * factor[:, None, :, None]).transpose(0, 1, 3, 2)
        pair[..., PAIR["kin"]] = kin[..., None]
        pair[..., PAIR["overlap_last"]] = self._overlap[self._last[:, :, 0]][..., None]
        pair[..., PAIR["overlap_before"]] = self._overlap[self._last[:, :, 1]][..., None]

    def _fill_counts(self, pair: Single, cells: Int) -> None:
        """How popular is it, against what was expected: slowly, fast, now, in the cell, with the user."""
        rows = np.arange(cells.shape[0])[:, None]
        for name, values in {
            "popular_slow": np.log(self.popularity(0))[:, None],
            "popular_fast": np.log(self.popularity(1))[:, None],
            "fresh": _log_ratio(self._fresh)[:, None],
            "cell": _log_ratio(self._cell)[rows, cells],
            "own": _log_ratio(self._own),
        }.items():
            pair[..., PAIR[name]] = values[..., None]

    def _ask_features(self) -> Single:
        users = self._asks.shape[1]
        ask = np.empty((*self._asks.shape, NUM_ASK_FEATURES), dtype=np.float32)
        ask[..., ASK["own_rate"]] = _logit((self._asks + 1.4) / (self._slots + 2.0))[..., None]
        rate = _logit((self._asks.sum(1) / users + 1.4) / (self._slots + 2.0))
        ask[..., ASK["rate_of_all"]] = rate[:, None, None]
        ask[..., ASK["recent_rates"]] = self._rate.T[:, None, :] if self._slots else 0.7
        ask[..., ASK["slots"]] = np.log1p(self._slots) / 3
        return ask


def _within(weights: Float, kin: Bool) -> tuple[Float, Float]:
    """Chances in proportion to weights: among kin (among all if kin weighs next to nothing), among all."""
    free = weights / weights.sum(axis=-1, keepdims=True)
    inside = np.where(kin, weights, 0.0)
    mass = inside.sum(axis=-1, keepdims=True)
    return (inside + NO_KIN * free) / (mass + NO_KIN), free


def _log_ratio(seen_expected: Float) -> Float:
    return np.asarray(np.log((seen_expected[0] + 0.5) / (seen_expected[1] + 0.5)))


def _logit(p: Float) -> Float:
    return np.asarray(np.log(p / np.maximum(1 - p, 1e-3)))
