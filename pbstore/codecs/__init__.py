"""Forms in which a block can be stored: bytes to bytes, pure, numpy and zstandard only.

    raw     the bytes themselves
    zstd    one zstd frame (text and other opaque bytes)
    planes  byte planes of a tensor, the exponent in a plane of its own
    delta   difference of the bit patterns to one base of the same dtype
    cast    the same to an exact cast of the base (a bf16 copy of a fp32 tensor leaves a few bytes)
    recast  the same as cast, where the base has a base itself
    rows    the same to rows copied from one or more bases (inserted, moved, fused rows)
    grid    scale * q + offset for each run of 32 weights: floats that were once quantised
    lora    the same to W + scale * (B @ A), a merged adapter
    derive1 the same to what a small program makes of one stored tensor, or (derive2, derive3) of more:
            merges, pruned, scaled, quantised, transposed weights; see `derive`

`choose` finds the smallest form by trial on a sample and never expands; `decode` gives back exactly the
number of bytes that the caller asks for, or raises `CodecError`. `SketchIndex` finds the stored tensors most
like a new one by content. Whoever calls keeps bases free of bases of their own, but for those of a `recast`
and of derived blocks, and checks the hash of what was decoded.
"""

from pbstore.codecs.choose import Candidate, LoraCandidate, choose
from pbstore.codecs.decode import CODECS, LAZY, decode, decode_in_parts, lazy_base
from pbstore.codecs.sketch import MAX_HITS, Sketch, SketchIndex, distance, rank, sketch
from pbstore.codecs.types import CodecError, Encoded, TensorSpec

__all__ = [
    "CODECS",
    "LAZY",
    "MAX_HITS",
    "Candidate",
    "CodecError",
    "Encoded",
    "LoraCandidate",
    "Sketch",
    "SketchIndex",
    "TensorSpec",
    "choose",
    "decode",
    "decode_in_parts",
    "distance",
    "lazy_base",
    "rank",
    "sketch",
]
