"""Makes `codecs-2.json`: one payload for each way of coding that came after `codecs.json`.

Run once, `python tests/golden/make_codecs.py FILE`; the result is frozen and never made again.
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

from pbstore.codecs.casts import f32_to_bf16
from pbstore.codecs.chunk import Mode
from pbstore.codecs.grid import AFFINE, RUN, SYMMETRIC, write_grid
from pbstore.codecs.payload import CAST, DELTA, PLANES, write_payload
from pbstore.codecs.predict import Prediction, Straight
from pbstore.codecs.trial import fit_table

ELEMENTS = 4608
Item = tuple[str, bytes, bytes, list[str]]


def deltas(rng: np.random.Generator, base: np.ndarray, half: np.ndarray) -> list[Item]:
    """Differences in every mode; most of their high bytes are equal, so that streams are masked."""
    near = base.view(np.uint32) + rng.integers(0, 1 << 17, ELEMENTS, dtype=np.uint32) - np.uint32(1 << 16)
    near[rng.random(ELEMENTS) < 0.3] = base.view(np.uint32)[:1]
    some = base.view(np.uint32).copy()
    some[::9] -= np.uint32(77)
    decayed = (base * np.float32(1 - 2e-5)).view(np.uint32)
    table = fit_table(decayed, base.view(np.uint32))
    tuned = half + rng.integers(-3, 4, ELEMENTS).astype(np.uint16)
    modes = [
        (near, Mode(item_bytes=4), "base"),
        (near, Mode(item_bytes=4, context_shift=23), "base"),
        (some, Mode(item_bytes=4, mask=True), "base"),
        (decayed, Mode(item_bytes=4, table=table), "base"),
        (decayed, Mode(item_bytes=4, table=table, mask=True, context_shift=23), "base"),
        (tuned, Mode(item_bytes=2), "half"),
        (tuned, Mode(item_bytes=2, context_shift=7), "half"),
    ]
    blocks = {"base": base.tobytes(), "half": half.tobytes()}
    found = [
        coded(DELTA, raw, mode, Straight(memoryview(blocks[need]), mode.item_bytes), [need])
        for raw, mode, need in modes
    ]
    cast = Straight(memoryview(blocks["base"]), 2, cast=1)
    return [
        *found,
        coded(CAST, tuned, Mode(item_bytes=2), cast, ["base"]),
        coded(PLANES, near, Mode(item_bytes=4, rotate=True), None, []),
    ]


def coded(codec: str, raw: np.ndarray, mode: Mode, prediction: Prediction | None, needs: list[str]) -> Item:
    """A numeric payload."""
    data = raw.tobytes()
    return codec, bytes(write_payload(memoryview(data), mode, prediction)), data, needs


def grids(rng: np.random.Generator) -> list[Item]:
    """Weights on a grid: scales that fit float16 and that do not, both kinds of grid, an inexact one."""
    q = rng.integers(0, 16, (ELEMENTS // RUN, RUN))
    q[:, :2] = 0, 15
    signed = rng.integers(-127, 128, q.shape)
    signed[:, :2] = -127, 127
    scale = rng.uniform(0.001, 0.01, (len(q), 1)).astype(np.float16).astype(np.float32)
    affine = q.astype(np.float32) * scale - np.float32(7) * scale
    symmetric = signed.astype(np.float32) * scale
    found = [
        ("BF16", AFFINE, f32_to_bf16(affine.reshape(-1).view(np.uint32))),
        ("F16", SYMMETRIC, symmetric.astype(np.float16)),
        ("F32", AFFINE, (affine * np.float32(1e6)).astype(np.float32)),
        ("F32", SYMMETRIC, rng.normal(0, 1, q.shape).astype(np.float32)),
    ]
    return [
        ("grid", bytes(write_grid(memoryview(raw.tobytes()), dtype, kind)), raw.tobytes(), [])
        for dtype, kind, raw in found
    ]


def main() -> None:
    """Write blocks, payloads and the hash of what each gives."""
    rng = np.random.default_rng(8)
    base = rng.normal(0, 0.05, ELEMENTS).astype(np.float32)
    half = f32_to_bf16(base.view(np.uint32))
    tree: dict[str, Any] = {
        "blocks": {
            name: base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()
            for name, array in (("base", base), ("half", half))
        },
        "payloads": [
            {
                "codec": codec,
                "needs": needs,
                "raw_bytes": len(raw),
                "payload": base64.b64encode(payload).decode(),
                "blake3": blake3(raw).hexdigest(),
            }
            for codec, payload, raw, needs in [*deltas(rng, base, half), *grids(rng)]
        ],
    }
    Path(sys.argv[1]).write_text(json.dumps(tree, indent=1) + "\n")


if __name__ == "__main__":
    main()
