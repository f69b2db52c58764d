import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import policy.evaluation.harness as harness
from policy.config import FINDINGS
from policy.errors import SchemeError
from policy.evaluation import evaluate, playable
from policy.evaluation.closure import closure_of, find_module, function_digest
from policy.evaluation.episodes import EpisodeResult, Job, WorldMaker, run_job
from policy.evaluation.oracles import BOUNDS, bounds_for, is_additive
from policy.evaluation.results import ResultFolder, scenario_digest
from policy.evaluation.sources import APART, PLAY, READER, code_version
from policy.learn.checkpoint import OWN, SHIPPED
from policy.play.rollout import rollout
from policy.scenario import Scenario, World
from policy.schemes import HOMES, find_scheme
from policy.world.splits import Split, world_seed
from policy.world.synthetic import synthetic_catalog

SCHEMES = ("lru", "ewma-greedy", "random")


def tiny() -> Scenario:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=4, blocks_per_model=4, families=2, shared=0.5, mean_block_bytes=1e6
    )
    config = replace(FINDINGS, num_nodes=2, num_users=4, num_slots=4, capacity_bytes=(), capacity_share=0.5)
    return Scenario(config, catalog)


def no_play(*args: object) -> list[EpisodeResult]:
    raise RuntimeError("played again")


def test_of_all_schemes_those_that_can_run_are_played_and_the_others_give_their_reason() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=40, blocks_per_model=3, families=20, shared=0.5, mean_block_bytes=1e6
    )
    names, reasons = playable(Scenario(tiny().config, catalog), ["lru", "trimcaching-spec", "random"])

    assert names == ["lru", "random"]
    assert list(reasons) == ["trimcaching-spec"]
    assert "needs at most" in reasons["trimcaching-spec"]


def test_the_report_is_what_the_episodes_say() -> None:
    scenario = tiny()
    result = evaluate(scenario, SCHEMES, worlds=3, seeds=2, bound_worlds=2)
    worlds = [scenario.world(world_seed("validation", i)) for i in range(3)]
    episodes = [rollout(w, find_scheme("lru"), np.random.default_rng(0)) for w in worlds]
    outcomes = [o for e in episodes for o in e.outcomes]
    delays = np.concatenate([o.user_delay_s[o.asked] for o in outcomes])
    row = result.schemes["lru"]

    assert row.mean_delay_s == pytest.approx(np.mean([e.mean_cost_s for e in episodes]))
    assert row.user_delay_s == pytest.approx(delays.mean(), abs=1e-5)
    assert row.p95_delay_s == pytest.approx(np.quantile(delays, 0.95), abs=1e-5)
    assert row.hit_ratio == pytest.approx(sum(o.edge_hit.sum() for o in outcomes) / delays.size)
    assert row.migrated_bytes == pytest.approx(np.mean([o.migrated_bytes for o in outcomes]))
    assert row.cloud_bytes == pytest.approx(np.mean([o.cloud_bytes for o in outcomes]))
    assert row.cache_update_bytes == pytest.approx(np.mean([o.cache_update_bytes for o in outcomes]))
    assert {name: r.seeds for name, r in result.schemes.items()} == {"lru": 1, "ewma-greedy": 1, "random": 2}


def test_the_pairs_agree_with_the_costs() -> None:
    result = evaluate(tiny(), SCHEMES, worlds=3, seeds=2, bound_worlds=0)
    a, b = result.costs["ewma-greedy"], result.costs["random"]

    assert set(result.paired) == {f"{x}|{y}" for x in SCHEMES for y in SCHEMES if x != y}
    pair = result.paired["ewma-greedy|random"]
    assert pair.reduction == pytest.approx(1 - a.mean() / b.mean())
    assert (pair.worlds, pair.seeds) == (3, 2)
    assert pair.improvement_probability == pytest.approx(
        1 - result.paired["random|ewma-greedy"].improvement_probability
    )
    assert result.bounds == {**dict.fromkeys(BOUNDS.values()), "worlds": 0}


def test_bounds_are_in_order() -> None:
    result = evaluate(tiny(), ["ewma-greedy"], worlds=3, bound_worlds=3)
    bounds = {key: float(value or np.nan) for key, value in result.bounds.items()}

    assert bounds["hindsight_lower_s"] <= bounds["hindsight_upper_s"] + 1e-6
    assert bounds["hindsight_lower_s"] <= bounds["one_step_clairvoyant_s"] + 1e-6
    assert bounds["hindsight_lower_s"] <= bounds["true_planner_s"] + 1e-6
    assert bounds["causal_lower_s"] <= bounds["true_planner_s"] + 1e-6
    assert bounds["hindsight_lower_s"] <= result.on_bound_worlds["ewma-greedy"] + 1e-6


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "change", [{"objective": "mean-user"}, {"timing": "pipelined"}, {"update_budget_bytes": 3e6}]
)
def test_the_bracket_is_wide_where_cost_is_not_additive(change: dict[str, Any]) -> None:
    scenario = tiny()
    other = replace(scenario, config=replace(scenario.config, **change))
    result = evaluate(other, ["ewma-greedy"], worlds=2, bound_worlds=2)

    assert is_additive(scenario.config)
    assert not is_additive(other.config)
    bounds = {key: float(value or np.nan) for key, value in result.bounds.items()}
    played = result.on_bound_worlds["ewma-greedy"]
    assert bounds["hindsight_lower_s"] <= bounds["hindsight_upper_s"]
    assert bounds["hindsight_upper_s"] <= min(bounds["one_step_clairvoyant_s"], played) + 1e-9


def test_no_bounds_for_many_nodes() -> None:
    scenario = tiny()

    assert bounds_for(scenario) == tuple(BOUNDS)
    assert bounds_for(replace(scenario, config=replace(scenario.config, num_nodes=7))) == ()


@pytest.mark.slow
def test_worlds_are_the_same_for_all_and_results_for_any_number_of_workers(tmp_path: Path) -> None:
    alone = evaluate(tiny(), SCHEMES, worlds=2, bound_worlds=1)
    many = evaluate(tiny(), SCHEMES, worlds=2, bound_worlds=1, workers=2, folder=tmp_path)

    for name in SCHEMES:
        np.testing.assert_array_equal(alone.costs[name], many.costs[name])
    assert alone.bounds == many.bounds
    assert alone.paired == many.paired


def test_finished_episodes_are_not_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate(tiny(), SCHEMES, worlds=2, seeds=2, bound_worlds=1, folder=tmp_path)
    monkeypatch.setattr("policy.evaluation.episodes._run_one", no_play)
    second = evaluate(tiny(), SCHEMES, worlds=2, seeds=2, bound_worlds=1, folder=tmp_path)

    assert first.to_json() == second.to_json()
    with pytest.raises(RuntimeError, match="played again"):
        evaluate(tiny(), SCHEMES, worlds=3, seeds=2, bound_worlds=1, folder=tmp_path)


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    scenario, seen = tiny(), []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(scenario, ["lru"], worlds=3, bound_worlds=0, folder=tmp_path, progress=stop)
    evaluate(scenario, ["lru"], worlds=3, bound_worlds=0, folder=tmp_path, progress=lambda *a: seen.append(a))

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_torn_line_is_played_again(tmp_path: Path) -> None:
    scenario = tiny()
    first = evaluate(scenario, ["lru"], worlds=2, bound_worlds=0, folder=tmp_path)
    (file,) = tmp_path.rglob("*.jsonl")
    text = file.read_text()
    file.write_text(text[: len(text) - 40])
    again = evaluate(scenario, ["lru"], worlds=2, bound_worlds=0, folder=tmp_path)

    np.testing.assert_array_equal(first.costs["lru"], again.costs["lru"])


def next_world(scenario: Scenario, seed: int) -> World:
    return scenario.world(seed + 1)


def test_results_of_other_settings_catalogs_and_worlds_are_kept_apart(tmp_path: Path) -> None:
    scenario = tiny()
    other = replace(scenario, config=replace(scenario.config, capacity_share=0.4))
    coarse = Scenario(scenario.config, scenario.catalog.whole_models())

    def path(scenario: Scenario, make_world: WorldMaker = harness.draw_world, scheme: str = "lru") -> Path:
        return ResultFolder(tmp_path, scenario, function_digest(make_world)).rows(scheme).path

    made = {
        path(scenario),
        path(other),
        path(coarse),
        path(scenario, next_world),
        path(scenario, scheme="lfu"),
    }
    assert len(made) == 5
    assert path(tiny()) == path(scenario)
    assert scenario_digest(tiny()) == scenario_digest(tiny())


def test_worlds_that_nothing_can_name_are_played_and_not_kept(tmp_path: Path) -> None:
    shift = 1
    makers: list[WorldMaker] = [
        lambda scenario, seed: scenario.world(seed + shift),
        partial(lambda scenario, seed: scenario.world(seed)),
        Scenario.world,
    ]
    for maker in makers:
        result = evaluate(tiny(), ["lru"], worlds=1, bound_worlds=0, folder=tmp_path, make_world=maker)
        assert result.settings["make_world_sha256"] is None
    assert not list(tmp_path.iterdir())


def test_results_depend_on_the_code_they_run_through_and_no_other() -> None:
    lru = {path.name for path in closure_of(["policy.schemes.lru", *PLAY], APART).files}
    oracles = {path.name for path in closure_of(["policy.evaluation.oracles"]).files}

    assert {"lru.py", "rollout.py", "dynamics.py", "tables.py", "trace.py"} <= lru
    assert not {"prices.py", "trimcaching.py", "horizon.py"} & lru
    assert code_version("lfu") == code_version("lfu:memory=0.5") != code_version("lru")
    assert code_version("lru") != code_version("lru+no-comp")
    assert {"horizon.py", "oracles.py"} <= oracles


def test_weights_count_for_what_reads_them_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = find_module(READER)
    assert reader is not None
    opens = re.compile("^ *(from|import) safetensors", re.MULTILINE)
    everything = reader.parent.parent.rglob("*.py")
    assert [path for path in everything if opens.search(path.read_text())] == [reader]

    before = {name: code_version(name) for name in HOMES}
    monkeypatch.setenv(OWN, str(SHIPPED / "augur.safetensors"))
    changed = {name for name in HOMES if code_version(name) != before[name]}

    assert {"learned", "planner-clock", "m-pso-clock", "maasn-da"} <= changed
    assert not {"lru", "ewma-greedy", "pooled"} & changed  # pooled forecasts with code of `learn`, untrained


def test_the_report_is_json_with_the_agreed_fields() -> None:
    data = json.loads(evaluate(tiny(), SCHEMES[:2], worlds=2, bound_worlds=1).to_json())

    agreed = "mean_delay_s iqm_delay_s p95_delay_s hit_ratio migrated_bytes cloud_bytes cache_update_bytes"
    assert {*agreed.split(), "decision_ms", "message_bytes"} <= set(data["schemes"]["lru"])
    assert {"reduction", "ci95", "worlds", "seeds"} <= set(data["paired"]["lru|ewma-greedy"])
    assert set(BOUNDS.values()) <= set(data["bounds"])
    assert data["settings"]["split"] == "validation"


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"worlds": 0}, ValueError, "worlds must be >= 1, got 0"),
        ({"seeds": 0}, ValueError, "seeds must be >= 1, got 0"),
        ({"workers": 0}, ValueError, "workers must be >= 1, got 0"),
        ({"bound_worlds": -1}, ValueError, "bound_worlds must be >= 0, got -1"),
        ({"schemes": []}, ValueError, "at least one scheme"),
        ({"schemes": ["lru", "best"]}, SchemeError, "no scheme 'best'"),
        ({"split": "all"}, ValueError, "split must be one of train, validation, test, held-out"),
        ({"scenario": "nowhere"}, ValueError, "scenario must be one of"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    changes: dict[str, object], error: type[Exception], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy.evaluation.match.spread", no_play)

    with pytest.raises(error, match=text):
        evaluate(**{"scenario": tiny(), "schemes": ["lru"], "worlds": 1, **changes})


def test_splits_never_overlap() -> None:
    ends: list[tuple[Split, int]] = [(s, i) for s in get_args(Split) for i in (0, 499_999)]
    seeds = [world_seed(split, index) for split, index in ends]

    assert seeds == sorted(set(seeds))
    for bad in (-1, 500_000):
        with pytest.raises(ValueError, match="a split has worlds"):
            world_seed("test", bad)


def test_an_episode_survives_json() -> None:
    (result,) = run_job(tiny(), Job(world=3, wanted=(("lru", 0),)))

    assert EpisodeResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
