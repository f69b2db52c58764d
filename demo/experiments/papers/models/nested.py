"""Models inside a model: the first layers alone serve at once, and grow into the whole by the missing blocks.

After SFSC's nested sub-models, small first and upgraded later. Each smaller model is an ordinary folder of
the Hub with the first layers' tensors of the large one, so its blocks are blocks of the large model. Nothing
is trained for it.
"""

import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from safetensors.numpy import load_file, save_file

from demo.experiments.papers.models.zoo import zoo_models
from demo.zoo.cache import usable_root
from demo.zoo.measure import measured
from demo.zoo.text import DATASETS
from pbstore import open_store

LAYER = "encoder.layer."


def cut(folder: Path, layers: int, out: Path) -> None:
    """Write the model of the first layers as a folder of its own.

    Args:
        folder: An encoder of the BERT family in one `model.safetensors`.
        layers: How many layers are kept, 1 to all.
        out: Folder to be made.

    Raises:
        ValueError: If the model does not have so many layers.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not 1 <= layers <= config["num_hidden_layers"]:
        raise ValueError(f"{folder} has {config['num_hidden_layers']} layers, got {layers}")
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config["num_hidden_layers"] = layers
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if layer_of(name) < layers}, out / "model.safetensors"
    )


def layer_of(tensor: str) -> int:
    """Number of the layer that a tensor is in; -1 for those of none."""
    rest = tensor.partition(LAYER)[2]
    return int(rest.split(".")[0]) if rest else -1


@cache
def score_nested(name: str) -> dict[int, dict[str, float]]:
    """Each number of layers of an embedding model of the zoo.

    Args:
        name: Model of the zoo.

    Returns:
        By layers: `score` (nearest centroid, held out), `first_mb` to fetch it at first, `upgrade_mb` to
        fetch when one layer less is there, and `added_mb` that a store with the whole model grows by. Raw MB.
    """
    model = zoo_models()[name]
    text = DATASETS["bbc"](usable_root(None))
    by_layers: dict[int, dict[str, float]] = {}
    whole = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    with tempfile.TemporaryDirectory() as scratch, open_store(Path(scratch) / "store") as store:
        store.add(model.folder, name="whole")
        before: set[object] = set()
        for layers in range(1, whole + 1):
            folder = Path(scratch) / f"first-{layers}"
            cut(model.folder, layers, folder)
            was = store.used_bytes
            store.add(folder, name=f"first-{layers}")
            blocks = {key: store.info(key).raw_bytes for key in store.blocks(f"first-{layers}")}
            by_layers[layers] = {
                "score": measured(replace(model, folder=folder), text)[1],
                "first_mb": sum(blocks.values()) / 1e6,
                "upgrade_mb": sum(size for key, size in blocks.items() if key not in before) / 1e6,
                "added_mb": (store.used_bytes - was) / 1e6,
            }
            before = set(blocks)
    return by_layers
