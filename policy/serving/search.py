"""The search for the plan of a slot: starts at several prices of a copy, then rounds of small changes."""

import math
from dataclasses import dataclass, replace

import numpy as np

from policy.errors import PlacementError
from policy.interfaces import Bool, Float, Int
from policy.serving.clock import climbed, planned, spread, timed
from policy.serving.effort import Effort
from policy.serving.freight import UNHEARD_S, Freight
from policy.serving.genes import Genes, joined
from policy.serving.plans import IN_TURN, Climb, Lines, Plans, joined_plans
from policy.serving.starts import start_turns
from policy.serving.threads import KINDS, NUM_LEVELS, Threads, below, options_of, threads_of
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, SINGLE

START_LAG = 2
"""`Genes.lag` of the plans to start from."""
REPAIR = 0.3
"""Price of a copy, in units of its time, at which a thread's best plan has all its holders chosen anew."""
KEPT = 4
"""Plans on the way of each thread that are judged, too: the last that were better."""
SMALL = 200
"""Numbers that a plan is made of, up to which all plans tried last are judged: links may lie between those
that plans are made for."""
SMALL_STEPS = 100
"""Changes that each thread of such a slot tries in a round at least: they cost next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The plan that a slot is served with."""

    plan: Plans
    """One row."""
    delay_s: float
    """Sum over users of when they have all they miss, s."""
    evaluations: int
    """Plans that were timed."""


def best_plan(
    problem: SlotProblem,
    freight: Freight,
    effort: Effort | None = None,
    shares: Float = IN_TURN,
) -> Choice:
    """Search the plan of a slot.

    Args:
        problem: The slot.
        freight: What can be chosen.
        effort: How long is searched.
        shares: What broadcasts at once are supposed to have, see `Lines.shares`.

    Raises:
        PlacementError: If under the rules no plan reaches all users.
    """
    search = _Search(problem, freight, effort or Effort(), shares)
    genes, plans, values = search.starts()
    best = _fittest(genes, values)
    pool, genes, values = [plans], genes.rows(best), values[best]
    for _ in range(search.effort.rounds):
        genes, values, plans = search.round(genes, values)
        pool.append(plans)
    judged = _judged(problem, freight, joined_plans(pool), shares)
    return replace(judged, evaluations=search.evaluations)


class _Search:
    """Threads of search, side by side."""

    def __init__(self, problem: SlotProblem, freight: Freight, effort: Effort, shares: Float) -> None:
        self.effort, self._problem, self._freight, self._shares = effort, problem, freight, shares
        self._threads = threads_of(freight, problem.links)
        self._comp = self._threads.of_kind("comp")
        self._allowed = options_of(freight, self._threads)
        self._split = np.array([kind.groups and not kind.alone for kind in KINDS])[self._threads.kind]
        self._options = np.ascontiguousarray(self._allowed.sum(axis=2))
        self.evaluations = 0
        self._rng = np.random.default_rng(0)
        self._cells = 2 * freight.num_parcels + 4 * freight.item_parcel.size
        self._room = self.effort.most_cells / (self._cells * sum(kind.steps for kind in KINDS))
        self.small = self._cells <= SMALL

    def starts(self) -> tuple[Genes, Plans, Float]:
        """Plans to start from, and what each takes on the links it is made for."""
        freight, threads = self._freight, self._threads
        thread, turn, way, price = _grid(threads)
        turns = start_turns(freight, threads)
        last = freight.sets.num_ways - 1
        genes = Genes(
            option=self._allowed[thread].argmax(axis=2),
            way=np.where(way[:, None] < 0, last, np.minimum(way[:, None], last)),
            turn=turns[thread, turn],
            nudge=np.zeros((thread.size, freight.num_parcels)),
            lag=np.full(thread.size, START_LAG),
            swift=np.ones(thread.size, dtype=bool),
            thread=thread,
        )
        lines, comp = self._lines(thread), self._comp[thread]
        for _ in range(2):  # the options decide the order in which they are best chosen
            genes = spread(freight, genes, comp, lines, price, self._allowed)
        return self._with_plans(joined([genes, self._homes(genes)]))

    def _homes(self, genes: Genes) -> Genes:
        """For each node plans in which it fetches all that nobody caches, and nothing else is moved."""
        freight = self._freight
        still = np.flatnonzero(~self._threads.of_kind("migration")[genes.thread])
        of_way = still[np.unique(genes.way[still], axis=0, return_index=True)[1]]
        rows = np.tile(of_way, self._problem.num_nodes)
        node = np.repeat(np.arange(self._problem.num_nodes), of_way.size)
        home = (freight.first == node[:, None, None]) & (freight.copies == 0)
        return genes.rows(rows)._replace(option=home.argmax(axis=2))

    def round(self, genes: Genes, delay_s: Float) -> tuple[Genes, Float, Plans]:
        """Improve each thread's best plan step by step, then choose its holders anew.

        Returns:
            The best plan of each thread, what it takes, and plans to be judged.
        """
        threads, freight = self._threads, self._freight
        seeds = self._rng.integers(2**63, size=(len(KINDS), NUM_LEVELS))[threads.kind, threads.level]
        climb = Climb(
            options=self._options,
            allowed=self._allowed,
            split=self._split,
            steps=self._steps(),
            below=below(threads),
            seeds=seeds,
            kept=SMALL_STEPS if self.small else KEPT,
            all_kept=self.small,
        )
        lines = self._lines(genes.thread)
        genes, _, kept = climbed(freight, genes, delay_s, self._comp, lines, climb)
        price = np.full(genes.size, REPAIR)
        every = joined([genes, spread(freight, genes, self._comp, lines, price, self._allowed)])
        every, plans, values = self._with_plans(every)
        self.evaluations += int(climb.steps.sum()) + every.size
        best = _fittest(every, values)
        return every.rows(best), values[best], joined_plans([kept, plans])

    def _steps(self) -> Int:
        """Changes to try of each thread, (threads,); the same however many threads there are."""
        share = self.effort.share * min(1.0, self._room)
        least = math.ceil(self.effort.share * SMALL_STEPS) if self.small else 1
        steps = np.array([max(math.ceil(share * kind.steps), least) for kind in KINDS])
        return np.asarray(steps[self._threads.kind], dtype=np.int64)

    def _with_plans(self, genes: Genes) -> tuple[Genes, Plans, Float]:
        return (genes, *self._timed(genes))

    def _lines(self, thread: Int) -> Lines:
        threads = self._threads
        rates = threads.backhaul_bit_s[thread], threads.cloud_bit_s[thread]
        return Lines.of(self._problem, *rates, self._shares)

    def _timed(self, genes: Genes) -> tuple[Plans, Float]:
        """Plans, and what they take on the links they are made for, (plans,), s."""
        return planned(self._freight, genes, self._comp[genes.thread], self._lines(genes.thread))


def _grid(threads: Threads) -> tuple[Int, Int, Int, Float]:
    """Thread, turns, way and price of each plan to start from."""
    rows = [
        (thread, turn, way, price)
        for thread, kind in enumerate(threads.kind.tolist())
        for turn, price in KINDS[kind].starts
        for way in KINDS[kind].ways
    ]
    thread, turn, way, price = np.array(rows).T
    return thread.astype(np.int64), turn.astype(np.int64), way.astype(np.int64), price.copy()


def _fittest(genes: Genes, value: Float) -> Int:
    """The best plan of each thread, (threads,)."""
    order = np.lexsort((value, genes.thread))
    return np.asarray(order[np.unique(genes.thread[order], return_index=True)[1]])


def _judged(problem: SlotProblem, freight: Freight, pool: Plans, shares: Float) -> Choice:
    """The best of the pool on the real links under the real rules."""
    plans = pool.rows(np.flatnonzero(_permitted(problem, freight, pool)))
    count = plans.option.shape[0]
    lines = Lines.real(problem, count, shares)
    comp = COMP if problem.rules.comp else SINGLE
    total = timed(freight, plans, np.full(count, comp), lines)
    best = int(total.argmin())
    if total[best] >= UNHEARD_S:
        air = freight.air_s[
            comp, np.arange(freight.item_parcel.size), plans.option[best, freight.item_parcel]
        ]
        item = int(np.where(plans.active[best], air, 0.0).argmax())
        block = freight.blocks[freight.item_parcel[item]][0]
        raise PlacementError(f"nobody can send block {block} to all who miss it in slot {problem.slot}")
    return Choice(plan=plans.rows(np.array([best])), delay_s=float(total[best]), evaluations=count)


def _permitted(problem: SlotProblem, freight: Freight, pool: Plans) -> Bool:
    """Which plans of the pool keep to the rules, (plans,)."""
    rules, at = problem.rules, np.arange(freight.num_parcels)
    good = np.ones(pool.option.shape[0], dtype=bool)
    if not rules.migration:
        good &= (freight.copies[at, pool.option] == 0).all(axis=1)
    if problem.may_fetch is not None:
        banned: Bool = np.asarray((freight.fetches & ~problem.may_fetch).any(axis=2))
        good &= ~banned[at, pool.option].any(axis=1)
    last = freight.sets.num_ways[freight.kind[freight.item_parcel]] - 1
    items = np.arange(freight.item_parcel.size)
    if not rules.share_air:
        good &= (pool.active == freight.in_way[items, last]).all(axis=1)
    elif not rules.groups:
        good &= (pool.active == freight.in_way[:, 0]).all(axis=1)
    if not good.any():
        raise PlacementError(f"no plan serves slot {problem.slot} under its rules")
    return good
