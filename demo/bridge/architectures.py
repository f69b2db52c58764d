"""Catalogs of the architectures that the origin paper used, from their exact tensor shapes.

Models are built on torch's meta device from their published configurations: real sizes, real sharing between
a base and its frozen-bottom or LoRA children, no weights. Results on such a catalog are labelled so.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from policy.interfaces import BlockCatalog
from policy.world.ranges import in_ranges

_RESNETS: dict[str, tuple[str, tuple[int, ...]]] = {
    "resnet-18": ("basic", (2, 2, 2, 2)),
    "resnet-34": ("basic", (3, 4, 6, 3)),
    "resnet-50": ("bottleneck", (3, 4, 6, 3)),
    "resnet-101": ("bottleneck", (3, 4, 23, 3)),
    "resnet-152": ("bottleneck", (3, 8, 36, 3)),
}
"""He et al. (2016), table 1."""
_VITS: dict[str, tuple[int, int, int, int, int]] = {
    "vit-base": (768, 12, 12, 3072, 16),
    "vit-large": (1024, 24, 16, 4096, 16),
    "vit-huge": (1280, 32, 16, 5120, 14),
}
"""Dosovitskiy et al. (2021), table 1: width, layers, heads, MLP width, patch."""
_LLAMAS: dict[str, tuple[int, int, int, int]] = {
    "llama-2-7b": (4096, 32, 32, 11008),
    "llama-2-13b": (5120, 40, 40, 13824),
}
"""Touvron et al. (2023): width, layers, heads, MLP width."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "resnet": tuple(_RESNETS),
    "vit": tuple(_VITS),
    "llama": tuple(_LLAMAS),
}
"""Names to choose from, by family."""

_LAYER = re.compile(r"^(.*?(?:stages\.\d+\.layers\.\d+|layers?\.\d+))\.")
_HEAD = re.compile(r"^(classifier|lm_head)\b")
_ADAPTED = re.compile(r"(query|value|q_proj|v_proj)\.weight$")
_STATISTICS = re.compile(r"(running_mean|running_var|num_batches_tracked)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """Which children each base gets."""

    tuned_shares: tuple[float, ...] = (0.25, 0.5)
    """Shares of the top layers that are tuned, one kind of frozen-bottom child each."""
    tasks: int = 1
    """Children of each kind."""
    lora_rank: int = 16
    """Rank of a LoRA child on query and value (transformers only); 0: none."""

    def __post_init__(self) -> None:
        if any(not 0 < share <= 1 for share in self.tuned_shares):
            raise ValueError(f"tuned_shares must be in (0, 1], got {self.tuned_shares}")
        if self.tasks < 1 or self.lora_rank < 0:
            raise ValueError(f"need tasks >= 1 and lora_rank >= 0, got {self.tasks}, {self.lora_rank}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """One base, cut into blocks from bottom to top."""

    sizes: dict[str, int]
    """Parameters of each layer, bottom first, head and statistics left out."""
    head: int
    """Parameters of the head."""
    statistics: int
    """Running statistics of batch norms, which change in every child."""
    adapted: int
    """Sum of (inputs + outputs) over the matrices that LoRA adapts."""


def architecture_catalog(
    names: Iterable[str],
    children: Children | None = None,
    bytes_per_parameter: int = 2,
    *,
    unit_bytes: float | None = None,
) -> BlockCatalog:
    """Bases and their children as blocks: one a layer, one a head, one of batch-norm statistics.

    Args:
        names: Architectures or whole families of `FAMILIES`.
        children: Which children each base gets.
        bytes_per_parameter: 2 for half precision, 4 for single.
        unit_bytes: Cut larger blocks (an embedding that fills a node) into byte ranges of at most so many
            bytes, see `policy.world.ranges`; None: one block a layer, however large.

    Raises:
        ValueError: If a name is not known.
    """
    kinds = children or Children()
    shelf = _Shelf()
    for base in _expand(names):
        shelf.add_base(base, cut_layers(base), kinds)
    members = np.zeros((len(shelf.rows), len(shelf.sizes)), dtype=bool)
    for number, row in enumerate(shelf.rows.values()):
        members[number, row] = True
    catalog = BlockCatalog(
        sizes_bytes=np.array(shelf.sizes) * bytes_per_parameter,
        members=members,
        model_names=tuple(shelf.rows),
        block_names=tuple(shelf.blocks),
    )
    return catalog if unit_bytes is None else in_ranges(catalog, unit_bytes).catalog


class _Shelf:
    """Blocks and models gathered so far."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.blocks: list[str] = []
        self.rows: dict[str, list[int]] = {}

    def add_base(self, base: str, cut: Layers, kinds: Children) -> None:
        """Add a base and all its children."""
        layers = list(cut.sizes.items())
        body = [self._new(f"{base}/{layer}", size) for layer, size in layers]
        for model, tuned, lora in _models(base, kinds, len(body), cut):
            keep = len(body) - tuned
            row = body[:keep] + [self._new(f"{model}/{layer}", size) for layer, size in layers[keep:]]
            if lora:
                row.append(self._new(f"{model}/lora", kinds.lora_rank * cut.adapted))
            row.append(self._new(f"{model}/head", cut.head))
            if cut.statistics:
                row.append(self._new(f"{model}/statistics", cut.statistics))
            self.rows[model] = row

    def _new(self, name: str, parameters: int) -> int:
        self.sizes.append(parameters)
        self.blocks.append(name)
        return len(self.sizes) - 1


def _expand(names: Iterable[str]) -> list[str]:
    expanded: list[str] = []
    known = [name for family in FAMILIES.values() for name in family]
    for name in names:
        if name not in FAMILIES and name not in known:
            raise ValueError(f"no architecture {name!r}; there are {', '.join([*FAMILIES, *known])}")
        expanded += [item for item in FAMILIES.get(name, (name,)) if item not in expanded]
    return expanded


def _models(base: str, kinds: Children, layers: int, cut: Layers) -> list[tuple[str, int, bool]]:
    """Name, tuned layers, LoRA or not, of a base and its children."""
    models = [(base, 0, False)]
    for task in range(kinds.tasks):
        for share in kinds.tuned_shares:
            models.append(
                (f"{base}-top{round(100 * share)}-task{task}", max(1, round(share * layers)), False)
            )
        if kinds.lora_rank and cut.adapted:
            models.append((f"{base}-lora{kinds.lora_rank}-task{task}", 0, True))
    return models


def cut_layers(name: str) -> Layers:
    """Sizes of one architecture's layers, read off a model without weights."""
    import torch

    with torch.device("meta"):
        model = _build(name)
    body: dict[str, int] = {}
    head = statistics = adapted = 0
    for tensor_name, tensor in model.state_dict().items():
        count = prod(tensor.shape)
        if _STATISTICS.search(tensor_name):
            statistics += count
        elif _HEAD.match(tensor_name):
            head += count
        else:
            layer = _LAYER.match(tensor_name)
            key = layer.group(1) if layer else tensor_name.split(".")[0] + "." + tensor_name.split(".")[1]
            body[key] = body.get(key, 0) + count
        if _ADAPTED.search(tensor_name):
            adapted += sum(tensor.shape)
    return Layers(sizes=body, head=head, statistics=statistics, adapted=adapted)


def _build(name: str) -> Any:  # noqa: ANN401 - a transformers model
    import transformers

    if name in _RESNETS:
        kind, depths = _RESNETS[name]
        widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
        config = transformers.ResNetConfig(
            layer_type=kind, depths=list(depths), hidden_sizes=widths, num_labels=1000
        )
        return transformers.ResNetForImageClassification(config)
    if name in _VITS:
        width, layers, heads, mlp, patch = _VITS[name]
        vit = transformers.ViTConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=mlp,
            patch_size=patch,
            num_labels=1000,
        )
        return transformers.ViTForImageClassification(vit)
    width, layers, heads, mlp = _LLAMAS[name]
    llama = transformers.LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        vocab_size=32000,
    )
    return transformers.LlamaForCausalLM(llama)
