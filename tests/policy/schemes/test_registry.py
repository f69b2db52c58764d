from dataclasses import replace

import numpy as np
import pytest

from policy.errors import SchemeError
from policy.interfaces import BlockCatalog
from policy.play.rollout import rollout
from policy.scenario import load_scenario
from policy.schemes import find_scheme, scheme_names
from policy.schemes.rendezvous import node_ranks
from policy.schemes.settings import RANGES, settings_of
from policy.schemes.unshared import copies_of


@pytest.mark.parametrize("name", scheme_names())
def test_every_scheme_has_its_name_and_its_paper(name: str) -> None:
    entry = find_scheme(name)

    assert entry.name == name
    assert len(entry.paper) > 10


def test_ablations_switch_rules_off() -> None:
    entry = find_scheme("lru+no-comp+no-migration+no-air-sharing+whole-models")

    assert [entry.rules.comp, entry.rules.migration, entry.rules.share_air] == [False] * 3
    assert entry.rules.whole_models
    assert find_scheme("lru").rules.comp


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mind-reader", "no scheme 'mind-reader'; there are ewma-greedy"),
        ("lru+no-radio", "no ablation 'no-radio'; there are no-air-sharing"),
        ("ewma-greedy:weight", "settings such as weight=0.2, got 'weight'"),
        ("ewma-greedy:weight=high", "settings such as weight=0.2, got 'weight=high'"),
        ("lfu:", "settings such as weight=0.2, got ''"),
        ("ewma-greedy:weight=0", r"ewma-greedy: weight must be in \(0, 1\], got 0"),
        ("ewma-greedy:weight=nan", r"weight must be in \(0, 1\], got nan"),
        ("ewma-greedy:update=-1", "update must be >= 0, got -1"),
        ("ewma-greedy:prior=inf", "prior must be >= 0, got inf"),
        ("trimcaching-gen:slack=nan", "slack must be > 0, got nan"),
        ("trimcaching-spec:epsilon=1", r"epsilon must be in \(0, 1\), got 1"),
        ("lfu:memory=2", r"memory must be in \[0, 1\], got 2"),
        ("planner:samples=0", "samples must be >= 1, got 0"),
        ("planner:horizon=1.5", "horizon must be a whole number, got 1.5"),
        ("m-pso:particles=nan", "particles must be a whole number, got nan"),
    ],
)
def test_unknown_names_are_refused(name: str, text: str) -> None:
    with pytest.raises(SchemeError, match=text):
        find_scheme(name)


def test_settings_reach_the_scheme() -> None:
    scenario = load_scenario("findings")
    world = scenario.world(3)
    costs = [
        rollout(world, find_scheme(f"lfu:memory={memory}"), np.random.default_rng(0)).mean_cost_s
        for memory in (0, 1)
    ]

    assert costs[0] != costs[1]


@pytest.mark.parametrize("name", scheme_names())
def test_every_setting_of_a_scheme_has_a_range(name: str) -> None:
    assert set(settings_of(find_scheme(name))) <= set(RANGES)


@pytest.mark.slow
def test_every_ablation_costs_delay_in_the_findings_scenario() -> None:
    scenario = load_scenario("findings")
    worlds = [scenario.world(seed) for seed in range(2)]

    def cost(name: str) -> float:
        return float(
            np.mean([rollout(w, find_scheme(name), np.random.default_rng(0)).mean_cost_s for w in worlds])
        )

    whole = cost("ewma-greedy")
    for switch in ("no-comp", "no-migration", "no-air-sharing", "no-store-sharing", "whole-models"):
        assert cost(f"ewma-greedy+{switch}") > 1.1 * whole


def test_copies_share_nothing() -> None:
    catalog = BlockCatalog(
        sizes_bytes=np.array([100, 50, 25]), members=np.array([[1, 1, 0], [1, 0, 1]], dtype=bool)
    )
    copies, block = copies_of(catalog)

    assert copies.sharing == 1.0
    np.testing.assert_array_equal(copies.model_bytes, catalog.model_bytes)
    np.testing.assert_array_equal(copies.sizes_bytes, catalog.sizes_bytes[block])
    np.testing.assert_array_equal(block, [0, 1, 0, 2])


def test_rendezvous_moves_few_blocks_when_a_node_comes() -> None:
    names = tuple(f"block-{j}" for j in range(400))
    four, five = node_ranks(names, 4).argmin(axis=0), node_ranks(names, 5).argmin(axis=0)

    assert set(five[five != four]) == {4}
    assert 40 < (five != four).sum() < 120
    assert np.bincount(four).min() > 60


@pytest.mark.parametrize("name", ["ewma-greedy", "price", "planner", "m-pso", "trimcaching-gen-delay"])
def test_schemes_on_tables_refuse_many_nodes(name: str) -> None:
    scenario = load_scenario("default")
    many = replace(scenario, config=replace(scenario.config, num_nodes=7))

    with pytest.raises(SchemeError, match="at most 6 nodes, got 7"):
        find_scheme(name).start(many, np.random.default_rng(0))


def test_an_unknown_setting_is_named_with_those_there_are() -> None:
    with pytest.raises(SchemeError, match="memory, got 'nonsense'"):
        find_scheme("lfu:nonsense=1")
