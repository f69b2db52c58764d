"""Laws of programs: every edit is found and comes back, every program runs alike in parts, none does harm."""

import base64
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from pbstore.codecs import CodecError, TensorSpec, choose, decode, decode_in_parts
from pbstore.codecs.chunk import Mode
from pbstore.codecs.derive import narrow
from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import Parent
from pbstore.codecs.derive.evaluate import DERIVED, Derived, gather
from pbstore.codecs.derive.grammar import (
    DTYPES,
    MAX_RUN,
    Literal,
    Op,
    Program,
    Step,
    Term,
    check_program,
    read_program,
)
from pbstore.codecs.derive.search import search
from pbstore.codecs.payload import write_payload
from tests.pbstore.codecs.edits import edits, raw_of, weights

GOLDEN = Path(__file__).parents[2] / "golden" / "codecs-3.json"
TENSORS = weights()
EDITS = edits(*TENSORS)
F32 = DTYPES.index("F32")


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", EDITS)
def test_each_edit_takes_no_more_than_its_share(kind: str) -> None:
    make, share = EDITS[kind]
    raw, spec = raw_of(make())
    parents = {name: Parent(name, *raw_of(tensor)) for name, tensor in zip("xyz", TENSORS, strict=True)}
    case = Case(memoryview(raw), spec)

    encoded = choose(
        raw, spec, derive=lambda _: search(case, [parents["x"]], lambda _: [parents["y"], parents["z"]])
    )

    assert encoded.codec in DERIVED
    assert len(encoded.payload) < share * len(raw) + 200
    bases = [parents[need].raw for need in encoded.needs]
    assert decode(encoded.codec, encoded.payload, len(raw), bases) == raw
    assert b"".join(map(bytes, decode_in_parts(encoded.codec, encoded.payload, len(raw), bases))) == raw


def test_nothing_is_found_for_weights_of_another_kind() -> None:
    x, y, z = (Parent(name, *raw_of(tensor)) for name, tensor in zip("xyz", TENSORS, strict=True))
    raw, spec = raw_of(torch.randn(192, 256, generator=torch.Generator().manual_seed(9)))

    assert search(Case(memoryview(raw), spec), [x], lambda _: [y, z]) == []
    assert search(Case(memoryview(y.raw), y.spec), [x], lambda _: [z]) == []


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38, 1e-44, 0.0])
def test_numbers_of_any_size_are_searched_without_a_word(
    value: float, capfd: pytest.CaptureFixture[str]
) -> None:
    x, y, _ = TENSORS
    odd = y.clone()
    odd[::3, ::2] = value
    raw, spec = raw_of((x + y) / 2)
    first, second = Parent("x", *raw_of(x)), Parent("odd", *raw_of(odd))

    search(Case(memoryview(raw), spec), [first], lambda _: [second])
    search(Case(memoryview(second.raw), second.spec), [first], lambda _: [Parent("y", *raw_of(y))])

    assert capfd.readouterr() == ("", "")


terms = st.builds(
    Term, st.integers(-40, 40), st.sampled_from([0, 1, 2, 3, 7, 12, -1]), st.integers(1, 4), st.none()
)
loads = st.builds(lambda a, b: [Step(Op.LOAD, (0, F32), a, b)], terms, terms)
numbers = st.builds(lambda v: [Step(Op.CONST, (F32, float(np.float32(v))))], st.floats(-2, 2))
extremes = st.builds(
    lambda kind, run, a, b: [Step(Op.EXTREME, (0, F32, kind, run, 1), a, b)],
    st.integers(0, 2),
    st.integers(1, 5),
    terms,
    terms,
)


def longer(inner: st.SearchStrategy[list[Step]]) -> st.SearchStrategy[list[Step]]:
    """Programs of one more operation."""
    binary = st.sampled_from([Op.ADD, Op.SUB, Op.MUL, Op.DIV])
    there_and_back = st.sampled_from(["BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "I8", "U8", "I32"])
    unary = st.sampled_from(
        [
            [Step(Op.RINT)],
            [Step(Op.FLOOR)],
            [Step(Op.CLIP, (-1.0, 1.0))],
            [Step(Op.KEEP_LARGE, (1, 0.5))],
            [Step(Op.KEEP_MOST, (0, 1, 3))],
            [Step(Op.TRUNCATE), Step(Op.CAST, (F32,))],
            [Step(Op.PICK, (0,)), Step(Op.ADD)],
            [Step(Op.BUCKET, (0,)), Step(Op.TABLE, (0,))],
        ]
    )
    casts = there_and_back.map(lambda to: [Step(Op.CAST, (DTYPES.index(to),)), Step(Op.CAST, (F32,))])
    return st.one_of(
        st.builds(lambda a, b, op: [*a, *b, Step(op)], inner, inner, binary),
        st.builds(lambda a, more: [*a, *more], inner, st.one_of(unary, casts)),
    )


programs = st.recursive(st.one_of(loads, numbers, extremes), longer, max_leaves=4)
BOUNDS = Literal("F32", np.array([-1, -0.2, 0, 0.2, 1], np.float32).view(np.uint32))


@given(
    first=programs,
    second=st.none() | programs,
    seed=st.integers(0, 9),
    cuts=st.tuples(*[st.integers(0, 96)] * 2),
)
def test_every_program_gives_the_same_in_parts_and_brings_every_byte_back(
    first: list[Step], second: list[Step] | None, seed: int, cuts: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    parent = rng.normal(0, 1, 80).astype(np.float32)
    raw = rng.normal(0, 1, 96).astype(np.float32).tobytes()
    program = Program(8, 12, (*first, *(second or ())), (BOUNDS,), 1 if second is None else 2)
    derived = Derived.of(program, [memoryview(parent.tobytes())], 4)
    begin, end = sorted(cuts)

    for whole, part in zip(derived.alternatives(0, 96), derived.alternatives(begin, end), strict=True):
        assert np.array_equal(whole[begin:end], part)
    assert read_program(memoryview(program.to_bytes()), 0, 96)[0].to_bytes() == program.to_bytes()
    payload = write_payload(memoryview(raw), Mode(item_bytes=4), derived)
    assert decode("derive1", payload, len(raw), [parent.tobytes()]) == raw


@given(
    axes=st.lists(st.lists(st.integers(-5, 30), min_size=1, max_size=4), min_size=1, max_size=3),
    count=st.integers(0, 40),
)
def test_what_lies_outside_is_zero(axes: list[list[int]], count: int) -> None:
    source = np.arange(1, count + 1, dtype=np.uint16)

    found = gather(source, [np.array(axis) for axis in axes])

    for place in np.ndindex(*map(len, axes)):
        address = sum(axis[i] for axis, i in zip(axes, place, strict=True))
        assert found[place] == (source[address] if 0 <= address < count else 0)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_small_floats_are_those_of_torch(dtype: str) -> None:
    name = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}[dtype]
    rng = np.random.default_rng(0)
    bits = np.nan_to_num(rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32))
    values = np.concatenate([bits, *(rng.normal(0, size, 1 << 14) for size in (1e-3, 0.05, 300))]).astype(
        np.float32
    )
    codes = np.arange(256, dtype=np.uint8)

    wide = torch.from_numpy(codes).view(getattr(torch, dtype)).float().numpy()
    small = torch.from_numpy(values).to(getattr(torch, dtype)).view(torch.uint8).numpy()

    assert np.array_equal(narrow.cast(codes, name, "F32"), wide, equal_nan=True)
    assert np.array_equal(narrow.cast(values, "F32", name), small)


GOOD = Program(8, 12, (Step(Op.LOAD, (0, F32), Term(0, 12), Term(0, 1)),))
CONST = Step(Op.CONST, (F32, 1.0))
BAD: dict[str, tuple[Step, ...]] = {
    "nothing": (Step(Op.ADD),),
    "two dtypes": (CONST, Step(Op.CONST, (DTYPES.index("F64"), 1.0)), Step(Op.ADD)),
    "no such parent": (Step(Op.LOAD, (1, F32)),),
    "no such literal": (Step(Op.LOAD, (0x80, F32)),),
    "no such dtype": (Step(Op.LOAD, (0, 99)),),
    "another width": (CONST, Step(Op.CAST, (DTYPES.index("BF16"),))),
    "a cast of no meaning": (CONST, Step(Op.CAST, (F32,))),
    "left over": (CONST, CONST),
    "too deep": (CONST,) * 20,
    "a pick below": (CONST, Step(Op.PICK, (1,))),
    "long runs": (Step(Op.EXTREME, (0, F32, 0, MAX_RUN + 1, 1)),),
    "much work": (Step(Op.EXTREME, (0, F32, 0, MAX_RUN, 1), Term(0, 1), Term(0, 1)),),
    "uneven groups": (CONST, Step(Op.KEEP_MOST, (0, 2, 5))),
    "factors that are not there": (Step(Op.LOW_RANK, (0, 1, 4)),),
    "bounds that are not there": (CONST, Step(Op.BUCKET, (0,))),
    "bits of a float": (CONST, Step(Op.BITS, (1, 1))),
    "a list that is none": (Step(Op.LOAD, (0, F32), Term(0, 1, 1, 3)),),
}


@pytest.mark.parametrize("what", BAD)
def test_a_program_that_must_not_run_is_refused(what: str) -> None:
    with pytest.raises(CodecError):
        check_program(replace(GOOD, steps=BAD[what]), [400], 4)


@pytest.mark.parametrize("literal", [2**31, 1 << 20, 0])
def test_a_literal_that_claims_much_takes_no_memory(literal: int) -> None:
    head = struct.pack("<BQQBBB", 1, 8, 12, 1, 1, 1)
    payload = head + struct.pack("<BI", F32, literal) + b"\0\1\0\0\0x" * 4 + CONST.to_bytes()

    with pytest.raises(CodecError):
        read_program(memoryview(payload), 0, 96)


@given(
    place=st.integers(0, 10_000),
    value=st.integers(0, 255),
    item=st.integers(0, 99),
    file=st.sampled_from([GOLDEN, *(GOLDEN.with_name(f"codecs-{n}.json") for n in (4, 5))]),
)
def test_damage_is_refused_or_gives_as_many_bytes(place: int, value: int, item: int, file: Path) -> None:
    golden = json.loads(file.read_text())
    chosen = golden["payloads"][item % len(golden["payloads"])]
    payload = bytearray(base64.b64decode(chosen["payload"]))
    payload[place % len(payload)] = value
    bases = [zlib.decompress(base64.b64decode(golden["blocks"][name])) for name in chosen["needs"]]
    try:
        found = decode(chosen["codec"], bytes(payload), chosen["raw_bytes"], bases)
    except (CodecError, ValueError, IndexError, OverflowError):
        return
    assert len(found) == chosen["raw_bytes"]


def test_frozen_programs_have_every_step() -> None:
    found = set()
    for file in (GOLDEN, GOLDEN.with_name("codecs-5.json")):
        for item in json.loads(file.read_text())["payloads"]:
            payload = memoryview(base64.b64decode(item["payload"]))
            program, _ = read_program(payload, 5, item["raw_bytes"] // payload[1])
            found |= {step.op for step in program.steps}
            assert blake3(program.to_bytes()).hexdigest() == item.get(
                "program", blake3(program.to_bytes()).hexdigest()
            )
    assert found == set(Op)


def test_a_program_may_not_have_another_number_of_parents() -> None:
    payload = write_payload(
        memoryview(bytes(384)), Mode(item_bytes=4), Derived.of(GOOD, [memoryview(bytes(384))], 4)
    )

    assert decode("derive1", payload, 384, [bytes(384)]) == bytes(384)
    for codec, bases in (("derive2", 1), ("derive1", 2), ("derive1", 0)):
        with pytest.raises(CodecError):
            decode(codec, payload, 384, [bytes(384)] * bases)


def test_specs_of_search_are_those_of_tensors() -> None:
    raw, spec = raw_of(TENSORS[0])
    assert spec == TensorSpec("F32", (192, 256))
    assert spec.num_bytes == len(raw)
