import numpy as np
import pytest

from policy.config import FINDINGS
from policy.learn.augur import Augur
from policy.learn.explain import explain_world
from policy.scenario import Scenario
from policy.schemes.learned import model_from
from policy.world.synthetic import findings_catalog

SCENARIO = Scenario(FINDINGS, findings_catalog())
WORLD = SCENARIO.world(1_000_007)


def _augur() -> Augur:
    return Augur(SCENARIO, np.random.default_rng(0), model_from())


def test_every_held_copy_is_explained_and_worth_its_price() -> None:
    augur = _augur()
    rows = explain_world(WORLD, augur, 6, left_out=3)
    held = [row for row in rows if row.held]

    assert augur.reasons is not None
    assert len(held) == augur.reasons.holds.sum()
    assert len(rows) - len(held) == 3 * 4
    assert all(row.saves_s_per_gb >= row.price_s_per_gb - 1e-6 for row in held)
    assert all(0 <= row.asked_chance <= 1 for row in rows)
    assert all(row.models for row in held)


def test_a_slot_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="slot must be in"):
        explain_world(WORLD, _augur(), 24)
