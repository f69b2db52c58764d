"""What the radio says of one broadcast does not depend on what it is asked beside it or before."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from demo.bridge.beamformed import beamformed_world
from demo.bridge.csi import CsiError
from policy.interfaces import DelayModel, JointDelay
from policy.scenario import load_scenario

ROWS, SLOT = 40, 1
SCENARIO = load_scenario("default")
NODES, USERS = SCENARIO.config.num_nodes, SCENARIO.config.num_users
RADIOS: dict[str, dict[str, Any]] = {
    "exact": {},
    "one antenna": {"num_antennas": 1},
    "robust": {"csi": CsiError(size=0.1)},
    "nominal": {"csi": CsiError(size=0.1, design="nominal")},
    "phases": {"phase_std_deg": 20.0},
    "steps": {"link": "nr-256qam"},
}


def radio(kind: str) -> DelayModel:
    return beamformed_world(SCENARIO, 7, **RADIOS[kind]).delay


def some(rng: np.random.Generator, rows: int, count: int) -> np.ndarray:
    """Rows with one to all of `count` set."""
    return np.argsort(rng.random((rows, count)), axis=1) < rng.integers(1, count + 1, (rows, 1))


def parts(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """All rows, in another order and in batches of one to ten."""
    order, start = rng.permutation(ROWS), 0
    while start < ROWS:
        size = int(rng.integers(1, 11))
        yield order[start : start + size]
        start += size


@pytest.mark.parametrize("kind", RADIOS)
def test_a_rate_does_not_depend_on_what_is_asked_beside(kind: str) -> None:
    rng = np.random.default_rng(0)
    holders, users = some(rng, ROWS, NODES), some(rng, ROWS, USERS)
    together = radio(kind).rate_bit_s(SLOT, holders, users)

    alone = radio(kind)
    rates = [alone.rate_bit_s(SLOT, *pair)[0] for pair in zip(holders[:, None], users[:, None], strict=True)]
    assert rates == together.tolist()

    mixed = radio(kind)
    for rows in parts(rng):
        mixed.rate_bit_s(SLOT - 1, holders[rows], users[rows])  # another slot between
        assert mixed.rate_bit_s(SLOT, holders[rows], users[rows]).tolist() == together[rows].tolist()


def test_the_cheap_radio_is_as_close_as_the_order_of_its_sums() -> None:
    rng = np.random.default_rng(0)
    holders, users = some(rng, ROWS, NODES), some(rng, ROWS, USERS)
    cheap = SCENARIO.world(7).delay
    together = cheap.rate_bit_s(SLOT, holders, users)

    for rows in parts(rng):  # one product of matrices for all rows: its order of adding depends on its shape
        rates = cheap.rate_bit_s(SLOT, holders[rows], users[rows])
        assert rates == pytest.approx(together[rows], rel=1e-13)


@pytest.mark.parametrize("kind", ["exact", "robust"])
def test_rates_at_once_do_not_depend_on_what_is_asked_beside(kind: str) -> None:
    rng = np.random.default_rng(1)
    holders = some(rng, 3 * ROWS, NODES).reshape(ROWS, 3, NODES)
    users = rng.integers(-1, 5, (ROWS, 1, USERS)) == np.arange(3)[:, None]
    alone = rng.uniform(1e8, 1e9, (ROWS, 3))
    asked = radio(kind)
    assert isinstance(asked, JointDelay)
    together = asked.together_bit_s(SLOT, holders, users, alone)

    for rows in parts(rng):
        rates = asked.together_bit_s(SLOT, holders[rows], users[rows], alone[rows])
        assert rates.tolist() == together[rows].tolist()
    ones = [asked.together_bit_s(SLOT, holders[[row]], users[[row]], alone[[row]])[0] for row in range(ROWS)]
    assert np.array(ones).tolist() == together.tolist()
