"""Bayes' rule agrees with counting over all ranks; forecasts agree with what the process does."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from policy.bounds.process import Choices, RankFilter, forecast, popularity
from policy.config import RequestConfig
from policy.errors import PolicyError
from policy.interfaces import Float, Int
from policy.learn.request_statistics import LATER
from policy.world.demand import DemandState, start_demand, step_demand

PROCESS = RequestConfig(
    request_prob=0.9,
    zipf_exponent=1.2,
    stickiness=0.6,
    no_repeat=1,
    reshuffle_prob=0.15,
    drift_prob=0.0,
    cell_taste=0.0,
)
FAMILIES = np.array([0, 0, 1, 1])
USERS, CELLS = 3, np.zeros(3, dtype=np.int64)


def _requests(seed: int, slots: int) -> list[Int]:
    rng = np.random.default_rng(seed)
    state, made = start_demand(rng, USERS, 1, FAMILIES.size, PROCESS), []
    for _ in range(slots):
        state, asked = step_demand(rng, state, CELLS, FAMILIES, PROCESS)
        made.append(asked)
    return made


def _chance_of(model: int, last: int, ranks: tuple[int, ...]) -> float:
    """Chance of one request, written out."""
    weight = [(1.0 + rank) ** -PROCESS.zipf_exponent for rank in ranks]
    free = [m for m in range(4) if m != last]
    kin = [m for m in free if last >= 0 and FAMILIES[m] == FAMILIES[last]]
    anywhere = weight[model] / sum(weight[m] for m in free) if model in free else 0.0
    if not kin:
        return anywhere
    inside = weight[model] / sum(weight[m] for m in kin) if model in kin else 0.0
    return PROCESS.stickiness * inside + (1 - PROCESS.stickiness) * anywhere


def _exact(requests: list[Int]) -> Float:
    """Chance that a model has a rank in the slot after the last, (models, ranks): the forward algorithm."""
    states = list(itertools.permutations(range(4)))
    believed, last = np.full(len(states), 1 / len(states)), np.full(USERS, -1)
    for asked in requests:
        for user in np.flatnonzero(asked >= 0):
            believed *= [_chance_of(asked[user], last[user], ranks) for ranks in states]
        last = np.where(asked >= 0, asked, last)
        believed /= believed.sum()
        believed = (1 - PROCESS.reshuffle_prob) * believed + PROCESS.reshuffle_prob / len(states)
    return np.asarray(np.einsum("s,smr->mr", believed, np.eye(4)[np.array(states)]))


@pytest.mark.parametrize("seed", range(3))
def test_the_filter_agrees_with_counting_over_all_ranks(seed: int) -> None:
    requests = _requests(seed, 6)
    held = RankFilter(np.random.default_rng(seed), USERS, FAMILIES, PROCESS, particles=6000, moves=4)
    for asked in requests:
        held.observe(asked)
    sampled = np.eye(4)[held.ranks].mean(axis=0)

    assert sampled == pytest.approx(_exact(requests), abs=0.03)
    assert (np.sort(held.ranks, axis=1) == np.arange(4)).all()


def test_chances_are_those_of_the_process() -> None:
    rng, copies = np.random.default_rng(0), 3000
    ranks, last = np.array([2, 0, 1, 3]), np.array([[-1], [1], [3]])
    state = DemandState(
        slot=9,
        ranks=np.stack([ranks] * 2),
        last=np.repeat(last, copies, axis=0),
        flash_model=-1,
        flash_left=0,
    )
    config, cells = replace(PROCESS, reshuffle_prob=0.0), np.zeros(USERS * copies, dtype=np.int64)
    counted = []
    for _ in range(20):
        state, asked = step_demand(rng, state, cells, FAMILIES, config)
        counted.append((asked.reshape(USERS, copies, 1) == np.arange(4)).mean(axis=1))
    later = np.average(counted[1:], axis=0, weights=LATER ** np.arange(19))

    made = forecast(rng, np.tile(ranks, (2000, 1)), last, FAMILIES, config)

    assert made == pytest.approx(np.stack([counted[0], later]), abs=0.03)
    assert made.sum(axis=-1) == pytest.approx(config.request_prob)
    for user, model in itertools.product(range(USERS), range(4)):
        wanted = _chance_of(model, int(last[user, 0]), tuple(ranks))
        assert made[0, user, model] == pytest.approx(config.request_prob * wanted)


def test_same_seed_same_belief() -> None:
    def believed(seed: int) -> Int:
        held = RankFilter(np.random.default_rng(seed), USERS, FAMILIES, PROCESS, particles=50)
        for asked in _requests(0, 4):
            held.observe(asked)
        return held.ranks

    assert (believed(1) == believed(1)).all()
    assert (believed(1) != believed(2)).any()


def test_a_family_with_nothing_new_is_left() -> None:
    config = replace(PROCESS, no_repeat=2)
    choices = Choices.after(np.array([[0, 1], [0, 2]]), FAMILIES, config)

    assert choices.stay.tolist() == [0.0, config.stickiness]
    assert choices.free.tolist() == [[0, 0, 1, 1], [0, 1, 0, 1]]
    assert popularity(np.arange(2), config) == pytest.approx([1.0, 2**-1.2])


@pytest.mark.parametrize("part", ["cell_taste", "drift_prob", "flash_prob", "diurnal_amplitude"])
def test_other_processes_are_refused(part: str) -> None:
    config = replace(PROCESS, **{part: 0.1})  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=part):
        RankFilter(np.random.default_rng(0), USERS, FAMILIES, config)
