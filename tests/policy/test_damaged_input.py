"""Nothing that a file says is believed: damaged scenarios, catalogs, traces and weights give our errors."""

import json
import math
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy.batched.placing import fill_scores
from policy.config import PRESETS, LinkConfig, RadioProxyConfig, ScenarioConfig, config_from_dict, load_config
from policy.errors import DivergedError, PolicyError
from policy.evaluation import Evaluation, evaluate
from policy.interfaces import BlockCatalog
from policy.kept import KeptRows
from policy.learn.checkpoint import (
    SHIPPED,
    CheckpointError,
    check_resumable,
    load_checkpoint,
    save_checkpoint,
)
from policy.place.greedy import fill_by_score, greedy_masks
from policy.scenario import load_scenario
from policy.strict_json import strict_json
from policy.world.trace import Trace
from tests.fakes import fixed_catalog

OURS = (PolicyError, ValueError)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*ScenarioConfig.__dataclass_fields__, "base", "other"])


@given(data=st.dictionaries(NAMES, ANY, max_size=4) | ANY)
def test_any_tree_is_a_scenario_or_a_value_error(data: Any) -> None:  # noqa: ANN401
    with suppress(ValueError):
        made = config_from_dict(data)
        assert config_from_dict(json.loads(strict_json(made.to_dict()))) == made


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_infinite_number_becomes_a_setting(value: float) -> None:
    makers: list[Callable[[], object]] = [
        lambda: RadioProxyConfig(bandwidth_hz=value),
        lambda: LinkConfig(backhaul_bit_s=value),
        lambda: ScenarioConfig(update_weight=value),
        lambda: ScenarioConfig(capacity_bytes=(value,)),
        lambda: ScenarioConfig(slot_s=value),
        lambda: ScenarioConfig(num_users=True),
        lambda: ScenarioConfig(num_users=2.0),  # type: ignore[arg-type]
        lambda: replace(PRESETS["findings"].requests, zipf_exponent=value),
        lambda: replace(PRESETS["findings"].mobility, speed_m_s=(1.0, value)),
    ]
    for make in makers:
        with pytest.raises(ValueError, match="must be"):
            make()


def test_json_is_strict_and_says_what_is_missing() -> None:
    document = {"a": math.nan, "b": [1.0, -math.inf], "c": {"d": (math.inf, "x")}, "e": None}
    made = json.loads(strict_json(document), parse_constant=pytest.fail)

    assert made == {
        "a": None,
        "b": [1.0, None],
        "c": {"d": [None, "x"]},
        "e": None,
        "not_finite": {"a": "not a number", "b[1]": "minus infinite", "c.d[0]": "infinite"},
    }


def test_a_bound_that_is_not_known_is_null(tmp_path: Path) -> None:
    scenario = load_scenario("findings")
    scenario = replace(scenario, config=replace(scenario.config, num_slots=2))
    unknown = evaluate(
        scenario, ["lru"], worlds=1, bound_worlds=1, folder=tmp_path, make_world=without_hidden_state
    )
    again = evaluate(
        scenario, ["lru"], worlds=1, bound_worlds=1, folder=tmp_path, make_world=without_hidden_state
    )

    document = json.loads(unknown.to_json(), parse_constant=pytest.fail)
    assert document["bounds"]["true_planner_s"] is None
    assert again.to_json() == unknown.to_json()
    assert Evaluation.from_dict(document).bounds["true_planner_s"] is None
    for path in tmp_path.iterdir():
        for line in filter(None, path.read_text().splitlines()):
            json.loads(line, parse_constant=pytest.fail)


def without_hidden_state(scenario: Any, seed: int) -> Any:  # noqa: ANN401
    return scenario.world_of(scenario.world(seed).trace)


def test_scores_that_are_no_numbers_are_not_played() -> None:
    sizes, room = np.array([1, 1]), np.array([1.0])
    with pytest.raises(DivergedError, match="score of node 0, block 1"):
        fill_by_score(np.array([[1.0, math.nan]]), sizes, room)
    with pytest.raises(DivergedError, match="cost of block 1 under holders 0"):
        greedy_masks(np.array([[1.0, 0.5], [math.nan, 0.0]]), sizes, room)
    with pytest.raises(DivergedError, match="1 of 2 scores"):
        fill_scores(torch.tensor([[[1.0, math.nan]]]), torch.tensor([1, 1]), torch.tensor([1.0]))


def test_weights_that_are_no_numbers_are_neither_kept_nor_loaded(tmp_path: Path) -> None:
    good = {"w": np.ones(2, np.float32)}
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, good, {"kind": "x"})
    for bad in (math.nan, math.inf):
        with pytest.raises(DivergedError, match="weights w are not finite"):
            save_checkpoint(path, {"w": np.array([1.0, bad], np.float32)}, {"kind": "x"})
    assert load_checkpoint(path).tensors["w"].tolist() == [1.0, 1.0]
    data = bytearray(path.read_bytes())
    data[-4:] = np.array([math.nan], np.float32).tobytes()
    path.write_bytes(data)
    with pytest.raises(DivergedError, match="not finite"):
        load_checkpoint(path)


def test_a_run_goes_on_for_longer_and_says_what_else_differs(tmp_path: Path) -> None:
    there = {"steps": 5, "rate": 0.1, "setup": {"own": [1, 2]}}
    check_resumable(tmp_path, there, {"steps": 9, "rate": 0.1, "setup": {"own": (1, 2)}}, {"steps"})
    with pytest.raises(ValueError, match=r"other steps \(5, not 3\), setup.own \(\[1, 2\], not \[1, 3\]\)"):
        check_resumable(tmp_path, there, {"steps": 3, "rate": 0.1, "setup": {"own": (1, 3)}}, {"steps"})


def _files(folder: Path) -> dict[str, Callable[[Path], object]]:
    """A whole file of every kind, and what reads it."""
    (folder / "s.toml").write_text('base = "findings"\nnum_users = 5\n[links]\ncloud_bit_s = 1e8\n')
    (folder / "s.json").write_text(json.dumps(PRESETS["default"].to_dict()))
    fixed_catalog().save(folder / "c.npz")
    trace = Trace(node_xy=np.zeros((1, 2)), user_xy=np.ones((2, 1, 2)), requests=np.zeros((2, 1)))
    trace.save(folder / "t.npz")
    save_checkpoint(folder / "w.safetensors", {"w": np.ones(9, np.float32)}, {"kind": "x"})
    return {
        "s.toml": load_config,
        "s.json": load_config,
        "c.npz": BlockCatalog.load,
        "t.npz": Trace.load,
        "w.safetensors": load_checkpoint,
        "w.json": lambda path: load_checkpoint(path.with_suffix(".safetensors")),
    }


def _damage(data: bytes, rng: np.random.Generator) -> bytes:
    made = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(made) + 1))
        kind = rng.integers(5)
        if kind == 0 and at < len(made):
            made[at] = int(rng.integers(256))
        elif kind == 1:
            del made[at : at + int(rng.integers(1, 60))]
        elif kind == 2:
            made[at:at] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 3:
            made[at:at] = rng.choice([b"1e999", b"nan", b"[" * 3000, b"\xff", b"9" * 400, b"{}", b"null"])
        else:
            del made[at:]
    return bytes(made)


def _damaged(folder: Path, rounds: int, seed: int) -> int:
    readers, refused = _files(folder), 0
    whole = {name: (folder / name).read_bytes() for name in readers}
    rng = np.random.default_rng(seed)
    for turn in range(rounds):
        name = list(readers)[turn % len(readers)]
        (folder / name).write_bytes(_damage(whole[name], rng))
        refused += 1
        with suppress(*OURS):
            readers[name](folder / name)
            refused -= 1
        (folder / name).write_bytes(whole[name])
    return refused


def test_damaged_files_give_our_own_errors(tmp_path: Path) -> None:
    assert _damaged(tmp_path, 300, seed=1) > 100


@pytest.mark.slow
def test_no_damaged_file_raises_a_foreign_exception(tmp_path: Path) -> None:
    assert _damaged(tmp_path, 14_000, seed=2) > 5_000


def test_errors_name_the_file(tmp_path: Path) -> None:
    for name, read in _files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(b"\xff\x00 nonsense")
        with pytest.raises(OURS, match=path.stem) as told:
            read(path)
        assert not isinstance(told.value, tomllib.TOMLDecodeError | UnicodeDecodeError | json.JSONDecodeError)
    assert issubclass(CheckpointError, PolicyError)
    assert load_checkpoint(SHIPPED / "augur.safetensors").about["kind"] == "augur-demand"
    assert not list(KeptRows(tmp_path, "x", {}))
