"""Units of placement: a block cut into ranges is the same block."""

from dataclasses import replace

import numpy as np
import pytest

from policy.world.forms import FormChoice
from policy.world.ranges import in_ranges
from tests.policy.test_forms import random_catalog


@pytest.mark.parametrize("most", [1, 7, 40, 10_000])
@pytest.mark.parametrize("seed", range(4))
def test_ranges_add_up_to_their_blocks(seed: int, most: int) -> None:
    catalog = random_catalog(np.random.default_rng(seed), 2)
    assert catalog.forms is not None
    cut = in_ranges(catalog, most)
    made, forms = cut.catalog, cut.catalog.forms
    assert forms is not None
    for sizes, whole in (
        (made.sizes_bytes, catalog.sizes_bytes),
        (forms.alone_bytes, catalog.forms.alone_bytes),
    ):
        assert (np.bincount(cut.block, sizes) == whole).all()
        least = np.minimum(catalog.sizes_bytes, catalog.forms.alone_bytes)[cut.block]
        assert ((sizes <= most) | (cut.count == least)).all()
    assert (made.members == catalog.members[:, cut.block]).all()
    assert len(set(made.block_names)) == made.num_blocks
    for column in range(made.num_blocks):
        bases = made.requires[made.requires[:, 0] == column, 1]
        of = catalog.requires[catalog.requires[:, 0] == cut.block[column], 1]
        assert set(cut.block[bases]) == set(of)
        assert bases.size == sum((cut.block == block).sum() for block in set(of))


def test_ranges_change_neither_forms_nor_families() -> None:
    for seed in range(8):
        catalog = random_catalog(np.random.default_rng(seed))
        cut = in_ranges(catalog, 9)
        before, after = FormChoice(catalog), FormChoice(cut.catalog)
        assert (before.kept_bytes == after.kept_bytes).all()
        assert (before.alone_bytes == after.alone_bytes).all()
        assert (before.requires == after.requires).all()
        assert (catalog.families() == cut.catalog.families()).all()


def test_a_catalog_that_fits_stays_as_it_is() -> None:
    catalog = replace(random_catalog(np.random.default_rng(0)), forms=None)
    assert in_ranges(catalog, 1e9).catalog.block_names == catalog.block_names
    for most in (0.5, 0, float("nan")):
        with pytest.raises(ValueError, match="at least 1 byte"):
            in_ranges(catalog, most)
