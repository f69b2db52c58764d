"""Worlds with real beams: link tables and errors between nodes."""

import numpy as np
import pytest

from demo.bridge.beamformed import beamformed_world
from policy.interfaces import Bool, Float
from policy.scenario import load_scenario


def _rates(**settings: object) -> Float:
    world = beamformed_world(load_scenario("findings"), 0, **settings)
    nodes, users = world.trace.node_xy.shape[0], world.trace.user_xy.shape[1]
    rng = np.random.default_rng(0)
    holders: Bool = rng.random((12, nodes)) < 0.6
    waiting: Bool = rng.random((12, users)) < 0.5
    return world.delay.rate_bit_s(0, holders, waiting)


def test_rates_by_table_never_pass_shannon() -> None:
    shannon = _rates()

    for link in ("nr-64qam", "nr-256qam"):
        rates = _rates(link=link)
        assert (rates <= shannon).all()
        assert rates.max() > 0.3 * shannon.max()


def test_errors_between_nodes_only_cost() -> None:
    shannon = _rates()

    assert (_rates(phase_std_deg=0.0, timing_std_s=0.0) == shannon).all()
    slightly, badly = _rates(phase_std_deg=10.0), _rates(phase_std_deg=60.0, timing_std_s=20e-9)
    assert (slightly <= shannon).all()
    assert badly.sum() < slightly.sum() < shannon.sum()


@pytest.mark.parametrize("settings", [{"link": "wifi"}, {"phase_std_deg": -1.0}])
def test_bad_radio_settings_are_named(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        _rates(**settings)
