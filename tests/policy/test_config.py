import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policy.config import EXPOSED_SHARE, PRESETS, LinkConfig, ScenarioConfig, config_from_dict, load_config
from policy.scenario import Scenario, load_scenario
from policy.world.trace import Trace
from tests.fakes import fixed_catalog


def test_presets_load_by_name_and_survive_a_dict() -> None:
    for name, preset in PRESETS.items():
        assert load_config(name) == preset
        assert config_from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


def test_what_a_program_leaves_out_is_as_in_the_default_scenario() -> None:
    assert ScenarioConfig() == PRESETS["default"]


def test_every_scenario_that_comes_with_the_package_can_be_played() -> None:
    assert set(PRESETS) == {"default", "findings", "p1", "p2", "trio", "trio-narrow", "v30"}
    for name, preset in PRESETS.items():
        assert preset.name == name
        if preset.catalog.startswith("zoo"):  # made of real models, see demo.jobs.catalogs
            with pytest.raises(ValueError, match=f"no catalog '{preset.catalog}' comes with the package"):
                load_scenario(name)
        else:
            scenario = load_scenario(name)
            assert scenario.catalog.num_models >= 12
            assert (scenario.capacity_bytes >= scenario.catalog.sizes_bytes.max()).all()


def test_a_file_changes_some_fields_of_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('base = "findings"\nnum_users = 5\n[links]\ncloud_bit_s = 1e8\n')
    config = load_config(path)

    assert (config.num_users, config.links.cloud_bit_s, config.links.backhaul_bit_s) == (5, 1e8, 1e9)
    assert config.timing == "additive"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_nodes": 0}, "num_nodes must be >= 1"),
        ({"links": {"backhaul_bit_s": 0.0}}, "backhaul_bit_s must be > 0"),
        ({"links": {"cloud_bit_s": "nan"}}, "NaN"),
        ({"wrong": 1}, "unknown field 'wrong'"),
        ({"num_users": "many"}, "num_users must be int"),
        ({"requests": {"request_prob": 1.5}}, r"request_prob must be in \[0, 1\]"),
        ({"base": "nothing"}, "base must be one of"),
        ({"capacity_bytes": [1.0, 2.0]}, "need 0, 1 or 4 capacities"),
    ],
)
def test_bad_settings_get_one_clear_line(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        config_from_dict(change)


def test_unknown_scenario_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="findings"):
        load_config("nowhere")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(ValueError, match="not valid toml"):
        load_config(tmp_path / "bad.toml")


def test_a_node_that_can_hold_no_block_is_refused() -> None:
    with pytest.raises(ValueError, match="less than the smallest block"):
        Scenario(ScenarioConfig(capacity_bytes=(10.0,)), fixed_catalog())


def test_a_user_out_of_range_is_refused_before_anything_runs() -> None:
    config = config_from_dict({"num_nodes": 1, "num_users": 1, "num_slots": 1, "radio": {"range_m": 5.0}})
    trace = Trace(node_xy=np.zeros((1, 2)), user_xy=np.full((1, 1, 2), 9.0), requests=np.zeros((1, 1)))
    with pytest.raises(ValueError, match="user 0 is in no node's range"):
        Scenario(config, fixed_catalog()).world_of(trace)


def test_a_trace_of_another_size_or_model_is_refused() -> None:
    scenario = load_scenario("findings")
    trace = Trace(node_xy=np.zeros((4, 2)), user_xy=np.zeros((1, 3, 2)), requests=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="12 users"):
        scenario.world_of(trace)
    trace = Trace(node_xy=np.zeros((4, 2)), user_xy=np.zeros((1, 12, 2)), requests=np.full((1, 12), 99))
    with pytest.raises(ValueError, match="model 99 of 12"):
        scenario.world_of(trace)


def test_links_must_make_sense() -> None:
    with pytest.raises(ValueError, match="must not exceed"):
        LinkConfig(backhaul_bit_s=1.0, cloud_bit_s=2.0)


def test_transfers_that_overlap_with_broadcasts_count_in_part() -> None:
    additive, pipelined = PRESETS["findings"], PRESETS["default"]

    assert additive.planning_links == additive.links
    seen = pipelined.planning_links
    assert seen.backhaul_bit_s == pytest.approx(pipelined.links.backhaul_bit_s / EXPOSED_SHARE)
    assert seen.cloud_bit_s == pytest.approx(pipelined.links.cloud_bit_s / EXPOSED_SHARE)


def test_transfers_count_in_full_where_the_objective_adds_them_up() -> None:
    total = replace(PRESETS["default"], objective="total")

    assert total.planning_links == total.links
