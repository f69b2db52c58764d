"""What a program may say: its records, its bytes, and what is checked before anything of it runs.

    program     version (1 byte, 1), rows and columns of the result (8 each), number of literals, of steps and
                of predictions (1 each); the literals; the steps
    literal     dtype (1), number of elements (4), a stream for each byte plane
    step        its number in `Op` (1), its operands
    source      1 byte: a parent, or 0x80 + a literal
    term        flags (1), start (8), step (8), block (4), and a literal (1) if flag 1 is set: the address for
                index i is start + step * k, where k is i // block, or element i // block of the literal

All numbers are little-endian. The address of the element in row r and column c is the sum of the row's and
the column's term; what lies outside of its source is zero. What the stack holds at the end are the
predictions, the first at the bottom. Numbers of steps and of dtypes are only ever appended to.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import UINT, merge_planes, split_planes
from pbstore.codecs.derive.narrow import FLOATS, INTEGERS, known_cast
from pbstore.codecs.streams import pack_stream, unpack_stream
from pbstore.codecs.types import DTYPE_BITS, CodecError

VERSION = 1
DTYPES = (
    "F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "I8", "U8", "I16", "U16", "I32", "U32", "I64",
)  # fmt: skip
"""By number; only appended to."""
MAX_STEPS, MAX_DEPTH, MAX_LITERALS, MAX_PREDICTIONS = 200, 12, 24, 4
MAX_RANK, MAX_RUN = 512, 1 << 16
FACTOR_DTYPES = ("F32", "BF16", "F16")
LITERAL = 0x80
"""Added to the number of a literal where a source may also be a parent."""
MAX_LITERAL_BYTES = 1 << 20
"""Bytes of all literals, beyond the number of elements of the block."""
_REACH = 1 << 40
_WORK = 4
"""Elements that all runs of one step may read, for each element of the block and its source."""
_HEAD = struct.Struct("<BQQBBB")
_TERM = struct.Struct("<BqqI")


class Op(IntEnum):
    """Steps. "a, b" are what lies on the stack, b on top; floats are of one dtype, F32 or F64."""

    LOAD = 1
    """source, dtype, row term, column term: elements of a source."""
    EXTREME = 2
    """source, dtype, kind (0 greatest magnitude, 1 greatest, 2 least), run, stride, row term, column term:
    as float32, of `run` elements that lie `stride` apart, the first where the terms say."""
    CONST = 3
    """dtype (F32 or F64), value (8 bytes): one float."""
    PICK = 4
    """depth: a copy of what lies so deep in the stack, 0 on top."""
    CAST = 5
    """dtype: to or from float32."""
    TRUNCATE = 6
    """float32 to bfloat16 without rounding."""
    ADD = 7
    """a + b"""
    SUB = 8
    """a - b"""
    MUL = 9
    """a * b"""
    DIV = 10
    """a / b"""
    RINT = 11
    """To the nearest integer, ties to even."""
    FLOOR = 12
    """To the integer below."""
    CLIP = 13
    """low, high (8 bytes each): to the nearer bound."""
    KEEP_LARGE = 14
    """sign, limit (8 bytes): what is less in magnitude becomes 0, with its sign if `sign` is 1."""
    KEEP_MOST = 15
    """sign, n, m: of each m neighbours in a row all but the n greatest in magnitude become 0; of equal ones
    the first are kept."""
    PACK = 16
    """bits: a | b << bits, of two unsigned integers of one width; of b its lower bits only."""
    LOW_RANK = 17
    """up, down (literals of float32), rank: sum over k of up[r, k] * down[k, c], k ascending."""
    BUCKET = 18
    """literal (float32, ascending): how many of it are less than a float32, as U8."""
    TABLE = 19
    """literal: its element with the number that a U8 says, 0 beyond its end."""
    BITS = 20
    """shift, mask (4 bytes): (a >> shift) & mask, of an unsigned integer."""
    FACTORS = 21
    """up and down, each a parent, a dtype and a start (8 bytes, in elements), and a rank: as LOW_RANK, of two
    runs of elements of parents, as float32."""


OPERANDS: dict[Op, str] = {
    Op.LOAD: "BB",
    Op.EXTREME: "BBBIq",
    Op.CONST: "Bd",
    Op.PICK: "B",
    Op.CAST: "B",
    Op.CLIP: "dd",
    Op.KEEP_LARGE: "Bd",
    Op.KEEP_MOST: "BHH",
    Op.PACK: "B",
    Op.LOW_RANK: "BBH",
    Op.BUCKET: "B",
    Op.TABLE: "B",
    Op.BITS: "BI",
    Op.FACTORS: "BBQBBQH",
}
"""Of each step that has some; the terms of LOAD and EXTREME follow."""
ADDRESSED = (Op.LOAD, Op.EXTREME)
BINARY = (Op.ADD, Op.SUB, Op.MUL, Op.DIV)
_UNARY = (Op.RINT, Op.FLOOR, Op.CLIP, Op.KEEP_LARGE, Op.KEEP_MOST)


@dataclass(frozen=True, slots=True)
class Term:
    """Part of an address: start + step * (i // block), or start + step * literal[i // block]."""

    start: int = 0
    step: int = 0
    block: int = 1
    literal: int | None = None

    def to_bytes(self) -> bytes:
        """As the grammar says."""
        flag = int(self.literal is not None)
        tail = bytes([self.literal]) if self.literal is not None else b""
        return _TERM.pack(flag, self.start, self.step, self.block) + tail


@dataclass(frozen=True, slots=True)
class Step:
    """One step and its operands."""

    op: Op
    operands: tuple[Any, ...] = ()
    rows: Term = Term()
    columns: Term = Term()

    def to_bytes(self) -> bytes:
        """As the grammar says."""
        body = bytes([self.op]) + struct.pack(f"<{OPERANDS.get(self.op, '')}", *self.operands)
        return body + (self.rows.to_bytes() + self.columns.to_bytes() if self.op in ADDRESSED else b"")


@dataclass(frozen=True, slots=True)
class Literal:
    """Elements that the program brings with it, as bits of a dtype."""

    dtype: str
    bits: npt.NDArray[Any]

    def to_bytes(self) -> bytes:
        """As the grammar says."""
        planes = [part for plane in split_planes(self.bits) for part in pack_stream(plane, text=True)]
        return b"".join([struct.pack("<BI", DTYPES.index(self.dtype), len(self.bits)), *planes])


@dataclass(frozen=True, slots=True)
class Program:
    """Predictions of a tensor of (rows, columns)."""

    rows: int
    columns: int
    steps: tuple[Step, ...]
    literals: tuple[Literal, ...] = ()
    predictions: int = 1

    def to_bytes(self) -> bytes:
        """As the grammar says."""
        counts = (len(self.literals), len(self.steps), self.predictions)
        head = _HEAD.pack(VERSION, self.rows, self.columns, *counts)
        return b"".join([head, *(x.to_bytes() for x in self.literals), *(x.to_bytes() for x in self.steps)])


def read_program(payload: memoryview, position: int, num_elements: int) -> tuple[Program, int]:
    """Read a program of a block of so many elements; returns the position behind it, too.

    Raises:
        CodecError: If it is cut off or says what no program may say; `check_program` does the rest.
    """
    try:
        version, rows, columns, literals, steps, predictions = _HEAD.unpack_from(payload, position)
        position += _HEAD.size
        _expect(version == VERSION, f"a program of version {version}")
        _expect(rows * columns == num_elements, f"a program of {rows} x {columns} elements")
        _expect(literals <= MAX_LITERALS and 0 < steps <= MAX_STEPS, f"{literals} literals, {steps} steps")
        _expect(0 < predictions <= MAX_PREDICTIONS, f"{predictions} predictions")
        held: list[Literal] = []
        left = num_elements + MAX_LITERAL_BYTES
        for _ in range(literals):
            literal, position = _read_literal(payload, position, left)
            left -= literal.bits.nbytes
            held.append(literal)
        made: list[Step] = []
        for _ in range(steps):
            step, position = _read_step(payload, position)
            made.append(step)
    except struct.error as error:
        raise CodecError("codec payload ends inside a program") from error
    return Program(rows, columns, tuple(made), tuple(held), predictions), position


def _read_literal(payload: memoryview, position: int, most_bytes: int) -> tuple[Literal, int]:
    number, count = struct.unpack_from("<BI", payload, position)
    position += 5
    _expect(number < len(DTYPES), f"a literal of dtype {number}")
    item = DTYPE_BITS[DTYPES[number]] // 8
    _expect(0 < count * item <= most_bytes, f"a literal of {count} elements")
    planes = []
    for _ in range(item):
        plane, position = unpack_stream(payload, position, count)
        planes.append(plane)
    bits = np.empty(count, UINT[item])
    merge_planes(planes, bits)
    return Literal(DTYPES[number], bits), position


def _read_step(payload: memoryview, position: int) -> tuple[Step, int]:
    number = payload[position] if position < len(payload) else 0
    _expect(number in Op.__members__.values(), f"no step has number {number}")
    op = Op(number)
    form = f"<{OPERANDS.get(op, '')}"
    operands = struct.unpack_from(form, payload, position + 1)
    position += 1 + struct.calcsize(form)
    if op not in ADDRESSED:
        return Step(op, operands), position
    rows, position = _read_term(payload, position)
    columns, position = _read_term(payload, position)
    return Step(op, operands, rows, columns), position


def _read_term(payload: memoryview, position: int) -> tuple[Term, int]:
    flags, start, step, block = _TERM.unpack_from(payload, position)
    position += _TERM.size
    _expect(flags <= 1 and block > 0, f"a term with flags {flags} and blocks of {block}")
    _expect(max(abs(start), abs(step)) <= _REACH, "a term that reaches too far")
    literal = None
    if flags:
        (literal,) = struct.unpack_from("<B", payload, position)
        position += 1
    return Term(start, step, block, literal), position


def check_program(program: Program, parent_bytes: Sequence[int], item_bytes: int) -> list[str]:
    """Run a program on dtypes alone; returns those of its predictions.

    Args:
        program: The program.
        parent_bytes: Length of each parent.
        item_bytes: Bytes of an element of the result.

    Raises:
        CodecError: If a step does not find what it works on, reaches for what is not there, or would do more
            work than the sizes of the block and its parents allow.
    """
    stack: list[str] = []
    most = program.rows * program.columns + MAX_LITERAL_BYTES
    _expect(sum(literal.bits.nbytes for literal in program.literals) <= most, "too many literals")
    _expect(len(program.literals) <= MAX_LITERALS and len(program.steps) <= MAX_STEPS, "too many steps")
    for step in program.steps:
        _check_step(program, step, parent_bytes, stack)
        _expect(len(stack) <= MAX_DEPTH, "a program that stacks too much")
    _expect(len(stack) == program.predictions, f"{len(stack)} predictions in place of {program.predictions}")
    _expect(all(DTYPE_BITS[kind] == 8 * item_bytes for kind in stack), "predictions of another width")
    return stack


def _check_step(program: Program, step: Step, parent_bytes: Sequence[int], stack: list[str]) -> None:
    """Let a step do to a stack of dtypes what it does to one of elements."""
    op = step.op
    if op in ADDRESSED:
        stack.append(_check_addressed(program, step, parent_bytes))
    elif op is Op.CONST:
        _expect(step.operands[0] < len(DTYPES) and DTYPES[step.operands[0]] in FLOATS, "a constant's dtype")
        stack.append(DTYPES[step.operands[0]])
    elif op is Op.PICK:
        _expect(step.operands[0] < len(stack), "a pick from below the stack")
        stack.append(stack[-1 - step.operands[0]])
    elif op is Op.LOW_RANK:
        _check_low_rank(program, step)
        stack.append("F32")
    elif op is Op.FACTORS:
        _check_factors(program, step, parent_bytes)
        stack.append("F32")
    elif op in (Op.BUCKET, Op.TABLE):
        _expect(bool(stack) and step.operands[0] < len(program.literals), f"{op.name} without a literal")
        stack.append(_check_looked_up(op, stack.pop(), program.literals[step.operands[0]]))
    else:
        _check_in_place(program, step, stack)


def _check_in_place(program: Program, step: Step, stack: list[str]) -> None:
    op = step.op
    two = op in BINARY or op is Op.PACK
    _expect(len(stack) > two, f"{op.name} without what it works on")
    top = stack.pop()
    if two:
        _expect(stack.pop() == top, f"{op.name} of two dtypes")
    if op is Op.CAST:
        known = step.operands[0] < len(DTYPES) and known_cast(top, DTYPES[step.operands[0]])
        _expect(known, f"a cast of {top}")
        top = DTYPES[step.operands[0]]
    elif op is Op.TRUNCATE:
        _expect(top == "F32", f"a truncation of {top}")
        top = "BF16"
    elif op is Op.BITS:
        _expect(top[0] == "U" and step.operands[0] < DTYPE_BITS[top], f"bits of {top}")
    elif op is Op.PACK:
        _expect(top[0] == "U" and step.operands[0] < DTYPE_BITS[top], f"a pack of {top}")
    else:
        _expect(top in FLOATS and (op in BINARY or op in _UNARY), f"{op.name} of {top}")
    if op in (Op.KEEP_LARGE, Op.KEEP_MOST):
        _expect(step.operands[0] <= 1, "an unknown sign of zero")
    if op is Op.KEEP_MOST:
        _, n, m = step.operands
        _expect(0 < n < m and program.columns % m == 0, f"{n} of {m} in rows of {program.columns}")
    stack.append(top)


def _check_looked_up(op: Op, top: str, literal: Literal) -> str:
    if op is Op.TABLE:
        _expect(top == "U8", f"a table of {top}")
        return literal.dtype
    _expect(top == "F32" == literal.dtype and len(literal.bits) < 256, f"buckets of {top}")
    bounds = literal.bits.view(np.float32)
    _expect(bool(np.all(bounds[1:] >= bounds[:-1])) and not np.isnan(bounds[0]), "bounds that do not ascend")
    return "U8"


def _check_addressed(program: Program, step: Step, parent_bytes: Sequence[int]) -> str:
    source, number = step.operands[:2]
    _expect(number < len(DTYPES), f"a source of dtype {number}")
    dtype = DTYPES[number]
    if source >= LITERAL:
        _expect(source - LITERAL < len(program.literals), "a literal that is not there")
        _expect(program.literals[source - LITERAL].dtype == dtype, "a literal of another dtype")
        length = len(program.literals[source - LITERAL].bits)
    else:
        _expect(source < len(parent_bytes), "a parent that is not there")
        length = parent_bytes[source] // (DTYPE_BITS[dtype] // 8)
    counts = [
        _check_term(program, term, size)
        for term, size in ((step.rows, program.rows), (step.columns, program.columns))
    ]
    if step.op is Op.LOAD:
        return dtype
    _, _, kind, run, stride = step.operands
    _expect(dtype in ("F32", "BF16", "F16") and kind <= 2 and abs(stride) <= _REACH, "an unknown extreme")
    work = run * counts[0] * counts[1]
    allowed = _WORK * (length + program.rows * program.columns) + MAX_RUN
    _expect(0 < run <= MAX_RUN and work <= allowed, f"extremes of runs of {run}")
    return "F32"


def _check_term(program: Program, term: Term, size: int) -> int:
    """How many different addresses a term has."""
    count = -(-size // term.block)
    if term.literal is not None:
        _expect(term.literal < len(program.literals), "a literal that is not there")
        literal = program.literals[term.literal]
        _expect(literal.dtype in INTEGERS and len(literal.bits) >= count, "a list of addresses that is none")
    return count if term.step else 1


def _check_low_rank(program: Program, step: Step) -> None:
    up, down, rank = step.operands
    _expect(0 < rank <= MAX_RANK and max(up, down) < len(program.literals), "factors that are not there")
    for number, length in ((up, program.rows * rank), (down, rank * program.columns)):
        literal = program.literals[number]
        _expect(literal.dtype == "F32" and len(literal.bits) == length, "factors of another size")


def _check_factors(program: Program, step: Step, parent_bytes: Sequence[int]) -> None:
    *factors, rank = step.operands
    _expect(0 < rank <= MAX_RANK, f"factors of rank {rank}")
    for (parent, number, start), length in (
        (factors[:3], program.rows * rank),
        (factors[3:], rank * program.columns),
    ):
        _expect(parent < len(parent_bytes), "a parent that is not there")
        _expect(number < len(DTYPES) and DTYPES[number] in FACTOR_DTYPES, f"a factor of dtype {number}")
        elements = parent_bytes[parent] // (DTYPE_BITS[DTYPES[number]] // 8)
        _expect(start <= elements and length <= elements - start, "a factor behind the end of its parent")


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise CodecError(f"codec payload: {problem}")
