"""A base and its fine-tune in one store: what the second costs, and loading it without a folder."""

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pbstore import load_state_dict, open_store


def write_models(folder: Path) -> tuple[Path, Path]:
    """Two small checkpoints: the second has other values in a tenth of one tensor."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=(256, 64)).astype(np.float32) for name in ("embed", "layer")}
    tuned = {**tensors, "layer": tensors["layer"].copy()}
    tuned["layer"][::10] += 1e-3
    for name, values in (("base", tensors), ("tuned", tuned)):
        (folder / name).mkdir()
        save_file(values, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder / "base", folder / "tuned"


def main(folder: Path) -> None:
    """Add both, see where the bytes went, load tensors, and get the folder back."""
    base, tuned = write_models(folder)
    with open_store(folder / "store") as store:
        store.add(base, name="me/base")
        print(store.plan.add(tuned).report)  # what adding it would cost; keeps nothing
        report = store.add(tuned, name="me/tuned", base="me/base")
        print(f"{report.raw_bytes:,} bytes cost {report.stored_bytes:,}: {report.codecs}")

        savings = store.savings()
        print(f"as folders {savings.raw_bytes:,} bytes, stored {savings.stored_bytes:,}")

        layer = load_state_dict(store, "me/tuned", ["layer"])["layer"]  # no folder is written
        print(f"layer {tuple(layer.shape)} {layer.dtype}")  # load_model gives a model, ready to run

        store.checkout("me/tuned", folder / "out")  # every file byte for byte
    same = (folder / "out" / "model.safetensors").read_bytes() == (tuned / "model.safetensors").read_bytes()
    print(f"byte for byte: {same}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
