"""Laws of every form of a block: it comes back, it never grows, damage is noticed or harmless."""

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from pbstore.codecs import (
    CODECS,
    LAZY,
    CodecError,
    Encoded,
    LoraCandidate,
    TensorSpec,
    choose,
    decode,
    decode_in_parts,
    lazy_base,
)
from pbstore.codecs.casts import f32_to_bf16
from pbstore.codecs.choose import Candidate
from pbstore.codecs.chunked import LazyBase
from pbstore.codecs.derive.evaluate import DERIVED
from pbstore.codecs.grid import read_grid, write_grid

FLOATS = {"F32": np.uint32, "BF16": np.uint16, "F16": np.uint16, "F64": np.uint64}
DTYPES = ["F32", "BF16", "F16", "F64", "I64", "I32", "U8", "F8_E4M3", "BOOL", "I16"]


def weights(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Bits that look like weights for floats, anything for the rest; some NaNs, infinities and zeros."""
    spec = TensorSpec(dtype, shape)
    if dtype not in FLOATS:
        return rng.integers(0, 5, spec.num_bytes, dtype=np.uint8).tobytes()
    values = rng.normal(0, 0.05, max(3, spec.num_elements))
    values[rng.integers(0, len(values), 3)] = [np.nan, np.inf, 0.0]
    values = values[: spec.num_elements]
    if dtype == "BF16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F32": np.float32, "F16": np.float16, "F64": np.float64}[dtype]).tobytes()


def tuned(rng: np.random.Generator, raw: bytes, dtype: str, share: float) -> bytes:
    """A copy whose bit patterns moved a little in a share of the elements."""
    bits = np.frombuffer(raw, FLOATS[dtype]).copy()
    moved = rng.random(bits.size) < share
    bits[moved] += rng.integers(0, 100, int(moved.sum())).astype(bits.dtype)
    return bits.tobytes()


def round_trip(raw: bytes, encoded: Encoded, blocks: dict[str, bytes]) -> None:
    assert encoded.codec in CODECS
    assert len(encoded.payload) <= len(raw)
    bases = [blocks[i] for i in encoded.needs]
    assert decode(encoded.codec, encoded.payload, len(raw), bases) == raw
    parts = decode_in_parts(encoded.codec, encoded.payload, len(raw), bases)
    assert b"".join(map(bytes, parts)) == raw


shapes = st.lists(st.integers(0, 40), min_size=0, max_size=3).map(tuple)


@given(raw=st.binary(max_size=2000))
def test_opaque_bytes_come_back(raw: bytes) -> None:
    round_trip(raw, choose(raw, None), {})


@given(dtype=st.sampled_from(DTYPES), shape=shapes, seed=st.integers(0, 99))
def test_tensors_come_back_alone(dtype: str, shape: tuple[int, ...], seed: int) -> None:
    raw = weights(np.random.default_rng(seed), dtype, shape)

    round_trip(raw, choose(raw, TensorSpec(dtype, shape)), {})


@given(raw=st.binary(min_size=64, max_size=400), base=st.binary(max_size=400), dtype=st.sampled_from(DTYPES))
def test_any_bytes_come_back_from_any_base(raw: bytes, base: bytes, dtype: str) -> None:
    item = TensorSpec(dtype, (1,)).num_bytes
    raw, base = raw[: len(raw) // item * item], base[: len(base) // item * item]
    spec, base_spec = TensorSpec(dtype, (len(raw) // item,)), TensorSpec(dtype, (len(base) // item,))

    round_trip(raw, choose(raw, spec, [("b", base, base_spec)]), {"b": base})


@given(
    dtype=st.sampled_from(sorted(FLOATS)),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_fine_tunes_come_back_from_their_base(
    dtype: str, shape: tuple[int, int], share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    base, spec = weights(rng, dtype, shape), TensorSpec(dtype, shape)
    raw = tuned(rng, base, dtype, share)

    round_trip(raw, choose(raw, spec, [("b", base, spec)]), {"b": base})


@pytest.mark.parametrize(("source", "target"), [("F32", "F32"), ("F32", "BF16"), ("BF16", "BF16")])
def test_a_base_may_be_decoded_where_it_is_needed(source: str, target: str) -> None:
    rng = np.random.default_rng(0)
    shape = (700, 1024)
    base = weights(rng, source, shape)
    raw = tuned(rng, base, source, 0.9)
    if source != target:
        raw = f32_to_bf16(np.frombuffer(raw, np.uint32)).tobytes()
    base_form = choose(base, TensorSpec(source, shape))
    encoded = choose(raw, TensorSpec(target, shape), [("b", base, TensorSpec(source, shape))])

    lazy = lazy_base(base_form.codec, base_form.payload, len(base))
    parts = decode_in_parts(encoded.codec, encoded.payload, len(raw), [lazy])

    assert encoded.codec in LAZY
    assert b"".join(map(bytes, parts)) == raw


@given(begin=st.integers(0, 700_000), length=st.integers(0, 700_000))
def test_any_range_of_a_lazy_base_is_that_of_the_base(begin: int, length: int) -> None:
    found = LAZY_BASE.read(begin, begin + length)

    assert bytes(found) == GRID_BYTES[begin : begin + length]


@pytest.mark.parametrize("dtype", sorted(FLOATS))
def test_chunks_of_a_large_tensor_come_back_on_two_threads(dtype: str) -> None:
    rng = np.random.default_rng(0)
    shape = (5 << 20) // 1024 // TensorSpec(dtype, (1,)).num_bytes, 1024
    base, spec = weights(rng, dtype, shape), TensorSpec(dtype, shape)
    raw = tuned(rng, base, dtype, 0.9)

    encoded = choose(raw, spec, [("b", base, spec)], workers=2)

    assert encoded.codec == "delta"
    assert decode("delta", encoded.payload, len(raw), [base], workers=2) == raw
    assert encoded == choose(raw, spec, [("b", base, spec)])


def test_untouched_weights_under_weight_decay_cost_almost_nothing() -> None:
    rng = np.random.default_rng(0)
    shape = (400, 384)
    base = rng.normal(0, 0.05, shape).astype(np.float32)
    decayed = base.copy()
    for _ in range(100):
        decayed *= np.float32(1 - 2e-7)
    decayed[::20] += rng.normal(0, 1e-3, decayed[::20].shape).astype(np.float32)
    spec = TensorSpec("F32", shape)

    encoded = choose(decayed.tobytes(), spec, [("b", base.tobytes(), spec)])

    round_trip(decayed.tobytes(), encoded, {"b": base.tobytes()})
    assert len(encoded.payload) < 0.08 * base.nbytes


@pytest.mark.parametrize(
    ("source", "target"), [("F32", "BF16"), ("F32", "F16"), ("BF16", "F32"), ("F16", "F32")]
)
def test_a_copy_in_another_dtype_is_a_few_bytes(source: str, target: str) -> None:
    import torch

    names = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    tensor = torch.randn(100, 400, generator=torch.Generator().manual_seed(0)).to(names[source])
    base = tensor.view(torch.uint8).numpy().tobytes()
    raw = tensor.to(names[target]).view(torch.uint8).numpy().tobytes()

    encoded = choose(raw, TensorSpec(target, (100, 400)), [("b", base, TensorSpec(source, (100, 400)))])

    round_trip(raw, encoded, {"b": base})
    assert encoded.codec == "cast"
    assert len(encoded.payload) < 20


def matrix(rng: np.random.Generator, rows: int, cols: int = 48) -> np.ndarray:
    return rng.normal(0, 0.05, (rows, cols)).astype(np.float32)


def named(name: str, array: np.ndarray) -> Candidate:
    return name, array.tobytes(), TensorSpec("F32", array.shape)


def test_inserted_and_moved_rows_cost_only_the_new_ones() -> None:
    rng = np.random.default_rng(0)
    base = matrix(rng, 500)
    raw = np.insert(base, [3, 200, 499], matrix(rng, 3), axis=0)
    raw[[10, 400]] = raw[[400, 10]]

    encoded = choose(raw.tobytes(), TensorSpec("F32", raw.shape), [named("b", base)])

    round_trip(raw.tobytes(), encoded, {"b": base.tobytes()})
    assert encoded.codec == "rows"
    assert len(encoded.payload) < 3 * 48 * 4 + 400


def test_fused_rows_of_three_tensors_cost_almost_nothing() -> None:
    rng = np.random.default_rng(0)
    parts = [matrix(rng, 90) for _ in range(3)]
    raw = np.concatenate(parts)

    encoded = choose(
        raw.tobytes(), TensorSpec("F32", raw.shape), [named(str(i), p) for i, p in enumerate(parts)]
    )

    round_trip(raw.tobytes(), encoded, {str(i): p.tobytes() for i, p in enumerate(parts)})
    assert sorted(encoded.needs) == ["0", "1", "2"]
    assert len(encoded.payload) < 200


@given(seed=st.integers(0, 999), rows=st.integers(2, 60))
def test_any_shuffle_of_rows_comes_back(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    bases = [matrix(rng, rows), matrix(rng, 20)]
    pool = np.concatenate([*bases, np.zeros((5, 48), np.float32), matrix(rng, 4)])
    raw = pool[rng.integers(0, len(pool), int(rng.integers(1, 80)))]
    raw[:: int(rng.integers(1, 9))] += np.float32(0.001)

    encoded = choose(
        raw.tobytes(), TensorSpec("F32", raw.shape), [named("a", bases[0]), named("b", bases[1])]
    )

    round_trip(raw.tobytes(), encoded, {"a": bases[0].tobytes(), "b": bases[1].tobytes()})


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_merged_adapter_is_predicted(dtype: str) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    kind = {"F32": torch.float32, "BF16": torch.bfloat16}[dtype]
    weight = (torch.randn(384, 384, generator=generator) * 0.05).to(kind)
    down, up = (
        torch.randn(8, 384, generator=generator) * 0.05,
        torch.randn(384, 8, generator=generator) * 0.05,
    )
    merged = (weight.float() + (up @ down) * 2.0).to(kind)
    blocks = {
        name: tensor.view(torch.uint8).numpy().tobytes()
        for name, tensor in {"w": weight, "a": down, "b": up, "m": merged}.items()
    }
    lora = LoraCandidate(
        ("w", blocks["w"], TensorSpec(dtype, (384, 384))),
        ("a", blocks["a"], TensorSpec("F32", (8, 384))),
        ("b", blocks["b"], TensorSpec("F32", (384, 8))),
        2.0,
    )

    encoded = choose(blocks["m"], TensorSpec(dtype, (384, 384)), [lora.weight], loras=[lora])

    round_trip(blocks["m"], encoded, blocks)
    assert encoded.codec == "lora"
    assert len(encoded.payload) < (0.06 if dtype == "F32" else 0.002) * len(blocks["m"])


def dequantised(rng: np.random.Generator, dtype: str, levels: int, runs: int) -> bytes:
    """Weights on a grid, as they come out of a quantised file."""
    q = rng.integers(0, levels, (runs, 32)) if levels == 16 else rng.integers(-127, 128, (runs, 32))
    q[:, :2] = (0, 15) if levels == 16 else (-127, 127)
    scale = rng.uniform(0.001, 0.01, (runs, 1)).astype(np.float16).astype(np.float32)
    offset = -scale * np.float32(7.3) if levels == 16 else np.zeros_like(scale)
    values = (q.astype(np.float32) * scale + offset.astype(np.float16).astype(np.float32)).astype(np.float32)
    if dtype == "BF16":
        return f32_to_bf16(values.reshape(-1).view(np.uint32)).tobytes()
    return values.astype({"F32": np.float32, "F16": np.float16}[dtype]).tobytes()


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("levels", [16, 255])
def test_dequantised_weights_take_little_more_than_the_quantised_file(dtype: str, levels: int) -> None:
    raw = dequantised(np.random.default_rng(0), dtype, levels, 5000)
    spec = TensorSpec(dtype, (5000, 32))

    encoded = choose(raw, spec, thorough=True, workers=2)

    round_trip(raw, encoded, {})
    assert encoded.codec == "grid"
    quantised = 5000 * (32 / 2 + 4 if levels == 16 else 32 + 2)
    assert len(encoded.payload) < (1.25 if dtype == "BF16" else 1.1) * quantised


@given(
    seed=st.integers(0, 999),
    dtype=st.sampled_from(["F32", "BF16", "F16"]),
    kind=st.sampled_from([0, 1]),
    what=st.sampled_from(["any bits", "weights", "grid", "zeros"]),
)
def test_any_runs_come_back_from_any_grid(seed: int, dtype: str, kind: int, what: str) -> None:
    rng = np.random.default_rng(seed)
    item = TensorSpec(dtype, (1,)).num_bytes
    raw = {
        "any bits": lambda: rng.bytes(32 * 20 * item),
        "weights": lambda: weights(rng, dtype, (20, 32)),
        "grid": lambda: dequantised(rng, dtype, 16, 20),
        "zeros": lambda: bytes(32 * 20 * item),
    }[what]()

    payload = write_grid(memoryview(raw), dtype, kind)

    assert decode("grid", payload, len(raw)) == raw


GRID_BYTES = dequantised(np.random.default_rng(5), "BF16", 16, 10_000)
LAZY_BASE = LazyBase(read_grid(memoryview(write_grid(memoryview(GRID_BYTES), "BF16", 0)), len(GRID_BYTES)))


def encodings() -> list[tuple[Encoded, int, list[bytes]]]:
    """One small block in every form."""
    rng = np.random.default_rng(1)
    base = matrix(rng, 120)
    near = tuned(rng, base.tobytes(), "F32", 0.1)
    spec = TensorSpec("F32", base.shape)
    bf16 = (base.view(np.uint32) >> 16).astype(np.uint16)
    down, up = matrix(rng, 4), matrix(rng, 120, 4)
    lora = LoraCandidate(named("b", base), named("d", down), named("u", up), 0.5)
    merged = base + (up @ down) * np.float32(0.5)
    inserted = np.insert(base, [5, 70], matrix(rng, 2), axis=0)
    quantised = dequantised(rng, "BF16", 16, 1100)
    blocks = {"b": base.tobytes(), "d": down.tobytes(), "u": up.tobytes()}
    found = [
        (base.tobytes(), choose(base.tobytes(), spec)),
        (near, choose(near, spec, [named("b", base)])),
        (bf16.tobytes(), choose(bf16.tobytes(), TensorSpec("BF16", base.shape), [named("b", base)])),
        (
            inserted.tobytes(),
            choose(inserted.tobytes(), TensorSpec("F32", inserted.shape), [named("b", base)]),
        ),
        (merged.tobytes(), choose(merged.tobytes(), spec, [named("b", base)], loras=[lora])),
        (b"text " * 99, choose(b"text " * 99, None)),
        (quantised, choose(quantised, TensorSpec("BF16", (1100, 32)), thorough=True)),
    ]
    found += [(raw, replace(one, codec="recast")) for raw, one in found if one.codec == "cast"]
    assert {encoded.codec for _, encoded in found} == set(CODECS) - {"raw", *DERIVED}
    return [(encoded, len(raw), [blocks[i] for i in encoded.needs]) for raw, encoded in found]


ENCODINGS = encodings()


def survives(encoded: Encoded, payload: bytes, raw_bytes: int, bases: list[bytes]) -> bool:
    try:
        return len(decode(encoded.codec, payload, raw_bytes, bases)) == raw_bytes
    except CodecError as error:
        return "\n" not in str(error)


@given(data=st.data(), which=st.sampled_from(range(len(ENCODINGS))))
def test_flipped_bytes_raise_or_keep_the_length(data: st.DataObject, which: int) -> None:
    encoded, raw_bytes, bases = ENCODINGS[which]
    payload = bytearray(encoded.payload)
    head = data.draw(st.booleans())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(payload), 64 if head else len(payload)) - 1))
        payload[place] = data.draw(st.integers(0, 255))

    assert survives(encoded, bytes(payload), raw_bytes, bases)


@given(data=st.data(), which=st.sampled_from(range(len(ENCODINGS))))
def test_cut_or_longer_payloads_raise(data: st.DataObject, which: int) -> None:
    encoded, raw_bytes, bases = ENCODINGS[which]
    cut = encoded.payload[: data.draw(st.integers(0, len(encoded.payload) - 1))]

    for payload in (cut, bytes(encoded.payload) + b"\0"):
        with pytest.raises(CodecError):
            decode(encoded.codec, payload, raw_bytes, bases)


@given(payload=st.binary(max_size=200), codec=st.sampled_from(CODECS), raw_bytes=st.integers(0, 500))
def test_arbitrary_payloads_raise_or_keep_the_length(payload: bytes, codec: str, raw_bytes: int) -> None:
    for bases in ([], [b"1234" * 20], [b"1234"] * 3):
        assert survives(Encoded(codec, b""), payload, raw_bytes, bases)
        assert survives(Encoded(codec, b""), b"\x01\x04\x00\xff\x14" + payload, raw_bytes, bases)


@pytest.mark.parametrize("which", range(len(ENCODINGS)))
def test_another_length_or_other_bases_raise(which: int) -> None:
    encoded, raw_bytes, bases = ENCODINGS[which]

    for length in (0, raw_bytes - 1, raw_bytes + 1, raw_bytes + 4, 1 << 29):
        with pytest.raises(CodecError):
            decode(encoded.codec, encoded.payload, length, bases)
    with pytest.raises(CodecError):
        decode(encoded.codec, encoded.payload, raw_bytes, [*bases, b"1234"])


def test_a_decompression_bomb_is_refused_before_memory_is_taken() -> None:
    import zstandard

    frame = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    payload = b"\x02" + len(frame).to_bytes(4, "little") + frame

    with pytest.raises(CodecError, match="declares 67108864 bytes, expected 100"):
        decode("zstd", payload, 100)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(CodecError, match="unknown codec 'gzip'"):
        decode("gzip", b"", 0)


def test_a_spec_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 8 bytes, got 4"):
        choose(b"1234", TensorSpec("F32", (2,)))


@pytest.mark.parametrize(
    "file", ["codecs.json", "codecs-2.json", "codecs-3.json", "codecs-4.json", "codecs-5.json"]
)
def test_frozen_payloads_decode_for_ever(file: str) -> None:
    golden = json.loads((Path(__file__).parents[2] / "golden" / file).read_text())
    blocks = {name: zlib.decompress(base64.b64decode(text)) for name, text in golden["blocks"].items()}

    for item in golden["payloads"]:
        bases = [blocks[name] for name in item["needs"]]
        payload = base64.b64decode(item["payload"])
        raw = decode(item["codec"], payload, item["raw_bytes"], bases)
        parts = decode_in_parts(item["codec"], payload, item["raw_bytes"], bases)
        assert blake3(raw).hexdigest() == item["blake3"], item["codec"]
        assert b"".join(map(bytes, parts)) == raw
    known = {item["codec"] for item in golden["payloads"]}
    assert (
        known == set(CODECS) - {"raw", "recast", *DERIVED} or file != "codecs.json"
    )  # `recast` is `cast` here
