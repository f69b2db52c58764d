"""Channels known up to an error: the true one decides, and only a robust design keeps its word."""

from dataclasses import replace
from functools import partial
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from demo.bridge.beamformed import beamformed_world
from demo.bridge.csi import CsiError, delivered
from demo.bridge.radio_delay import RadioDelay
from demo.show.load import load_table
from policy.evaluation import evaluate
from policy.scenario import Scenario, load_scenario


def asked(csi: CsiError | None) -> tuple[np.ndarray, np.ndarray]:
    """Rates of some broadcasts and which of them are lost at first."""
    world = beamformed_world(load_scenario("findings"), 0, csi=csi)
    delay = world.delay
    assert isinstance(delay, RadioDelay)
    nodes, users = world.trace.node_xy.shape[0], world.trace.user_xy.shape[1]
    rng = np.random.default_rng(0)
    holders, waiting = rng.random((16, nodes)) < 0.6, rng.random((16, users)) < 0.3
    holders[:, 0] = waiting[:, 0] = True
    rates = delay.rate_bit_s(0, holders, waiting)
    lost = [
        delay.lost(0, np.flatnonzero(nodes).tolist(), np.flatnonzero(users).tolist())
        for nodes, users in zip(holders, waiting, strict=True)
    ]
    return rates, np.array(lost)


@pytest.mark.parametrize("size", [0.05, 0.2])
def test_a_robust_design_keeps_its_word_and_a_nominal_one_does_not(size: float) -> None:
    exact, _ = asked(None)
    robust, robust_lost = asked(CsiError(size=size))
    nominal, nominal_lost = asked(CsiError(size=size, design="nominal"))
    assert not robust_lost.any()
    assert nominal_lost.mean() > 0.5
    assert (1 / robust).mean() < (1 / nominal).mean()
    assert (robust < exact * 1.001).all()
    # an estimate may lead to a better beam than the true channel only as far as the solver's gap
    assert (nominal < exact * 1.05).all()


def test_no_error_is_no_error() -> None:
    exact, _ = asked(None)
    for csi in (CsiError(), CsiError(kind="absolute"), CsiError(design="nominal")):
        rates, lost = asked(csi)
        assert (rates == exact).all()
        assert not lost.any()


def test_an_evaluation_tells_outage_where_channels_are_known_up_to_an_error() -> None:
    named = load_scenario("findings")
    scenario = Scenario(replace(named.config, num_slots=1, num_users=3, num_nodes=2), named.catalog)
    told = {}
    for size, design in ((0.1, "robust"), (0.1, "nominal"), (0.0, "exact")):
        csi = CsiError(size=size, design="robust" if design == "exact" else design)  # type: ignore[arg-type]
        make = partial(beamformed_world, csi=csi)
        result = evaluate(scenario, ["random"], worlds=1, bound_worlds=0, make_world=make)
        told[design] = result.schemes["random"].lost_ratio
        shown = Console(width=200, file=StringIO())
        load_table(result, ["random"]).print(shown)
        assert ("(outage)" in shown.file.getvalue()) == (size > 0)  # type: ignore[attr-defined]

    assert told["robust"] == 0
    assert told["nominal"] is not None
    assert told["nominal"] > 0.5
    assert told["exact"] is None


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_estimates_stay_in_their_balls(kind: str) -> None:
    rng = np.random.default_rng(1)
    h = rng.standard_normal((5, 3, 4)) + 1j * rng.standard_normal((5, 3, 4))
    csi = CsiError(size=0.3, kind=kind)  # type: ignore[arg-type]
    off = np.array([np.linalg.norm(csi.estimate(h, rng) - h, axis=-1) for _ in range(200)])
    assert (off <= csi.radius(h) * (1 + 1e-12)).all()
    assert off.max() > 0.99 * csi.radius(h).max()


def test_what_a_lost_block_costs() -> None:
    rates, lost = delivered(np.array([4.0, 4.0, 0.0, np.inf]), np.array([5.0, 1.0, 2.0, np.inf]))
    assert rates.tolist() == [4.0, 1 / (1 / 4 + 1 / 1), 2.0, np.inf]
    assert lost.tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 1.0},
        {"size": -0.1},
        {"size": float("nan")},
        {"kind": "worse"},
        {"design": "hopeful"},
        {"size": float("inf"), "kind": "absolute"},
    ],
)
def test_bad_settings_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="csi"):
        CsiError(**wrong)  # type: ignore[arg-type]
