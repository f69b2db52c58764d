"""Files are cut where hf_xet cuts them, however they are read."""

import random
from pathlib import Path

import hf_xet
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore.serve.wire.xet import chunk_hash, file_hash, to_hex
from pbstore.serve.wire.xet_chunks import LEAST_BYTES, MOST_BYTES, chunks


def of_kind(kind: str, size: int) -> bytes:
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    return {
        "noise": noise,
        "zeros": bytes(size),
        "floats": rng.normal(0, 0.02, size // 4).astype(np.float32).tobytes(),
        "mixed": noise[: size // 3] + bytes(size // 3) + noise[size // 3 :],
        "words": b"the same words again and again, " * (size // 32),
    }[kind]


@pytest.mark.parametrize("size", [1, LEAST_BYTES - 1, LEAST_BYTES, MOST_BYTES, MOST_BYTES + 1, 900_000])
@pytest.mark.parametrize("kind", ["noise", "zeros", "floats", "mixed", "words"])
def test_the_hash_of_the_chunks_is_that_of_hf_xet(tmp_path: Path, kind: str, size: int) -> None:
    data = of_kind(kind, size)
    (tmp_path / "file").write_bytes(data)
    cut = list(chunks([data]))
    found = to_hex(file_hash([(chunk_hash(chunk), len(chunk)) for chunk in cut]))

    assert found == hf_xet.hash_files([str(tmp_path / "file")])[0].hash
    assert all(LEAST_BYTES <= len(chunk) <= MOST_BYTES for chunk in cut[:-1])


@settings(max_examples=10)
@given(seed=st.integers(0, 9), steps=st.lists(st.integers(1, 200_000), min_size=1, max_size=8))
def test_how_the_bytes_come_does_not_matter(seed: int, steps: list[int]) -> None:
    data = random.Random(seed).randbytes(500_000)
    parts, at = [], 0
    while at < len(data):
        step = steps[len(parts) % len(steps)] + 1000
        parts.append(data[at : at + step])
        at += step

    assert list(chunks(parts)) == list(chunks([data]))
    assert b"".join(chunks(parts)) == data
