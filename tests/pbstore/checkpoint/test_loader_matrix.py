"""The loader takes what `from_pretrained` takes from the same folder, or says why not.

Every tensor's bytes and dtype, which of them are one memory, which ask for a gradient, the dtype of the
config and the generation config, over architectures and layouts of folders.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pbstore import open_store
from pbstore.checkpoint.model import load_model
from pbstore.errors import CheckpointError
from tests.pbstore.checkpoint.test_memory import ties
from tests.pbstore.checkpoint.zoo import (
    LAYOUTS,
    NAMES,
    Folder,
    Layout,
    make,
    pickled,
    pickled_beside_a_stray_file,
)

NEVER_OPENED = {pickled, pickled_beside_a_stray_file}


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """No reports of transformers on what is missing: that is what is tested."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def told(model: transformers.PreTrainedModel) -> dict[str, Any]:
    """All that a model's user can see of how it was loaded, comparable."""
    tensors = {**model.state_dict(keep_vars=True), **dict(model.named_buffers())}
    made = {
        name: (
            t.dtype,
            t.shape,
            t.requires_grad,
            t.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, t in tensors.items()
    }
    generation = model.generation_config.to_dict() if model.can_generate() else None
    return {
        "class": type(model),
        "tensors": made,
        "ties": ties(model),
        "dtype": model.config.dtype,
        "generation": generation,
        "training": model.training,
    }


def reference(folder: Folder) -> dict[str, Any] | None:
    """What `from_pretrained` gives; None where it refuses or makes up tensors."""
    try:
        model, info = type(folder.made).from_pretrained(
            folder.path, output_loading_info=True, **folder.options
        )
    except Exception:
        return None
    return None if info["missing_keys"] else told(model)


def check(which: str, layout: Layout, tmp_path: Path, form: str = "hot") -> bool:
    """Compare one cell; whether both load it."""
    made, other = make(which), tmp_path / "other"
    made.save_pretrained(tmp_path / "m")
    make(which, seed=1).save_pretrained(other)
    folder = Folder(tmp_path / "m", made, other, {})
    layout(folder)
    expected = None if layout in NEVER_OPENED else reference(folder)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(folder.path, "m", form=form, keep_damaged=True)  # of what is missing the loader tells
        if expected is None:
            with pytest.raises(CheckpointError) as caught:
                load_model(store, "m", **folder.options)
            assert str(caught.value).startswith("m")
            assert "\n" not in str(caught.value)
            return False
        found = told(load_model(store, "m", **folder.options))
    for key, value in expected.items():
        assert found[key] == value, key
    return True


DIAGONAL = [(which, LAYOUTS[2 * number % len(LAYOUTS)]) for number, which in enumerate(NAMES)]


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("which", "layout"), DIAGONAL, ids=lambda value: getattr(value, "__name__", value))
def test_each_architecture_in_one_layout(which: str, layout: Layout, tmp_path: Path) -> None:
    check(which, layout, tmp_path, "cold" if which > "gpt" else "hot")


@pytest.mark.sampled(8)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_layout_is_loaded_or_refused_as_its_name_says(layout: Layout, tmp_path: Path) -> None:
    refused = ("missing", "another_shape", "pickled")

    assert check("bert-mlm", layout, tmp_path) != any(word in layout.__name__ for word in refused)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("which", NAMES)
def test_every_architecture_in_every_layout(which: str, layout: Layout, tmp_path: Path) -> None:
    check(which, layout, tmp_path)
