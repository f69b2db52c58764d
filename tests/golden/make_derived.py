"""Makes `codecs-3.json`: one payload or more for every step of a program.

Run once, `python tests/golden/make_derived.py FILE`; the result is frozen and never made again.
"""

import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore.codecs.chunk import Mode
from pbstore.codecs.derive.evaluate import DERIVED, Derived
from pbstore.codecs.derive.grammar import DTYPES, LITERAL, Literal, Op, Program, Step, Term
from pbstore.codecs.payload import write_payload

ROWS, COLUMNS = 24, 64
F32, F64, BF16, F16, U8 = (DTYPES.index(name) for name in ("F32", "F64", "BF16", "F16", "U8"))
FLAT = (Term(0, COLUMNS), Term(0, 1))
X, Y, Z = (Step(Op.LOAD, (number, F32), *FLAT) for number in range(3))
ADD, SUB, MUL, DIV, RINT = (Step(op) for op in (Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.RINT))


def const(value: float, dtype: int = F32) -> Step:
    """One number."""
    return Step(Op.CONST, (dtype, float(np.float32(value)) if dtype == F32 else value))


def cast(dtype: int) -> Step:
    """To another dtype."""
    return Step(Op.CAST, (dtype,))


def ints(values: list[int]) -> Literal:
    """A list of addresses."""
    return Literal("U32", np.array(values, np.uint32))


def floats(values: np.ndarray) -> Literal:
    """Numbers."""
    return Literal("F32", values.astype(np.float32).reshape(-1).view(np.uint32))


def programs(rng: np.random.Generator) -> list[tuple[Program, int, int]]:
    """Programs with the number of their parents and the bytes of an element of what they give."""

    def program(
        *steps: Step, literals: tuple[Literal, ...] = (), of: int = 1, predictions: int = 1, item: int = 4
    ) -> tuple[Program, int, int]:
        return Program(ROWS, COLUMNS, steps, literals, predictions), of, item

    top = Step(Op.EXTREME, (0, F32, 0, COLUMNS, 1), Term(0, COLUMNS), Term())
    runs = [Step(Op.EXTREME, (0, F32, kind, 16, 1), Term(0, COLUMNS), Term(0, 16, 16)) for kind in (1, 2)]
    q = (X, top, const(127), DIV, DIV, RINT, Step(Op.CLIP, (-128.0, 127.0)))
    low, high = (
        (
            Step(Op.LOAD, (0, F32), Term(0, COLUMNS), Term(start, 2)),
            const(20),
            MUL,
            Step(Op.FLOOR),
            const(8),
            ADD,
        )
        for start in (0, 1)
    )
    factors = tuple(floats(rng.normal(0, 0.02, shape)) for shape in ((ROWS, 3), (3, COLUMNS)))
    near_one = floats(rng.normal(1, 0.1, COLUMNS))
    codes = floats(np.linspace(-0.1, 0.1, 15))
    return [
        program(X, const(0.5), MUL, Y, const(0.5), MUL, ADD, of=2),
        program(X, Y, X, SUB, const(0.3), MUL, ADD, cast(BF16), of=2, item=2),
        program(const(0.7), cast(F64), X, cast(F64), MUL, Y, cast(F64), ADD, cast(F32), of=2),
        program(X, Y, X, SUB, Z, X, SUB, ADD, const(0.4), MUL, ADD, of=3),
        program(X, Y, X, SUB, Step(Op.KEEP_LARGE, (0, 0.002)), ADD, of=2),
        program(X, X, Y, X, SUB, const(5), MUL, ADD, of=2, predictions=2),
        program(X, X, const(0), MUL, Y, predictions=3, of=2),
        program(X, Step(Op.KEEP_MOST, (1, 2, 4))),
        program(X, Step(Op.TRUNCATE), item=2),
        program(X, cast(F16), cast(F32)),
        program(X, cast(F64), item=8),
        *(program(X, cast(DTYPES.index(name)), item=1) for name in ("F8_E4M3", "F8_E5M2")),
        program(*q, cast(DTYPES.index("I8")), item=1),
        program(*q, top, const(127), DIV, MUL),
        program(X, runs[1], SUB, runs[0], runs[1], SUB, DIV, cast(F16), item=2),
        program(*low, cast(U8), *high, cast(U8), Step(Op.PACK, (4,)), item=1),
        program(X, const(1000), MUL, cast(DTYPES.index("U16")), Step(Op.BITS, (3, 0x1FF)), item=2),
        program(X, Step(Op.LOAD, (LITERAL, F32), Term(), Term(0, 1)), MUL, literals=(near_one,)),
        program(Step(Op.LOAD, (0, F32), Term(0, 1), Term(-3, ROWS))),
        program(
            Step(Op.LOAD, (0, F32), Term(0, COLUMNS, 1, 0), Term(0, 1, 1, 1)),
            literals=(ints(rng.permutation(ROWS).tolist()), ints(rng.permutation(COLUMNS).tolist())),
        ),
        program(X, Step(Op.LOW_RANK, (0, 1, 3)), ADD, literals=factors),
        program(X, Step(Op.BUCKET, (0,)), Step(Op.TABLE, (0,)), literals=(codes,)),
        program(X, Step(Op.PICK, (0,)), MUL),
    ]  # fmt: skip


def main() -> None:
    """Write blocks, payloads, and hashes of what each gives and of its program."""
    rng = np.random.default_rng(18)
    base = rng.normal(0, 0.05, ROWS * COLUMNS)
    blocks = {
        name: (base + rng.normal(0, 0.003, base.size)).astype(np.float32).tobytes()
        for name in ("x", "y", "z")
    }
    payloads: list[dict[str, Any]] = []
    for program, count, item in programs(rng):
        needs = list(blocks)[:count]
        derived = Derived.of(program, [memoryview(blocks[name]) for name in needs], item)
        alternatives = derived.alternatives(0, ROWS * COLUMNS)
        chosen = rng.integers(0, len(alternatives), ROWS * COLUMNS)
        raw = np.choose(chosen, alternatives).astype(alternatives[0].dtype)
        raw[::97] += np.array(3, raw.dtype)
        for mode in (Mode(item_bytes=item), Mode(item_bytes=item, mask=True)):
            payload = write_payload(memoryview(raw.tobytes()), mode, derived)
            payloads.append(
                {
                    "codec": DERIVED[count - 1],
                    "needs": needs,
                    "raw_bytes": raw.nbytes,
                    "payload": base64.b64encode(payload).decode(),
                    "blake3": blake3(raw.tobytes()).hexdigest(),
                    "program": blake3(program.to_bytes()).hexdigest(),
                }
            )
    packed = {name: base64.b64encode(zlib.compress(raw, 9)).decode() for name, raw in blocks.items()}
    Path(sys.argv[1]).write_text(json.dumps({"blocks": packed, "payloads": payloads}, indent=1) + "\n")


if __name__ == "__main__":
    main()
