"""Makes `codecs-4.json`: what is predicted in ways that came after `codecs-3.json`, by the same codecs.

Wider tensors and scales as programs, changed texts as runs of bytes. Run once, `python
tests/golden/make_edits.py FILE`; the result is frozen and never made again.
"""

import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore.codecs import Encoded, TensorSpec, choose
from pbstore.codecs.choose import OPAQUE
from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import Parent
from pbstore.codecs.derive.search import search
from tests.pbstore.codecs.edits import int8, raw_of, weights

PARENT, TEXT = "x", "text"


def changed(text: bytes) -> list[bytes]:
    """A word put in, one taken out, one replaced, halves swapped."""
    half, third = len(text) // 2, len(text) // 3
    return [
        text[:third] + b'"newtoken":99999,' + text[third:],
        text[:third] + text[third + 40 :],
        text[:half] + b"other" + text[half + 5 :],
        text[half:] + text[:half],
    ]


def main() -> None:
    """Write blocks, payloads, and hashes of what each gives."""
    x = weights((16, 24))[0]
    text = "".join(f'"token{number}":{number},' for number in range(300)).encode()
    blocks = {PARENT: raw_of(x)[0], TEXT: text}
    made: list[tuple[bytes, Encoded]] = []
    parent = Parent(PARENT, *raw_of(x))
    for tensor in (
        torch.cat([x, x], 1),
        torch.cat([x, x], 1) / 2,
        torch.block_diag(x, x),
        x.repeat(2, 2).bfloat16(),
        x.repeat_interleave(2, 1),
        torch.nn.functional.pad(x, (0, 8)),
        int8(x.repeat(8, 1))[1],
    ):
        raw, spec = raw_of(tensor)
        base = parent if spec.shape[-1] > 1 else Parent("wide", *raw_of(x.repeat(8, 1)))
        blocks.setdefault(base.block_id, bytes(base.data))
        found = search(Case(memoryview(raw), spec), [base])
        made.append((raw, choose(raw, spec, derive=lambda _, found=found: found)))
    for new in changed(text):
        made.append((new, choose(new, None, [(TEXT, text, TensorSpec(OPAQUE, (len(text),)))])))
    payloads: list[dict[str, Any]] = [
        {
            "codec": encoded.codec,
            "needs": list(encoded.needs),
            "raw_bytes": len(raw),
            "payload": base64.b64encode(encoded.payload).decode(),
            "blake3": blake3(raw).hexdigest(),
        }
        for raw, encoded in made
    ]
    packed = {name: base64.b64encode(zlib.compress(raw, 9)).decode() for name, raw in blocks.items()}
    Path(sys.argv[1]).write_text(json.dumps({"blocks": packed, "payloads": payloads}, indent=1) + "\n")


if __name__ == "__main__":
    main()
