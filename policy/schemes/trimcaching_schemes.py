"""TrimCaching in our world: estimate its inputs from the past, run its algorithm, hold the models' blocks."""

import numpy as np

from policy.interfaces import Bool, Float
from policy.play.scheme import History, Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import AveragedTable, central_message_bytes, settle, user_counts
from policy.schemes.trimcaching import HitProblem, combinations, place_gen, place_spec


def likely_demand(history: History, models: int, memory: float, own: float) -> Float:
    """Share of each model in each user's requests, mixed with everybody's, (users, models)."""
    counts = user_counts(history, models, memory)
    everybody = (counts.sum(axis=0) + 1.0) / (counts.sum() + models)
    mine = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(own * mine + (1 - own) * everybody)


def in_time(history: History, backhaul_bit_s: float, slack: float) -> Bool:
    """Which node delivers to which user in time, itself or relayed by the user's best node, (nodes, users).

    The deadline of a model is `slack` times what it takes from its best node to the median user. Before the
    first slot nothing is known of the users: all nodes count as near enough.
    """
    nodes, users = history.node_xy.shape[0], history.requests.shape[1]
    if not history.num_slots:
        return np.ones((nodes, users), dtype=bool)
    sender = np.repeat(np.eye(nodes, dtype=bool), users, axis=0)
    target = np.tile(np.eye(users, dtype=bool), (nodes, 1))
    rates = history.rate_bit_s(history.num_slots - 1, sender, target).reshape(nodes, users)
    with np.errstate(divide="ignore"):
        direct = 1.0 / rates
    best = direct.min(axis=0)
    quickest = np.minimum(direct, best + 1.0 / backhaul_bit_s)
    return np.asarray(quickest <= slack * np.median(best), dtype=bool)


class TrimCaching:
    """Gen: hit-ratio objective as published."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        memory: float = 1.0,
        own: float = 0.7,
        slack: float = 3.0,
    ) -> None:
        self._scenario, self._memory, self._own, self._slack = scenario, memory, own, slack

    def decide(self, observation: Observation) -> Placement:
        """Place whole models; what is cached and still fits stays."""
        scenario = self._scenario
        models = self._place(self._problem(observation))
        holds = settle(scenario, models @ scenario.catalog.members, observation.at_hand)
        return Placement(holds=holds, message_bytes=central_message_bytes(scenario))

    def _place(self, problem: HitProblem) -> Bool:
        return place_gen(problem)

    def _problem(self, observation: Observation) -> HitProblem:
        scenario, history = self._scenario, observation.history
        models = scenario.catalog.num_models
        reach = in_time(history, scenario.config.links.backhaul_bit_s, self._slack)
        return HitProblem(
            demand=likely_demand(history, models, self._memory, self._own),
            reach=np.repeat(reach[:, :, None], models, axis=2),
            catalog=scenario.catalog,
            capacity_bytes=scenario.capacity_bytes,
        )


class TrimCachingSpec(TrimCaching):
    """Spec: the same objective, node by node over all combinations of shared blocks."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        memory: float = 1.0,
        own: float = 0.3,
        slack: float = 3.0,
        epsilon: float = 0.1,
    ) -> None:
        super().__init__(scenario, rng, memory, own, slack)
        self._epsilon = epsilon
        self._choices = combinations(scenario.catalog)

    def _place(self, problem: HitProblem) -> Bool:
        return place_spec(problem, self._choices, self._epsilon)


class DelayGreedy:
    """Gen's greedy over whole models, but each step saves most delay, divided by bytes ** `per_byte`."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        weight: float = 0.1,
        per_byte: float = 1.0,
        update: float = 1.0,
        prior: float = 4.0,
    ) -> None:
        self._scenario, self._per_byte, self._update = scenario, per_byte, update
        self._table = AveragedTable(scenario, weight, prior)

    def decide(self, observation: Observation) -> Placement:
        """Place whole models; what is cached and still fits stays."""
        scenario = self._scenario
        self._table.observe(observation)
        wanted = self._greedy(self._table.with_update(observation.at_hand, self._update))
        holds = settle(scenario, wanted, observation.at_hand)
        return Placement(holds=holds, message_bytes=central_message_bytes(scenario))

    def _greedy(self, table_s: Float) -> Bool:
        catalog, room = self._scenario.catalog, self._scenario.capacity_bytes.copy()
        members, sizes = catalog.members.astype(np.float64), catalog.sizes_bytes.astype(np.float64)
        bits, rows = 1 << np.arange(room.size), np.arange(sizes.size)
        masks = np.zeros(sizes.size, dtype=np.int64)
        while True:
            fresh = (masks[None, :] & bits[:, None]) == 0
            saved = table_s[rows, masks][None, :] - table_s[rows[None, :], masks[None, :] | bits[:, None]]
            gain, extra = (saved * fresh) @ members.T, (fresh * sizes) @ members.T
            gain[(extra == 0) | (extra > room[:, None])] = -np.inf
            score = gain / np.maximum(extra, 1.0) ** self._per_byte
            node, model = divmod(int(score.argmax()), catalog.num_models)
            if not gain[node, model] > 0:
                return (masks[None, :] & bits[:, None]) > 0
            room[node] -= extra[node, model]
            masks[catalog.members[model]] |= bits[node]


_PAPER = "Qu et al., arXiv 2405.03990 and 2404.14204; "

GEN_ENTRY = SchemeEntry(
    name="trimcaching-gen",
    start=TrimCaching,
    paper=_PAPER + "demand and reach are estimated from the past, placement is renewed every slot",
)

SPEC_ENTRY = SchemeEntry(
    name="trimcaching-spec",
    start=TrimCachingSpec,
    paper=_PAPER + "as Gen; only unions of the models' shared parts are tried, which loses nothing",
)

DELAY_ENTRY = SchemeEntry(
    name="trimcaching-gen-delay",
    start=DelayGreedy,
    paper=_PAPER + "Gen's greedy over whole models with our delay objective instead of the hit ratio",
)
