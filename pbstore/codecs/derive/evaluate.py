"""A program and its parents to expected elements: any range of them, in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from pbstore.codecs.chunk import UINT, Uints
from pbstore.codecs.derive.grammar import (
    BINARY,
    DTYPES,
    LITERAL,
    Op,
    Program,
    Step,
    Term,
    check_program,
    read_program,
)
from pbstore.codecs.derive.narrow import INTEGERS, Array, cast, quiet, stack_type, truncate
from pbstore.codecs.types import DTYPE_BITS, CodecError

TILE = 1 << 17
"""Elements that are computed at a time."""
DERIVED = ("derive1", "derive2", "derive3")
"""Codecs by the number of parents, from one on."""
_ARITHMETIC = {Op.ADD: np.add, Op.SUB: np.subtract, Op.MUL: np.multiply, Op.DIV: np.divide}
_EXTREMES: tuple[Callable[[Array], Array], ...] = (
    lambda runs: np.abs(runs).max(axis=2),
    lambda runs: runs.max(axis=2),
    lambda runs: runs.min(axis=2),
)
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Rows [top, bottom) and columns [left, right) of the result."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True, slots=True)
class Derived:
    """A checked program over its parents; a `Prediction` where it predicts one thing.

    Attributes:
        program: What to compute.
        parents: Raw bytes of the blocks it works on.
        item_bytes: Bytes of an element of the result.
        kinds: Dtype of each prediction.
    """

    program: Program
    parents: tuple[memoryview, ...]
    item_bytes: int
    kinds: tuple[str, ...]

    @staticmethod
    def of(program: Program, parents: Sequence[memoryview], item_bytes: int) -> Derived:
        """A program, checked.

        Raises:
            CodecError: If it must not be run.
        """
        held = tuple(parents)
        kinds = check_program(program, [len(parent) for parent in held], item_bytes)
        return Derived(program, held, item_bytes, tuple(kinds))

    def header(self) -> bytes:
        """See `Prediction.header`."""
        return self.program.to_bytes()

    def elements(self, start: int, stop: int) -> Uints:
        """The first prediction of elements [start, stop)."""
        return self.alternatives(start, stop)[0]

    def alternatives(self, start: int, stop: int) -> list[Uints]:
        """All predictions of elements [start, stop), as bits."""
        out = [np.empty(stop - start, UINT[self.item_bytes]) for _ in self.kinds]
        done = 0
        for tile in self._tiles(start, stop):
            rows, columns = tile.shape
            for whole, part in zip(out, self._run(tile), strict=True):
                np.copyto(whole[done : done + rows * columns].reshape(rows, columns), part)
            done += rows * columns
        return out

    def _tiles(self, start: int, stop: int) -> Iterator[Rectangle]:
        """Rectangles that give the range in order."""
        columns = self.program.columns
        while start < stop:
            row, left = divmod(start, columns)
            if left or stop - start < columns or columns > TILE:
                right = min(columns, left + (stop - start), left + TILE)
                yield Rectangle(row, row + 1, left, right)
                start += right - left
            else:
                bottom = row + min((stop - start) // columns, max(1, TILE // columns))
                yield Rectangle(row, bottom, 0, columns)
                start += (bottom - row) * columns

    def _run(self, tile: Rectangle) -> list[Uints]:
        """All predictions of a rectangle."""
        align = lcm(*(step.operands[2] for step in self.program.steps if step.op is Op.KEEP_MOST))
        left, right = tile.left // align * align, -(-tile.right // align) * align
        wide = Rectangle(tile.top, tile.bottom, left, min(right, self.program.columns))
        stack: list[tuple[str, Array]] = []
        with np.errstate(all="ignore"):
            for step in self.program.steps:
                self._step(step, wide, stack)
        found = []
        for kind, values in stack:
            whole = np.broadcast_to(values, wide.shape)[:, tile.left - left : tile.right - left]
            bits = np.ascontiguousarray(whole)
            found.append(
                (quiet(bits) if kind in ("F32", "F64") and self._computes else bits).view(
                    UINT[self.item_bytes]
                )
            )
        return found

    @property
    def _computes(self) -> bool:
        """Whether any step is arithmetic: what was only loaded keeps its NaNs."""
        return any(step.op is not Op.LOAD for step in self.program.steps)

    def _step(self, step: Step, tile: Rectangle, stack: list[tuple[str, Array]]) -> None:
        op, operands = step.op, step.operands
        if op is Op.LOAD:
            stack.append((DTYPES[operands[1]], self._load(step, tile)))
        elif op is Op.EXTREME:
            stack.append(("F32", self._extreme(step, tile)))
        elif op is Op.CONST:
            kind = DTYPES[operands[0]]
            stack.append((kind, np.full((1, 1), operands[1], stack_type(kind))))
        elif op is Op.PICK:
            stack.append(stack[-1 - operands[0]])
        elif op in (Op.LOW_RANK, Op.FACTORS):
            stack.append(("F32", (self._factors if op is Op.FACTORS else self._low_rank)(step, tile)))
        elif op is Op.BUCKET:
            bounds = self._source(LITERAL + operands[0], "F32")
            stack.append(("U8", np.searchsorted(bounds, stack.pop()[1], side="left").astype(np.uint8)))
        elif op is Op.TABLE:
            kind = self.program.literals[operands[0]].dtype
            table = np.zeros(256, stack_type(kind))
            some = self._source(LITERAL + operands[0], kind)[:256]
            table[: len(some)] = some
            stack.append((kind, table[stack.pop()[1]]))
        elif op in BINARY:
            (kind, second), (_, first) = stack.pop(), stack.pop()
            stack.append((kind, _ARITHMETIC[op](first, second)))
        elif op is Op.PACK:
            (kind, high), (_, low) = stack.pop(), stack.pop()
            stack.append((kind, low | high << high.dtype.type(operands[0])))
        else:
            kind, values = stack.pop()
            stack.append(_changed(op, operands, kind, values, tile))

    def _source(self, number: int, kind: str) -> Array:
        if number >= LITERAL:
            return self.program.literals[number - LITERAL].bits.view(stack_type(kind))
        parent, item = self.parents[number], DTYPE_BITS[kind] // 8
        return np.frombuffer(parent[: len(parent) // item * item], stack_type(kind))

    def _load(self, step: Step, tile: Rectangle) -> Array:
        source = self._source(step.operands[0], DTYPES[step.operands[1]])
        rows = self._addresses(step.rows, tile.top, tile.bottom)
        columns = self._addresses(step.columns, tile.left, tile.right)
        return gather(source, (rows, columns))

    def _extreme(self, step: Step, tile: Rectangle) -> Array:
        """One value for each run; runs that several columns share are looked at once."""
        number, dtype, kind, run, stride = step.operands
        source = self._source(number, DTYPES[dtype])
        rows = self._addresses(step.rows, tile.top, tile.bottom)
        columns = self._addresses(step.columns, tile.left, tile.right)
        columns, place = np.unique(columns, return_inverse=True)
        runs = stride * np.arange(run, dtype=np.int64)
        values = np.empty((len(rows), len(columns)), np.float32)
        some = max(1, TILE // (run * len(columns)))
        for top in range(0, len(rows), some):
            found = gather(source, (rows[top : top + some], columns, runs))
            if DTYPES[dtype] != "F32":
                found = cast(np.ascontiguousarray(found), DTYPES[dtype], "F32")
            values[top : top + some] = _EXTREMES[kind](found)
        return values if len(columns) == 1 else values[:, place.reshape(-1)]

    def _addresses(self, term: Term, begin: int, end: int) -> Indices:
        """Addresses of some indices; a single one where all are the same."""
        if not term.step:
            return np.array([term.start], np.int64)
        index = np.arange(begin, end, dtype=np.int64) // term.block
        if term.literal is not None:
            literal = self.program.literals[term.literal]
            index = literal.bits.view(INTEGERS[literal.dtype])[index].astype(np.int64)
        return term.start + term.step * index

    def _low_rank(self, step: Step, tile: Rectangle) -> Array:
        up, down, rank = step.operands
        left = self.program.literals[up].bits.view(np.float32).reshape(-1, rank)[tile.top : tile.bottom]
        right = self.program.literals[down].bits.view(np.float32).reshape(rank, -1)[:, tile.left : tile.right]
        return _product(left, right)

    def _factors(self, step: Step, tile: Rectangle) -> Array:
        *factors, rank = step.operands
        columns = self.program.columns
        begin, end = (factors[2] + row * rank for row in (tile.top, tile.bottom))
        left = self._floats(factors[0], factors[1], begin, end).reshape(-1, rank)
        right = self._floats(factors[3], factors[4], factors[5], factors[5] + rank * columns)
        return _product(left, right.reshape(rank, columns)[:, tile.left : tile.right])

    def _floats(self, parent: int, number: int, begin: int, end: int) -> Array:
        """Elements of a parent as float32."""
        dtype = DTYPES[number]
        values = self._source(parent, dtype)[begin:end]
        return values if dtype == "F32" else cast(values, dtype, "F32")


def _product(left: Array, right: Array) -> Array:
    """Sum over k of left[:, k] * right[k], k ascending, rounded to float32 after each step."""
    total = np.zeros((len(left), right.shape[1]), np.float32)
    part = np.empty(total.shape, np.float32)
    for k in range(len(right)):
        np.multiply(left[:, k, None], right[None, k], out=part)
        total += part
    return total


def read_derived(
    payload: memoryview, position: int, item_bytes: int, parents: Sequence[memoryview], raw_bytes: int
) -> tuple[Derived, int]:
    """Read a program over some parents and check it; returns the position behind it, too."""
    program, position = read_program(payload, position, raw_bytes // item_bytes)
    return Derived.of(program, parents, item_bytes), position


def gather(source: Array, axes: Sequence[Indices]) -> Array:
    """Elements at the sums of one address of each axis; zero where the source has none."""
    low = sum(int(axis.min()) for axis in axes)
    high = sum(int(axis.max()) for axis in axes)
    inside = low >= 0 and high < len(source)
    steps = [_even_step(axis) for axis in axes]
    if inside and None not in steps:
        first = sum(int(axis[0]) for axis in axes)
        strides = tuple((step or 0) * source.itemsize for step in steps)
        return as_strided(source[first:], tuple(map(len, axes)), strides, writeable=False)
    index = np.zeros((1,) * len(axes), np.int64)
    for number, axis in enumerate(axes):
        index = index + axis.reshape([-1 if i == number else 1 for i in range(len(axes))])
    if inside:
        return source[index]
    known = (index >= 0) & (index < len(source))
    if not len(source):
        return np.zeros(index.shape, source.dtype)
    found: Array = np.where(known, source[np.where(known, index, 0)], source.dtype.type(0))
    return found


def _even_step(axis: Indices) -> int | None:
    """Distance of neighbours, None where it is not the same everywhere."""
    if len(axis) < 2:
        return 0
    step = int(axis[1]) - int(axis[0])
    return step if len(axis) == 2 or bool(np.all(np.diff(axis) == step)) else None


def _changed(
    op: Op, operands: tuple[Any, ...], kind: str, values: Array, tile: Rectangle
) -> tuple[str, Array]:
    """What a step makes of the top of the stack."""
    if op is Op.CAST:
        target = DTYPES[operands[0]]
        values = quiet(values) if target in ("F32", "F64") and kind in ("F32", "F64") else values
        return target, cast(values, kind, target)
    if op is Op.TRUNCATE:
        return "BF16", truncate(values)
    if op is Op.BITS:
        item = values.dtype.type
        return kind, values >> item(operands[0]) & item(operands[1] & np.iinfo(item).max)
    if op is Op.RINT:
        return kind, np.rint(values)
    if op is Op.FLOOR:
        return kind, np.floor(values)
    if op is Op.CLIP:
        low, high = (values.dtype.type(bound) for bound in operands)
        return kind, np.minimum(np.maximum(values, low), high)
    if op is Op.KEEP_LARGE:
        small = np.abs(values) < values.dtype.type(operands[1])
        return kind, _without(values, small, operands[0])
    if op is Op.KEEP_MOST:
        sign, n, m = operands
        groups = np.ascontiguousarray(np.broadcast_to(values, tile.shape)).reshape(-1, m)
        order = np.argsort(-np.abs(groups), axis=1, kind="stable")
        small = np.zeros(groups.shape, np.bool_)
        np.put_along_axis(small, order[:, n:], True, axis=1)
        return kind, _without(groups, small, sign).reshape(tile.shape)
    raise CodecError(f"codec payload: a step {op} that does nothing")


def _without(values: Array, marked: npt.NDArray[np.bool_], sign: int) -> Array:
    """Zero where it is marked, with the sign of what was there if `sign` is 1."""
    zero = np.copysign(values.dtype.type(0), values) if sign else values.dtype.type(0)
    return np.where(marked, zero, values)
