"""Classifiers of the zoo with what is needed to score them again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from demo.zoo import ZooModel, build_zoo
from demo.zoo.cache import usable_root
from demo.zoo.inference import load_net, load_tokenizer, logits, one_thread
from demo.zoo.recipes import ZOOS
from demo.zoo.text import DATASETS, LabelledText

BODY = "bert."
"""What the names of a classifier's tensors have in front of those of its base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A classifier in memory."""

    net: nn.Module
    base_state: dict[str, Tensor]
    """Tensors of its base by the classifier's names; it has no head."""
    tokenizer: object
    text: LabelledText

    def score(self) -> float:
        """Accuracy on the rows held out, (rows,) of equal weight."""
        truth = torch.tensor([label for _, label in self.text.test])
        with one_thread():
            said = logits(self.net, self.tokenizer, [row for row, _ in self.text.test]).argmax(-1)
        return float((said == truth).double().mean())

    def loss(self, rows: Sequence[int]) -> float:
        """Mean cross-entropy on training rows, nat."""
        part = [self.text.train[row] for row in rows]
        with one_thread():
            said = logits(self.net, self.tokenizer, [row for row, _ in part])
        return float(nn.functional.cross_entropy(said.float(), torch.tensor([label for _, label in part])))


@cache
def zoo_models(size: str = "small") -> dict[str, ZooModel]:
    """A zoo by name, made if it is not there yet.

    Args:
        size: Key of `demo.zoo.recipes.ZOOS`.

    Raises:
        ZooError: If no model could be had.
    """
    return {model.name: model for model in build_zoo(size)}


def zoo_scored(name: str, size: str = "small") -> Scored:
    """A classifier of a zoo.

    Args:
        name: Of the model.
        size: Of the zoo, see `zoo_models`.

    Raises:
        ValueError: If the zoo has no such classifier here.
    """
    models = zoo_models(size)
    model = models.get(name)
    if model is None or model.task != "classification" or model.base not in models:
        raise ValueError(f"expected a classifier of the zoo whose base is there, got {name!r}")
    base = load_file(models[model.base].folder / "model.safetensors")
    dataset = next(recipe.dataset for recipe in ZOOS[size] if recipe.name == name)
    return Scored(
        net=load_net(model.folder, model),
        base_state={BODY + key: value for key, value in base.items()},
        tokenizer=load_tokenizer(model.folder),
        text=DATASETS[str(dataset)](usable_root(None)),
    )
