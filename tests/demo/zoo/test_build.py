"""Scheduling, keys, cards and listings; the real small zoo is a slow test."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.zoo import ZooModel, build_zoo, read_zoo_json, write_zoo_json
from demo.zoo.cards import model_card
from demo.zoo.errors import MemberFailedError, ZooError
from demo.zoo.recipes import FULL, SMALL, recipe_key
from demo.zoo.schedule import run_graph

GRAPHS = st.integers(1, 8).flatmap(
    lambda size: st.tuples(
        st.just(size),
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12),
        st.sets(st.integers(0, 7)),
    )
)


def a_model(**changes: object) -> ZooModel:
    facts = {
        "name": "zoo/x",
        "folder": Path("x"),
        "base": "zoo/base",
        "kind": "adapter",
        "task": "classification",
        "raw_bytes": 12,
        "metric": "accuracy, topic",
        "value": 0.9,
        "majority": 0.25,
        "license": "MIT",
        "origin": "somewhere",
        "labels": ("a", "b"),
        "sample_inputs": ("one", "two"),
        **changes,
    }
    return ZooModel(**facts)  # type: ignore[arg-type]


@given(graph=GRAPHS, workers=st.integers(1, 4))
def test_parents_run_before_children_and_a_failure_takes_only_its_descendants(
    graph: tuple[int, list[tuple[int, int]], set[int]], workers: int
) -> None:
    size, edges, broken = graph
    needs = {str(child): [] for child in range(size)}
    for parent, child in edges:
        if parent < child < size:
            needs[str(child)].append(str(parent))
    started: list[str] = []
    lost: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        with lock:
            assert set(needs[name]) <= set(started)
            started.append(name)
        if int(name) in broken:
            raise ZooError(name)

    done = run_graph(
        needs, work, workers=workers, expected=ZooError, failed=lambda name, _: lost.append(name)
    )

    doomed: set[str] = set()
    for name in map(str, range(size)):
        if int(name) in broken or doomed.intersection(needs[name]):
            doomed.add(name)
    assert done == set(needs) - doomed
    assert sorted(lost) == sorted(doomed)


def test_an_unexpected_error_stops_the_run() -> None:
    def work(name: str) -> None:
        raise RuntimeError(name)

    with pytest.raises(RuntimeError, match="a"):
        run_graph({"a": []}, work, workers=1, expected=ZooError, failed=lambda *_: None)


def test_a_cycle_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="without a cycle"):
        run_graph(
            {"a": ["b"], "b": ["a"]}, lambda _: None, workers=1, expected=ZooError, failed=lambda *_: None
        )


def test_a_key_changes_with_the_recipe_its_parents_and_its_text() -> None:
    recipe = SMALL[1]
    keys = {recipe.needs[0]: "parent"}
    key = recipe_key(recipe, keys, "text")

    assert key == recipe_key(recipe, dict(keys), "text")
    assert len({key, recipe_key(SMALL[2], keys, "text"), recipe_key(recipe, keys, "other")}) == 3
    assert key != recipe_key(recipe, {recipe.needs[0]: "other parent"}, "text")


@pytest.mark.parametrize("recipes", [SMALL, FULL])
def test_recipes_come_after_their_parents_under_names_of_their_own(recipes: tuple) -> None:  # type: ignore[type-arg]
    names = [recipe.name for recipe in recipes]

    assert len(set(names)) == len(names)
    for at, recipe in enumerate(recipes):
        assert set(recipe.needs) <= set(names[:at])
        assert recipe.name.count("/") == 1


def test_a_card_tells_origin_licence_score_and_majority() -> None:
    recipe = next(recipe for recipe in SMALL if recipe.kind == "adapter")

    card = model_card(a_model(), recipe)

    _, front, body = card.split("---\n", 2)
    values = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in front.splitlines())}
    assert values["license"] == "mit"
    assert values["base_model"] == "zoo/base"
    assert values["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.9
    assert "somewhere" in body
    assert "90.0%" in body
    assert "25.0%" in body
    assert "seed 3" in body


def test_a_listing_reads_back_as_it_was_written(tmp_path: Path) -> None:
    models = [
        a_model(folder=tmp_path / "models" / "x"),
        a_model(name="zoo/é", folder=tmp_path / "y", value=None),
    ]

    write_zoo_json(tmp_path / "zoo.json", models)

    assert read_zoo_json(tmp_path / "zoo.json") == models
    assert str(tmp_path) not in (tmp_path / "zoo.json").read_text(), (
        "a cache that is moved still lists its models"
    )


def test_an_unknown_size_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size must be one of small, full, fusion, got 'tiny'"):
        build_zoo("tiny", tmp_path)


def test_errors_survive_as_one_line() -> None:
    assert str(MemberFailedError("zoo/x", "it broke")) == "zoo/x was not made: it broke"
