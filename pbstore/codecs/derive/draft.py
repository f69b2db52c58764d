"""Writing programs: a few words for what search puts together. Steps are joined in the order of the stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import UINT, Uints
from pbstore.codecs.derive.evaluate import DERIVED, Derived
from pbstore.codecs.derive.grammar import DTYPES, LITERAL, Literal, Op, Program, Step, Term
from pbstore.codecs.derive.narrow import cast, known_cast
from pbstore.codecs.types import BlockId, Buffer, TensorSpec

Steps = tuple[Step, ...]
F64 = npt.NDArray[np.float64]
NEXT = Term(0, 1)
"""One element after the other."""
FLOAT_DTYPES = ("F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2")


_BY_WIDTH = {1: "U8", 2: "U16", 4: "U32", 8: "I64"}


def plain(spec: TensorSpec) -> TensorSpec | None:
    """The tensor as one of a dtype that programs know, of the same width; None if elements are no bytes."""
    if spec.dtype in DTYPES:
        return spec
    whole = spec.num_elements * spec.item_bytes == spec.num_bytes and spec.item_bytes in _BY_WIDTH
    return TensorSpec(_BY_WIDTH[spec.item_bytes], spec.shape) if whole else None


@dataclass(frozen=True, slots=True)
class Parent:
    """A stored tensor that a program may work on."""

    block_id: BlockId
    raw: Buffer
    spec: TensorSpec

    @property
    def data(self) -> memoryview:
        """Its bytes."""
        return memoryview(self.raw).cast("B")

    @property
    def bits(self) -> Uints:
        """Its elements as unsigned integers."""
        return np.frombuffer(self.data, UINT[self.spec.item_bytes])


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A program that may predict a block, over some parents."""

    derived: Derived
    parents: tuple[Parent, ...]

    @property
    def codec(self) -> str:
        """Name of the form."""
        return DERIVED[len(self.parents) - 1]

    @property
    def needs(self) -> tuple[BlockId, ...]:
        """Ids of the parents."""
        return tuple(parent.block_id for parent in self.parents)


def shape_of(spec: TensorSpec) -> tuple[int, int]:
    """Rows and columns of a tensor: all axes but the last, and the last."""
    columns = spec.shape[-1] if spec.shape else 1
    return spec.num_elements // max(1, columns), columns


def propose(
    spec: TensorSpec, parents: Sequence[Parent], *predictions: Steps, literals: Sequence[Literal] = ()
) -> Proposal:
    """A checked program of one or more predictions of a tensor."""
    rows, columns = shape_of(spec)
    steps = tuple(step for prediction in predictions for step in prediction)
    program = Program(rows, columns, steps, tuple(literals), len(predictions))
    return Proposal(Derived.of(program, [p.data for p in parents], spec.item_bytes), tuple(parents))


def load(source: int, dtype: str, rows: Term, columns: Term = NEXT) -> Steps:
    """Elements of a source at some addresses."""
    return (Step(Op.LOAD, (source, DTYPES.index(dtype)), rows, columns),)


def straight(number: int, parent: Parent, spec: TensorSpec) -> Steps:
    """A parent element by element."""
    return load(number, parent.spec.dtype, Term(0, shape_of(spec)[1]))


def floats(number: int, parent: Parent, spec: TensorSpec) -> Steps:
    """The same as float32."""
    return to_dtype(straight(number, parent, spec), parent.spec.dtype, "F32")


def vector(literal: int, *, by_row: bool, block: int = 1) -> Steps:
    """A literal of float32 with an element for each row, or for each column."""
    term, other = Term(0, 1, block), Term()
    return load(LITERAL + literal, "F32", *((term, other) if by_row else (other, term)))


def to_dtype(steps: Steps, source: str, target: str) -> Steps:
    """A cast, over float32 where none is direct."""
    if source == target:
        return steps
    if not known_cast(source, target):
        return to_dtype(to_dtype(steps, source, "F32"), "F32", target)
    return (*steps, Step(Op.CAST, (DTYPES.index(target),)))


def const(value: float, dtype: str = "F32") -> Steps:
    """One number."""
    exact = float(np.float32(value)) if dtype == "F32" else float(value)
    return (Step(Op.CONST, (DTYPES.index(dtype), exact)),)


def binary(op: Op, first: Steps, second: Steps) -> Steps:
    """An operation on two."""
    return (*first, *second, Step(op))


def add(first: Steps, second: Steps) -> Steps:
    """The sum."""
    return binary(Op.ADD, first, second)


def sub(first: Steps, second: Steps) -> Steps:
    """The difference."""
    return binary(Op.SUB, first, second)


def mul(first: Steps, second: Steps) -> Steps:
    """The product."""
    return binary(Op.MUL, first, second)


def div(first: Steps, second: Steps) -> Steps:
    """The quotient."""
    return binary(Op.DIV, first, second)


def wide(steps: Steps) -> Steps:
    """Float32 as float64."""
    return to_dtype(steps, "F32", "F64")


def narrow(steps: Steps) -> Steps:
    """Float64 rounded to float32."""
    return to_dtype(steps, "F64", "F32")


def fused(first: Steps, second: Steps, third: Steps) -> Steps:
    """First * second + third, rounded once: as a fused multiply-add, but for very rare double roundings."""
    return narrow(add(mul(wide(first), wide(second)), wide(third)))


def after(steps: Steps, op: Op, *operands: float) -> Steps:
    """One more step."""
    return (*steps, Step(op, operands))


def f32_literal(values: npt.NDArray[Any]) -> Literal:
    """Numbers of float32 that go with a program."""
    return Literal("F32", np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32))


def as_floats(bits: Uints, dtype: str) -> F64:
    """Elements as float64."""
    if dtype == "F64":
        return bits.view(np.float64)
    values = bits.view(np.float32) if dtype == "F32" else cast(bits, dtype, "F32")
    return values.astype(np.float64)
