"""A scheme that decides while the world becomes known does as one that is played over a finished trace."""

from dataclasses import replace

import numpy as np
import pytest

from policy.config import ScenarioConfig
from policy.interfaces import BlockCatalog, BlockForms
from policy.play.growing import Decider, GrowingWorld
from policy.play.rollout import play
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.world.cheap_radio import proxy_delay
from policy.world.trace import generate
from tests.fakes import ConstantDelay


def scenario(*, keeps: bool, forms: bool) -> Scenario:
    sizes = np.array([100, 60, 50, 40, 30, 20])
    members = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [1, 1, 0, 0, 0, 1]], bool)
    content = members.copy()
    content[1, 1] = False
    other = BlockForms(
        alone_bytes=np.array([100, 60, 90, 40, 30, 20]), content=content, together=np.arange(sizes.size)
    )
    catalog = BlockCatalog(
        sizes_bytes=sizes,
        members=members,
        requires=np.array([[2, 1]]),
        forms=other if forms else None,
    )
    config = ScenarioConfig(num_nodes=2, num_users=3, num_slots=3, capacity_share=0.5, timing="pipelined")
    kept = replace(config.requests, keep_downloads=keeps, device_bytes=150.0 if keeps else np.inf)
    return Scenario(replace(config, requests=kept), catalog)


@pytest.mark.parametrize(
    ("scheme", "keeps", "forms"),
    [("ewma-greedy", True, True), ("lru", False, True), ("rendezvous", True, False)],
)
def test_deciding_online_is_playing_a_finished_trace(scheme: str, keeps: bool, forms: bool) -> None:
    scene = scenario(keeps=keeps, forms=forms)
    trace, _ = generate(np.random.default_rng(3), scene.config, scene.families)
    world = scene.world_of(trace, proxy_delay(trace.node_xy, trace.user_xy, scene.config.radio))
    entry = find_scheme(scheme)
    growing = GrowingWorld(
        scene,
        trace.node_xy,
        lambda _: proxy_delay(trace.node_xy, trace.user_xy, scene.config.radio),
    )
    decider = Decider(growing, entry, np.random.default_rng(0))
    for step in play(world, entry, np.random.default_rng(0)):
        slot = step.outcome.slot
        decider.decide()
        np.testing.assert_array_equal(decider.course.placement, step.placement)
        served = decider.serve(trace.user_xy[slot], trace.requests[slot])
        assert served.transfers == step.outcome.transfers
        assert served.broadcasts == step.outcome.broadcasts
        np.testing.assert_array_equal(served.user_delay_s, step.outcome.user_delay_s)


def test_what_is_not_known_yet_cannot_be_asked_for() -> None:
    scene = scenario(keeps=False, forms=True)
    growing = GrowingWorld(scene, np.zeros((2, 2)), lambda _: ConstantDelay())
    history = Decider(growing, find_scheme("lru"), np.random.default_rng(0)).course.observation().history
    with pytest.raises(ValueError, match="past"):
        history.needs(0)


def test_a_scheme_on_whole_models_is_refused() -> None:
    growing = GrowingWorld(scenario(keeps=False, forms=True), np.zeros((2, 2)), lambda _: ConstantDelay())
    with pytest.raises(ValueError, match="whole models"):
        Decider(growing, find_scheme("whole-model"), np.random.default_rng(0))
