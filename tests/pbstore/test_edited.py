"""Edits of opaque files: a changed piece is stored as what changed, and comes back without the old file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbstore import DiskBlockStore, open_store
from pbstore.codecs import TensorSpec, choose, decode, decode_in_parts
from pbstore.codecs.choose import OPAQUE
from pbstore.codecs.edited import edited
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import folder_content

WORDS = [f'"token{number}":{number},' for number in range(30_000)]
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 400), st.binary(max_size=60)), min_size=1, max_size=6
)


def changed(text: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Some bytes taken out and others put in, at places that are parts of the length."""
    for part, taken, put in edits:
        place = int(part * len(text))
        text = text[:place] + put + text[place + taken :]
    return text


@given(edits=EDITS, seed=st.integers(0, 99))
def test_an_edit_costs_its_own_bytes_and_some_for_each_place(
    edits: list[tuple[float, int, bytes]], seed: int
) -> None:
    old = np.random.default_rng(seed).bytes(1 << 14)
    new = changed(old, edits)

    encoded = choose(new, None, [("0" * 64, old, TensorSpec(OPAQUE, (len(old),)))])

    assert encoded.codec == "rows"
    assert len(encoded.payload) < 100 + sum(120 + len(put) for _, _, put in edits)
    assert decode("rows", encoded.payload, len(new), [old]) == new
    assert b"".join(map(bytes, decode_in_parts("rows", encoded.payload, len(new), [old]))) == new


@given(new=st.binary(max_size=600), old=st.binary(max_size=600))
def test_any_bytes_are_told_from_any_others(new: bytes, old: bytes) -> None:
    runs = edited(memoryview(new), memoryview(old))
    if runs is not None:
        assert int(runs.runs["length"].sum()) == len(new)
        expected = runs.elements(0, len(new)).tobytes()
        assert all(a in (b, 0) for a, b in zip(expected, new, strict=True))


def test_nothing_is_based_on_what_has_nothing_in_common() -> None:
    one, other = (np.random.default_rng(seed).integers(97, 123, 4096, np.uint8).tobytes() for seed in (1, 2))

    assert choose(one, None, [("0" * 64, other, TensorSpec(OPAQUE, (4096,)))]).codec == "zstd"


def folder(path: Path, words: list[str]) -> Path:
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "bert"}')
    (path / "tokenizer.json").write_text("{" + "".join(words) + "}")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        opened.add(folder(tmp_path / "old", WORDS), "old")
        yield opened


@pytest.mark.parametrize("place", [0.1, 0.37, 0.9])
def test_a_token_more_adds_less_than_a_piece_of_the_text(
    store: DiskBlockStore, tmp_path: Path, place: float
) -> None:
    words = list(WORDS)
    words.insert(int(place * len(words)), '"newtoken":99999,')
    new = folder(tmp_path / "new", words)

    report = store.add(new, "new")

    assert report.codecs == {"rows": report.new_blocks}
    assert report.stored_bytes < 120 * report.new_blocks
    for gone in (None, "old"):
        if gone is not None:
            store.remove(gone, trash=False)
            store.gc()
        store.checkout("new", tmp_path / f"out-{gone}")
        assert folder_content(tmp_path / f"out-{gone}") == folder_content(new)
        assert store.verify().problems == ()
        assert reference_problems(store.disk) == []


def test_an_edit_of_an_edit_is_based_on_what_stands_alone(store: DiskBlockStore, tmp_path: Path) -> None:
    words = list(WORDS)
    for number in range(3):
        words.insert(5_000, f'"again{number}":{number},')
        store.add(folder(tmp_path / f"new{number}", words), f"new{number}")
    for one in store.block_ids():
        info = store.info(one)
        assert all(not store.info(base).needs for base in info.needs)
    assert store.verify().problems == ()
