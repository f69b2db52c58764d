"""The radio's answers about broadcasts at once, and worlds that are played with them."""

import numpy as np
import pytest

from demo.bridge.beamformed import beamformed_world
from demo.bridge.csi import CsiError
from demo.bridge.radio_delay import RadioDelay
from demo.jobs.overrides import Overrides
from policy.bounds import unlimited_costs
from policy.config import AirConfig, ScenarioConfig
from policy.evaluation.oracles import bounds_for
from policy.play.rollout import rollout
from policy.scenario import Scenario, shipped_catalog
from policy.schemes import find_scheme
from policy.slot.rates import AirTimes, Party

CONFIG = ScenarioConfig(num_slots=2, air=AirConfig(superpose=3))


def radio_of(csi: CsiError | None = None, superpose: int = 3, **settings: float) -> RadioDelay:
    config = ScenarioConfig(num_slots=2, air=AirConfig(superpose=superpose))
    world = beamformed_world(Scenario(config, shipped_catalog("vision")), 3, csi=csi, **settings)
    assert isinstance(world.delay, RadioDelay)
    return world.delay


def ask(radio: RadioDelay) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates of a pair and of three at once, alone, and their bounds alone."""
    holders = np.ones((2, 3, 4), dtype=bool)
    holders[0, 0, 2:] = False
    users = np.zeros((2, 3, 12), dtype=bool)
    users[0, 0, :2] = users[0, 1, 2:4] = True
    users[1, [0, 1, 2], [4, 5, 6]] = True
    alone, bound = np.ones((2, 3)), np.ones((2, 3))
    for row, group in np.argwhere(users.any(axis=2)).tolist():
        sets = np.flatnonzero(holders[row, group]).tolist(), np.flatnonzero(users[row, group]).tolist()
        alone[row, group] = radio.rate_bit_s(0, holders[row, group][None], users[row, group][None])[0]
        bound[row, group] = radio.bound_bit_s(0, *sets)
    return radio.together_bit_s(0, holders, users, alone), alone, bound


@pytest.mark.parametrize("settings", [{}, {"num_antennas": 2}, {"link": "nr-256qam"}])
def test_nobody_gets_more_than_alone(settings: dict[str, float]) -> None:
    rates, _, bound = ask(radio_of(**settings))

    assert np.isinf(rates[0, 2])
    assert (rates[:, :2] <= bound[:, :2] * (1 + 1e-9)).all()
    assert (rates > 0).all()


def test_robust_rates_are_below_those_of_exact_channels() -> None:
    exact, _, _ = ask(radio_of())
    robust, _, _ = ask(radio_of(CsiError(size=0.05)))

    assert robust[1].min() > 0
    assert robust[1].sum() < exact[1].sum()


@pytest.mark.parametrize(
    ("csi", "settings", "why"),
    [
        (CsiError(size=0.1, design="nominal"), {}, "exact channels or robust beams"),
        (None, {"phase_std_deg": 20.0}, "errors of phase and timing"),
    ],
)
def test_what_is_not_known_is_refused_at_once(
    csi: CsiError | None, settings: dict[str, float], why: str
) -> None:
    assert isinstance(radio_of(csi, superpose=1, **settings), RadioDelay)
    with pytest.raises(ValueError, match=why):
        radio_of(csi, **settings)


def test_a_world_is_faster_with_blocks_at_once_and_all_get_the_same_bytes() -> None:
    outcomes = {}
    for superpose in (1, 3):
        config = ScenarioConfig(num_slots=2, air=AirConfig(superpose=superpose))
        world = beamformed_world(Scenario(config, shipped_catalog("vision")), 3)
        episode = rollout(world, find_scheme("rendezvous"), np.random.default_rng(0))
        outcomes[superpose] = episode.outcomes
        for slot, outcome in enumerate(episode.outcomes):
            got = {(cast.block, user) for cast in outcome.broadcasts for user in cast.users}
            needs = world.needs(slot)
            assert got == {(int(block), int(user)) for user, block in np.argwhere(needs)}
            assert outcome.airtime_s <= outcome.load.band_s + 1e-9

    delays = {one: sum(o.user_delay_s.sum() for o in each) for one, each in outcomes.items()}
    assert delays[3] < delays[1]


def test_shares_do_not_depend_on_what_else_is_asked() -> None:
    radio = radio_of()
    pairs = [(Party((0, 1), (0,), 1e9), Party((1, 2, 3), (user,), 1e9)) for user in (1, 2, 3)]
    many = AirTimes(delay=radio, slot=0).shares(pairs, 4, 12)
    alone = AirTimes(delay=radio, slot=0).shares(pairs[:1], 4, 12)

    assert list(many[0].values()) == pytest.approx(list(alone[0].values()), rel=1e-9)


@pytest.mark.parametrize("csi", [None, CsiError(size=0.05)])
def test_margins_at_once_are_those_of_the_beams(csi: CsiError | None) -> None:
    radio = radio_of(csi)
    holders, users = np.ones((2, 4), dtype=bool), np.zeros((2, 12), dtype=bool)
    users[0, :2] = users[1, 2:5] = True
    alone = radio.rate_bit_s(0, holders, users)
    rates = radio.together_bit_s(0, holders[None], users[None], alone[None])[0]
    margins = radio.together_margins_db(0, holders, users, alone)

    assert [sorted(own) for own in margins] == [[0, 1], [2, 3, 4]]
    least = [min(own.values()) for own in margins]
    if csi is None:  # the weakest has what is coded for
        assert least == pytest.approx([0.0, 0.0], abs=1e-9)
    else:  # what is guaranteed in the whole ball is less than what the true channel carries
        assert min(least) > 0
    ones = [radio.margins_db(0, range(4), np.flatnonzero(own).tolist()) for own in users]
    assert margins != ones
    assert (rates < alone).all()


def test_bounds_of_one_band_are_not_told() -> None:
    config = Overrides(superpose=2).on(ScenarioConfig(num_slots=1))
    assert config.air.superpose == 2
    scenario = Scenario(config, shipped_catalog("vision"))
    assert bounds_for(scenario) == ()
    with pytest.raises(ValueError, match="no such bound"):
        unlimited_costs(beamformed_world(scenario, 3))
