"""What a player of an experiment keeps hangs on the schemes that it looks up by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from demo.experiments.papers.description import Experiment
from demo.experiments.papers.parts import UNUSED
from demo.experiments.papers.play import Extent, play_experiment, scenario_at
from demo.experiments.papers.registry import EXPERIMENTS
from policy import schemes
from policy.evaluation.closure import closure_of, find_module
from policy.learn.checkpoint import OWN, SHIPPED
from policy.world.splits import world_seed

BATCHES = replace(
    EXPERIMENTS["loading"],
    scenario={"base": "default", "catalog": "findings", "num_nodes": 2, "num_users": 3, "num_slots": 1},
    points=EXPERIMENTS["loading"].points[:2],
    name="tiny-batches",
)
EXTENT = Extent(worlds=2, seeds=2)
PLAYERS = [
    one.name
    for one in EXPERIMENTS.values()
    if one.player is not None
    and one.scenario is not UNUSED  # those of parts of models play no slots
    and find_module("policy.schemes") in closure_of([one.player.__module__]).files
]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYERS)
def test_a_player_says_which_schemes_it_looks_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()
    real = schemes.parts_of

    def watched(name: str) -> tuple[str, str | None, list[str]]:
        asked.add(real(name)[0])
        return real(name)

    monkeypatch.setattr(schemes, "parts_of", watched)
    experiment, point = EXPERIMENTS[name], EXPERIMENTS[name].points[0]
    assert experiment.player is not None
    experiment.player(scenario_at(experiment, point, 1), point.settings, world_seed("train", 0))

    assert asked == {real(scheme)[0] for scheme in point.plays}


def test_what_a_player_keeps_hangs_on_the_schemes_it_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = tuple(replace(point, plays=("learned",)) for point in BATCHES.points)
    learns = replace(BATCHES, points=points)
    played: list[int] = []

    def play(experiment: Experiment) -> int:
        played.clear()
        play_experiment(experiment, EXTENT, tmp_path, lambda done, _: played.append(done))
        return len(played)

    assert [play(BATCHES), play(BATCHES), play(learns), play(learns)] == [4, 0, 4, 0]
    monkeypatch.setenv(OWN, str(SHIPPED / "augur.safetensors"))
    assert [play(BATCHES), play(learns)] == [0, 4]
