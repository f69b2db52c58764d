from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import RateError
from policy.interfaces import BlockCatalog, checked_rates
from policy.world.synthetic import findings_catalog, synthetic_catalog
from tests.fakes import BrokenDelay, fixed_catalog


def test_catalog_counts_shared_blocks_once() -> None:
    catalog = fixed_catalog()

    assert catalog.dedup_bytes == 175
    assert catalog.model_bytes.tolist() == [150, 125]
    assert catalog.sharing == pytest.approx(275 / 175)
    assert catalog.families().tolist() == [0, 0]


def test_whole_models_share_nothing() -> None:
    whole = fixed_catalog().whole_models()

    assert whole.sizes_bytes.tolist() == [150, 125]
    assert whole.sharing == 1.0
    assert len(set(whole.families().tolist())) == 2


def test_a_model_kept_as_one_piece_may_have_a_size_of_its_own(tmp_path: Path) -> None:
    catalog = replace(fixed_catalog(), whole_bytes=np.array([140, 90]))
    catalog.save(tmp_path / "c.npz")

    assert catalog.whole_models().sizes_bytes.tolist() == [140, 90]
    assert BlockCatalog.load(tmp_path / "c.npz").whole_bytes.tolist() == [140, 90]
    assert fixed_catalog().whole_bytes.tolist() == [150, 125]
    for bad in ([140], [140, 0]):
        with pytest.raises(ValueError, match="whole_bytes"):
            replace(fixed_catalog(), whole_bytes=np.array(bad))


def test_catalog_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        fixed_catalog().sizes_bytes[0] = 1


@pytest.mark.parametrize(
    ("sizes", "members", "requires", "says"),
    [
        ([], np.zeros((0, 0)), [], "empty"),
        ([1], np.zeros((0, 1)), [], "empty"),
        ([0], [[1]], [], "size > 0"),
        ([1, 1], [[1, 0], [0, 0]], [], "model 1 has none"),
        ([1, 1], [[1, 0], [0, 1]], [(0, 1)], "not closed"),
        ([1], [[1, 1]], [], "got"),
    ],
)
def test_what_is_no_catalog_is_refused(sizes: object, members: object, requires: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BlockCatalog(
            sizes_bytes=np.array(sizes),
            members=np.array(members, dtype=bool),
            requires=np.array(requires, dtype=int).reshape(-1, 2),
        )


def test_catalog_survives_a_file(tmp_path: Path) -> None:
    catalog = findings_catalog()
    catalog.save(tmp_path / "c.npz")
    back = BlockCatalog.load(tmp_path / "c.npz")

    assert back.block_names == catalog.block_names
    assert (back.members == catalog.members).all()
    assert (back.sizes_bytes == catalog.sizes_bytes).all()


def test_the_prototype_catalog_has_its_published_size() -> None:
    catalog = findings_catalog()

    assert (catalog.num_models, catalog.num_blocks) == (12, 60)
    assert catalog.dedup_bytes * 8 == pytest.approx(16.3e9, rel=1e-6)
    assert catalog.sharing == pytest.approx(2.08, abs=0.005)
    assert np.bincount(catalog.families()).tolist() == [4, 4, 4]


@given(shared=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 99))
def test_sharing_grows_from_none_to_all(shared: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalog = synthetic_catalog(rng, models=12, blocks_per_model=8, families=3, shared=shared)

    assert (catalog.members.sum(axis=1) == 8).all()
    if shared in (0.0, 1.0):
        assert catalog.num_blocks == (96 if shared == 0 else 24)
    assert catalog.members.any(axis=0).all()


@pytest.mark.parametrize("answer", [np.nan, -1.0])
def test_a_rate_that_is_none_is_refused(answer: float) -> None:
    with pytest.raises(RateError, match="must be >= 0"):
        checked_rates(BrokenDelay(answer), 0, np.ones((2, 1), dtype=bool), np.ones((2, 1), dtype=bool))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"not a zip"])
def test_a_file_that_is_no_catalog_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.npz is not a block catalog: no whole \.npz file"):
        BlockCatalog.load(tmp_path / "c.npz")
