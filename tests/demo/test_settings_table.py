"""Training seeds of ours in the ten settings, one table from several commands, and what it tells."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.experiments import settings_ten, what_is_left
from demo.experiments.by_setting import by_setting
from demo.experiments.settings_verdict import costs_of, geometric_mean, verdict, verdict_lines
from demo.experiments.training_seeds import seed_entries, seeds_in, weight_files
from policy.evaluation import evaluate
from policy.evaluation.episodes import run_job
from policy.interfaces import Float
from policy.learn.checkpoint import SHIPPED, CheckpointError, load_checkpoint, save_checkpoint
from policy.learn.decisions import DecisionWeights
from policy.schemes import find_scheme
from policy.schemes.learned import learned_from
from policy.world.looks import LookedAtError
from tests.demo.test_ten_settings import SMALL, Small


def write_weights(folder: Path, seeds: int, change: float = 0.0) -> None:
    """Weights of further seeds: the shipped ones, in the trade-offs moved by `change`."""
    shipped = load_checkpoint(SHIPPED / "augur-decisions.safetensors")
    folder.mkdir(exist_ok=True)
    for seed in range(1, seeds):
        demand, decisions = weight_files(folder, seed)
        for suffix in (".safetensors", ".json"):
            shutil.copy((SHIPPED / "augur").with_suffix(suffix), demand.with_suffix(suffix))
        tensors = {**shipped.tensors}
        tensors["decisions.weights"] = tensors["decisions.weights"] + np.float32(change * seed)
        save_checkpoint(decisions, tensors, shipped.about)


def in_file(folder: Path, seed: int) -> Float:
    """The trade-offs that a file has."""
    return DecisionWeights.from_tensors(load_checkpoint(weight_files(folder, seed)[1]).tensors).weights


def test_a_seed_is_started_from_its_two_files_and_from_nothing_shipped(tmp_path: Path) -> None:
    write_weights(tmp_path, 3, change=0.25)
    entries = seed_entries(tmp_path, 3)

    assert [entry.name for entry in entries] == ["learned-1", "learned-2"]
    for seed, entry in enumerate(entries, 1):
        scheme: Any = entry.start(SMALL.scenario(), np.random.default_rng(0))
        assert isinstance(
            scheme, type(find_scheme("learned").start(SMALL.scenario(), np.random.default_rng(0)))
        )
        np.testing.assert_array_equal(scheme._learned.decisions.weights, in_file(tmp_path, seed))
        assert (in_file(tmp_path, seed) != learned_from().decisions.weights).any()


def test_every_missing_file_of_weights_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_ten, "SETTINGS", (SMALL,))
    write_weights(tmp_path, 3)
    weight_files(tmp_path, 1)[1].unlink()
    weight_files(tmp_path, 2)[0].with_suffix(".json").unlink()

    assert settings_ten.main(["--training-seeds", "3", "--weights", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "decisions-seed-1.safetensors" in told.err
    assert "augur-seed-2.json" in told.err
    assert "augur-seed-1" not in told.err


def test_weights_of_another_kind_are_refused_before_anything_is_played(tmp_path: Path) -> None:
    write_weights(tmp_path, 2)
    demand, decisions = weight_files(tmp_path, 1)
    for wrong, right, said in (
        (demand, decisions, "clock and trade-offs"),
        (decisions, demand, "demand network"),
    ):
        kept = right.read_bytes()
        right.write_bytes(wrong.read_bytes())
        with pytest.raises(CheckpointError, match=f"{right.name} holds no {said}"):
            seed_entries(tmp_path, 2)
        right.write_bytes(kept)
    assert len(seed_entries(tmp_path, 2)) == 1


def test_episodes_of_a_seed_are_kept_by_the_content_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []
    monkeypatch.setattr("policy.evaluation.match.run_job", lambda *args: _count(played, *args))
    weights, moved, kept = tmp_path / "weights", tmp_path / "moved", tmp_path / "kept"

    def costs(folder: Path) -> Mapping[str, Any]:
        return evaluate(SMALL.scenario(), seed_entries(folder, 3), 2, bound_worlds=0, folder=kept).costs

    write_weights(weights, 3)
    first = costs(weights)
    assert played == ["learned-1", "learned-2"] * 2
    shutil.copytree(weights, moved)
    again = costs(moved)
    assert len(played) == 4
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    write_weights(weights, 2, change=1.0)
    costs(weights)
    assert played[4:] == ["learned-1"] * 2


def _count(played: list[str], *args: Any) -> Any:  # noqa: ANN401 - what `run_job` takes
    played += [name for name, _ in args[1].wanted]
    return run_job(*args)


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    write_weights(tmp_path, 2)
    pair = weight_files(tmp_path, 1)
    before = learned_from(*pair).decisions.weights
    write_weights(tmp_path, 2, change=0.5)

    np.testing.assert_array_equal(learned_from(*pair).decisions.weights, in_file(tmp_path, 1))
    assert (in_file(tmp_path, 1) != before).any()


def test_seeds_are_told_from_other_schemes() -> None:
    names = ["learned-10", "pooled", "learned", "learned-2", "learned-alone", "planner-clock"]
    assert seeds_in(names) == ["learned", "learned-2", "learned-10"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("64", (64, 64)), ("p1=160,others=148", (160, 148)), ("p2=3, p1=4", (4, None))],
)
def test_a_number_may_differ_between_settings(text: str, numbers: tuple[int, int | None]) -> None:
    each = by_setting(text)
    assert each.of("p1") == numbers[0]
    if numbers[1] is None:
        with pytest.raises(KeyError):
            each.of("v30")
    else:
        assert each.of("v30") == numbers[1]


@pytest.mark.parametrize("main", [settings_ten.main, what_is_left.main])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--settings", "p22"], "no setting 'p22'"),
        (["--first-world", "p22=1,others=2"], "no setting 'p22'"),
        (["--first-world", "p1=1"], "no number for p2, p2-sticky"),
        (["--first-world", "p1=1,p1=2"], "twice"),
        (["--first-world=-1"], "'-1' is no whole number"),
        (["--worlds", "p1=x"], "'x' is no whole number"),
        (["--worlds", "0"], "--worlds must be >= 1"),
        (["--workers", "0"], "'0' is no whole number >= 1"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(
    main: Any,  # noqa: ANN401 - one of two
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main([*options, "--out", "unused"])
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_last_table_has_all_worlds() -> None:
    assert settings_ten.counts(2, 5) == [2, 4, 5]
    assert settings_ten.counts(8, 4) == [4]
    assert settings_ten.counts(2, 4) == [2, 4]


def row(rng: np.random.Generator, room: float, gains: Mapping[str, float], spread: float) -> dict[str, Any]:
    """A setting of 12 worlds and 3 seeds in which ours is below each rival by about a gain."""
    base = rng.uniform(2.0, 4.0, (12, 1))
    costs = {name: base / (1 - gain) * rng.lognormal(0, spread, (12, 1)) for name, gain in gains.items()}
    ours = np.broadcast_to(base, (12, 3)) * np.array([0.99, 1.0, 1.01])
    draws = settings_ten.bootstrap(np.random.default_rng(0), 12, 3)
    schemes: dict[str, Any] = {
        name: {
            "delay_s": cost.mean(),
            "costs_s": cost[:, 0].tolist(),
            "ours_below": settings_ten.asdict(settings_ten.paired(ours, cost, draws)),
        }
        for name, cost in costs.items()
    }
    seeds = ["learned", "learned-1", "learned-2"]
    own = {
        seed: {"delay_s": ours[:, k].mean(), "costs_s": ours[:, k].tolist()} for k, seed in enumerate(seeds)
    }
    return {
        "room_of_all": room,
        "rivals": list(gains),
        "best_rival": min(gains, key=lambda name: schemes[name]["delay_s"]),
        "seeds": seeds,
        "schemes": {**schemes, **own},
    }


def test_the_verdict_counts_what_is_asked() -> None:
    rng = np.random.default_rng(3)
    done = {
        "wide": row(rng, 1.2, {"pooled": 0.30, "ewma-greedy:weight=0.2": 0.4}, 0.0),
        "noisy": row(rng, 0.4, {"pooled": 0.05, "ewma-greedy": 0.6}, 0.0),
        "small": row(rng, 0.4, {"pooled": 0.12, "ewma-greedy": 0.2}, 0.0),
        "level": row(rng, 0.4, {"pooled": -0.005, "ewma-greedy": 0.1}, 0.0),
        "behind": row(rng, 0.9, {"pooled": 0.2, "ewma-greedy": -0.03}, 0.0),
        "large": row(rng, 0.2, {"pooled": 0.2, "ewma-greedy": 0.25}, 0.0),
    }
    gap = done["noisy"]["schemes"]["pooled"]["ours_below"]
    gap["ci95"] = (-0.01, gap["ci95"][1])
    told = verdict(done)

    assert told.below_all == ("wide", "noisy", "small", "large")
    assert told.clear == ("wide", "small", "large")
    assert [below.name for below in told.scarce] == ["large", "small", "noisy"]
    assert told.scarce_reached == 2
    assert [below.name for below in told.behind] == ["behind"]
    assert {below.name: below.settings for below in told.against} == {"pooled": 6, "ewma-greedy": 6}
    text = "\n".join(verdict_lines(told))
    assert "**4 of 6** settings (wide, noisy, small, large)" in text
    assert "in **3** (7 wanted) (wide, small, large)" in text
    assert "At least 8% in **2 of 3**: not reached" in text
    assert "more than 1 % in **1** (none wanted) (behind 3.0 %)" in text


def test_three_scarce_settings_with_the_gain_are_reached() -> None:
    rng = np.random.default_rng(4)
    done = {name: row(rng, 0.5, {"pooled": 0.09}, 0.0) for name in "abc"}
    assert "in **3 of 3**: reached" in "\n".join(verdict_lines(verdict(done)))
    done.popitem()
    assert "in **2 of 3**: not reached" in "\n".join(verdict_lines(verdict(done)))


def test_the_geometric_mean_is_that_of_the_settings_and_lies_in_its_interval() -> None:
    rng = np.random.default_rng(5)
    gains = (0.5, -0.25, 0.1)
    rows = [row(rng, 0.5, {"pooled": gain}, 0.1) for gain in gains]
    pairs = [(costs_of(one, one["seeds"]), costs_of(one, ["pooled"])) for one in rows]
    told = geometric_mean("pooled", pairs)
    ratios = [ours.mean() / rival.mean() for ours, rival in pairs]

    assert told.reduction == pytest.approx(1 - np.prod(ratios) ** (1 / 3))
    assert told.low < told.reduction < told.high
    exact = [(ours, np.broadcast_to(ours.mean(axis=1, keepdims=True) / 0.75, (12, 1))) for ours, _ in pairs]
    same = geometric_mean("pooled", [(ours.mean(axis=1, keepdims=True), rival) for ours, rival in exact])
    assert same.reduction == pytest.approx(0.25)
    assert (same.low, same.high) == pytest.approx((0.25, 0.25))


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two small settings on the cheap radio, records and kept episodes in a folder of their own."""
    record, seen, looks = settings_ten.record_look, settings_ten.check_unseen, tmp_path / "looks.json"
    other = Small(name="other", about="for tests, too")
    monkeypatch.setattr(settings_ten, "record_look", lambda look: record(look, looks))
    monkeypatch.setattr(settings_ten, "check_unseen", lambda *where: seen(*where, looks))
    monkeypatch.setattr(settings_ten, "SETTINGS", (SMALL, other))
    monkeypatch.setattr(settings_ten, "cache_root", lambda: tmp_path / "cache")
    write_weights(tmp_path / "weights", 3, change=0.5)
    return tmp_path


def run(folder: Path, *options: str) -> int:
    common = ["--schemes", "rendezvous,lru", "--tune-worlds", "0", "--training-seeds", "3"]
    places = ["--weights", str(folder / "weights"), "--out", str(folder / "out")]
    return settings_ten.main([*common, *places, *options])


@pytest.mark.slow
def test_two_runs_end_in_one_table_and_a_stopped_one_adds_no_look(
    cheap: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = "--first-world", "small=7,others=3"
    assert run(cheap, *first, "--worlds", "2", "--settings", "small") == 0
    assert run(cheap, *first, "--worlds", "2", "--settings", "other", "--workers", "2") == 0
    looks = (cheap / "looks.json").read_text()
    assert [look["first_world"] for look in json.loads(looks)["looks"]] == [7, 3]
    assert "learned-2" in looks
    assert run(cheap, *first, "--worlds", "2") == 2
    assert "held out" in capsys.readouterr().err

    def refuse(*args: object) -> None:
        raise AssertionError("all was kept")

    monkeypatch.setattr("policy.evaluation.match.run_job", refuse)
    assert run(cheap, *first, "--worlds", "2", "--seen") == 0
    assert (cheap / "looks.json").read_text() == looks
    told = json.loads((cheap / "out" / "settings-ten.json").read_text())
    assert list(told["settings"]) == ["small", "other"]
    assert len(told["weights_sha256"]) == 4
    one = told["settings"]["small"]
    costs = np.array([one["schemes"][name]["costs_s"] for name in one["seeds"]])
    assert costs.shape == (3, 2)
    assert one["ours"]["delay_s"] == pytest.approx(costs.mean(), abs=1e-6)
    assert one["ours"]["least_s"] == pytest.approx(costs.mean(axis=1).min(), abs=1e-6)
    assert one["rivals"] == ["rendezvous", "lru"]
    assert one["schemes"]["lru"]["ours_below"]["seeds"] == 3
    assert told["asked"]["settings"] == 2
    text = (cheap / "out" / "settings-ten.md").read_text()
    assert "| small: for tests | 7 to 8 |" in text
    assert "Behind the best rival by more than 1 %" in text


def test_worlds_that_are_not_on_record_are_not_played_as_seen(cheap: Path) -> None:
    options = settings_ten._parser().parse_args(["--worlds", "2", "--first-world", "5"])
    table = settings_ten.Table(setting=SMALL, scenario=SMALL.scenario(), names=("lru",))
    settings_ten.put_on_record([table], options)
    options.seen = True
    settings_ten.put_on_record([table], options)
    options.worlds = by_setting("3")

    with pytest.raises(LookedAtError, match="world 7 of small is not on record"):
        settings_ten.put_on_record([table], options)


def test_rows_of_what_is_left_stay_in_order_and_belong_to_their_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(what_is_left, "SETTINGS", (replace(SMALL, name="first"), SMALL))
    path = tmp_path / "left.json"
    names = (*what_is_left.KNOWN, "told:distribution", "told:future")
    kept = what_is_left.Kept.at(path, "validation")
    for setting, world in (("small", 10), ("first", 9), ("small", 9)):
        kept.add(setting, world, dict.fromkeys(names, 1.0 + world))

    again = what_is_left.Kept.at(path, "validation").rows
    assert [(name, list(rows)) for name, rows in again.items()] == [("first", ["9"]), ("small", ["9", "10"])]
    monkeypatch.setattr(what_is_left, "code_version", lambda name: "of other weights")
    assert what_is_left.Kept.at(path, "validation").rows == {}
