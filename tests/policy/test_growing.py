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


@pytest.mark.parametrize("forms", [True, False])
def test_demand_that_is_seen_and_not_served_is_past_and_not_on_devices(
    forms: bool,
) -> None:
    scene = scenario(keeps=forms, forms=forms)
    trace, _ = generate(np.random.default_rng(3), scene.config, scene.families)
    places = trace.user_xy[0]

    def grown(requests: list[list[int]]) -> GrowingWorld:
        world = GrowingWorld(scene, trace.node_xy, lambda _: ConstantDelay())
        for asked in requests:
            world.add(places, np.array(asked))
        return world

    served, seen = [1, -1, 0], [1, 2, 0]
    before, as_if = grown([[0, 1, -1], served]), grown([[0, 1, -1], seen])
    rules = find_scheme("ewma-greedy").rules
    before.world.table(1, rules)  # as a service computes it
    world = before.see(np.array(seen))
    np.testing.assert_array_equal(world.trace.requests[1], seen)
    np.testing.assert_array_equal(world.needs(1), as_if.world.needs(1))
    told, expected = (one.planning_table(1, rules) for one in (world, as_if.world))
    np.testing.assert_array_equal(told, expected)
    held = grown([[0, 1, -1], served]).world.devices(2)
    assert (held is None) is not forms
    if held is not None:
        np.testing.assert_array_equal(world.devices(2), held)


def test_where_devices_hold_what_requests_say_nothing_else_is_seen() -> None:
    growing = GrowingWorld(scenario(keeps=True, forms=False), np.zeros((2, 2)), lambda _: ConstantDelay())
    growing.add(np.zeros((3, 2)), np.array([1, -1, -1]))
    assert growing.see(np.array([1, 2, -1])).trace.requests[0].tolist() == [1, -1, -1]


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
