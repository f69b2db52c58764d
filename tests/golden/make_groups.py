"""Makes `codecs-5.json`: merged adapters whose factors lie in groups of tensors, the step FACTORS.

Run once, `python tests/golden/make_groups.py FILE`; the result is frozen and never made again.
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

from pbstore.codecs import choose
from pbstore.codecs.choose import LoraCandidate
from pbstore.codecs.derive.factors import Grouped
from pbstore.codecs.types import TensorSpec
from tests.pbstore.codecs.edits import raw_of, weights


def main() -> None:
    """Write blocks, payloads, and hashes of what each gives."""
    weight, *_ = weights((24, 32))
    _, down, front = weights((4, 32))
    _, up, _ = weights((24, 4))
    merged = weight + 2 * (up @ down)
    blocks: dict[str, bytes] = {"weight": raw_of(weight)[0]}
    payloads: list[dict[str, Any]] = []
    for name, dtype in (("wide", torch.float32), ("half", torch.bfloat16)):
        parts = [raw_of(part.to(dtype))[0] for part in (front, down, up)]
        kind = raw_of(front.to(dtype))[1].dtype
        blocks[name], blocks[f"{name}-up"] = b"".join(parts), parts[0] + parts[2]
        for up_name, at in ((name, len(parts[0]) + len(parts[1])), (f"{name}-up", len(parts[0]))):
            group = [
                (one, blocks[one], TensorSpec(kind, (len(blocks[one]) // dtype.itemsize,)))
                for one in (name, up_name)
            ]
            for target in (merged, merged.bfloat16()):
                raw, spec = raw_of(target)
                lora = LoraCandidate(("weight", *raw_of(weight)), *group, 2.0, Grouped(len(parts[0]), at, 4))
                encoded = choose(raw, spec, [lora.weight], loras=[lora])
                payloads.append(
                    {
                        "codec": encoded.codec,
                        "needs": list(encoded.needs),
                        "raw_bytes": len(raw),
                        "payload": base64.b64encode(encoded.payload).decode(),
                        "blake3": blake3(raw).hexdigest(),
                    }
                )
    packed = {name: base64.b64encode(zlib.compress(raw, 9)).decode() for name, raw in blocks.items()}
    Path(sys.argv[1]).write_text(json.dumps({"blocks": packed, "payloads": payloads}, indent=1) + "\n")


if __name__ == "__main__":
    main()
