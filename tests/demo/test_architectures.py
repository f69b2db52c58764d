"""Sizes of published architectures, and what their children share."""

import numpy as np
import pytest

from demo.bridge.architectures import Children, architecture_catalog, cut_layers
from policy.scenario import shipped_catalog

PUBLISHED = {
    "resnet-18": 11_689_512,
    "resnet-50": 25_557_032,
    "vit-base": 86_567_656,
    "vit-huge": 632_045_800,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
}


@pytest.mark.parametrize(
    "name", ["resnet-18", "resnet-50", "vit-base", "vit-huge", "llama-2-7b", "llama-2-13b"]
)
def test_parameters_are_as_published(name: str) -> None:
    cut = cut_layers(name)

    assert sum(cut.sizes.values()) + cut.head == PUBLISHED[name]
    assert (cut.statistics > 0) == name.startswith("resnet")
    assert (cut.adapted > 0) != name.startswith("resnet")


def test_children_share_the_bottom_and_own_the_top() -> None:
    catalog = architecture_catalog(["resnet-18", "vit-base"], Children(tuned_shares=(0.25,), lora_rank=8))
    rows = dict(zip(catalog.model_names, list(catalog.members), strict=True))
    base, top, lora = rows["vit-base"], rows["vit-base-top25-task0"], rows["vit-base-lora8-task0"]
    kept = catalog.sizes_bytes[base & top].sum() / catalog.sizes_bytes[base].sum()

    assert 0.6 < kept < 0.8
    assert (base & ~lora).sum() == 1  # the head
    adapter = catalog.sizes_bytes[catalog.block_names.index("vit-base-lora8-task0/lora")]
    assert adapter == 2 * 8 * 12 * 2 * (768 + 768)
    assert not (rows["resnet-18"] & base).any()
    assert catalog.families().tolist() == [0, 0, 1, 1, 1]
    assert catalog.sharing > 1.5


def test_batch_norm_statistics_are_never_shared() -> None:
    catalog = architecture_catalog(["resnet-18"], Children(tuned_shares=(0.5,), tasks=2))
    statistics = [name.endswith("statistics") for name in catalog.block_names]

    assert sum(statistics) == 3
    assert (catalog.members[:, statistics].sum(axis=0) == 1).all()
    assert catalog.members.any(axis=0).all()
    assert np.unique(catalog.block_names).size == catalog.num_blocks


def test_unknown_names_and_children_are_refused() -> None:
    with pytest.raises(ValueError, match="no architecture 'alexnet'"):
        architecture_catalog(["alexnet"])
    with pytest.raises(ValueError, match="tuned_shares"):
        Children(tuned_shares=(0.0,))


def test_layers_that_would_fill_a_node_are_cut() -> None:
    whole, cut = (architecture_catalog(["resnet-18"], unit_bytes=most) for most in (None, 1e6))
    assert cut.dedup_bytes == whole.dedup_bytes
    assert cut.sizes_bytes.max() <= 1e6 < whole.sizes_bytes.max()
    assert (cut.model_bytes == whole.model_bytes).all()


@pytest.mark.parametrize(
    ("name", "architectures"),
    [
        ("vision", ["resnet", "vit-base", "vit-large"]),
        pytest.param("shapes", ["resnet", "vit"], marks=pytest.mark.slow),
    ],
)
def test_catalogs_that_come_with_the_package_are_exact(name: str, architectures: list[str]) -> None:
    made, shipped = architecture_catalog(architectures), shipped_catalog(name)

    assert (made.sizes_bytes == shipped.sizes_bytes).all()
    assert (made.members == shipped.members).all()
    assert (made.model_names, made.block_names) == (shipped.model_names, shipped.block_names)
