"""The smallest form of a block, found by trial on a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from pbstore.blocks import CAST, RAW, ZSTD
from pbstore.codecs.casts import cast_number
from pbstore.codecs.chunk import CHUNK_BYTES, UINT, Mode, Uints, encode_chunk, num_bytes
from pbstore.codecs.derive.choices import encode_choices
from pbstore.codecs.derive.draft import Parent, Proposal
from pbstore.codecs.derive.factors import Grouped, merged
from pbstore.codecs.edited import edited
from pbstore.codecs.grid import GRID, encode_grid, find_kind, fits_grid, write_grid
from pbstore.codecs.payload import DELTA, LORA, PLANES, ROWS, write_payload
from pbstore.codecs.predict import Lora, Prediction, Runs, Straight, dtype_number
from pbstore.codecs.rows import find_runs
from pbstore.codecs.scratch import TakeMemory, new_pages
from pbstore.codecs.streams import pack_stream
from pbstore.codecs.trial import TABLE_FROM_BYTES, Sample, best_mode, text_cost
from pbstore.codecs.types import BlockId, Buffer, Encoded, TensorSpec

MIN_GAIN = 0.03
"""A form that needs a base, or any form at all, must save this share of the bytes."""
_SMALL_BYTES = 64
_BASE_BYTES = 192
"""What an index and a pack know of a base takes about so much."""
OPAQUE = "U8"
"""Dtype of a candidate that is no tensor: a piece of a text that may have been changed."""
_CLEAR_COST = 0.05
_DERIVE_COST = 0.01
"""A form below this share of the bytes is not compared with derived ones."""
_NOISY_COST = 0.5
"""A difference that leaves more of the bytes is noise: no step of the coder makes it smaller."""
_OWN_SHARE = 0.9
"""A difference below this share of what its base takes on its own beats the block's own forms, too."""
_GRID_FROM_BYTES = 1 << 16
_GRID_TRIAL = 1 << 14
"""Elements that tell what a grid costs."""
_MOST_RUNS = 1 << 16
_SIMILAR_COST = 0.8
_FLOATS = frozenset({"F64", "F32", "BF16", "F16"})

NO_COSTS: Mapping[BlockId, float] = MappingProxyType({})
Derive: TypeAlias = Callable[[float], Sequence[Proposal]]
"""Programs that may predict a block, given the share of its bytes that the best other form leaves."""
Candidate = tuple[BlockId, Buffer, TensorSpec]
"""A stored tensor that might be the base: id, raw bytes, dtype and shape."""


@dataclass(frozen=True, slots=True)
class LoraCandidate:
    """A stored adapter that might have been merged into a stored weight: weight + scale * (up @ down)."""

    weight: Candidate
    down: Candidate
    up: Candidate
    scale: float
    group: Grouped | None = None
    """Where the factors lie if `down` and `up` are groups of tensors, and what their rank is."""


@dataclass(frozen=True, slots=True)
class _Option:
    codec: str
    cost: float
    mode: Mode
    prediction: Prediction | None = None
    needs: tuple[BlockId, ...] = ()
    grid: tuple[str, int] | None = None
    """Dtype and kind of the grid, for codec "grid"."""
    expected: Uints | None = None
    """Prediction of the sample, where it is at hand."""


def choose(
    raw: Buffer,
    spec: TensorSpec | None,
    candidates: Sequence[Candidate] = (),
    *,
    loras: Sequence[LoraCandidate] = (),
    derive: Derive = lambda _: (),
    own_costs: Mapping[BlockId, float] = NO_COSTS,
    thorough: bool = False,
    workers: int = 1,
    take: TakeMemory = new_pages,
) -> Encoded:
    """Encode a block in the form that is smallest on a sample; never larger than raw.

    Args:
        raw: The block's bytes.
        spec: Dtype and shape, None for opaque bytes.
        candidates: Tensors that may serve as bases, the likeliest first; the caller sees to it that those of
            the same dtype need no base themselves. Of opaque bytes, what they may be an edit of (`OPAQUE`).
        loras: Merged adapters to try.
        derive: Asked for programs to try where no base fits clearly.
        own_costs: Share of its bytes that a candidate takes in its smallest form without a base, where known.
            What is much like it takes about as much.
        thorough: Try the slow forms, too: `grid`, and elements ordered by their prediction for little gain.
        workers: Threads that share the chunks of one block.
        take: Where the payload's memory comes from.

    Raises:
        ValueError: If `spec` does not fit the number of bytes.
    """
    data = memoryview(raw).cast("B")
    if spec is not None and spec.num_bytes != len(data):
        raise ValueError(f"{spec} needs {spec.num_bytes} bytes, got {len(data)}")
    if len(data) < _SMALL_BYTES:
        return Encoded(RAW, bytes(data))
    if spec is None or spec.num_elements * spec.item_bytes != len(data):
        return _choose_opaque(data, candidates, workers, take, thorough=thorough)
    options = _options(data, spec, candidates, loras, derive, own_costs, thorough=thorough)
    best = min(options, key=lambda option: option.cost)
    return _write(data, best, workers, take)


def is_cast(raw: Buffer, spec: TensorSpec, base: Candidate) -> bool:
    """Whether a tensor is, bit for bit, a cast of a candidate."""
    _, base_raw, base_spec = base
    number = cast_number(base_spec.dtype, spec.dtype)
    if not number or base_spec.num_elements != spec.num_elements:
        return False
    straight = Straight(memoryview(base_raw).cast("B"), spec.item_bytes, number)
    values, step = np.frombuffer(raw, UINT[spec.item_bytes]), CHUNK_BYTES // spec.item_bytes
    ends = [(i, min(i + step, len(values))) for i in range(0, len(values), step)]
    return all(np.array_equal(values[begin:end], straight.elements(begin, end)) for begin, end in ends)


def _choose_opaque(
    data: memoryview, candidates: Sequence[Candidate], workers: int, take: TakeMemory, *, thorough: bool
) -> Encoded:
    text = _Option(ZSTD, text_cost(data), Mode())
    found = [text, *(_guessed(data, candidates, thorough) if len(data) >= TABLE_FROM_BYTES else ())]
    for block_id, base, spec in candidates:
        if spec.dtype == OPAQUE:
            found += _edited(data, block_id, memoryview(base).cast("B"), text.cost)
    return _write(data, min(found, key=lambda option: option.cost), workers, take)


def _edited(data: memoryview, block_id: BlockId, base: memoryview, limit: float) -> Iterable[_Option]:
    """Runs of other opaque bytes, if they are worth a base beside a form that leaves a share of the bytes."""
    runs = edited(data, base)
    if runs is None:
        return
    values, mode = np.frombuffer(data, np.uint8), Mode(item_bytes=1)
    coded = encode_chunk(values, runs.elements(0, len(values)), mode)
    cost = (len(runs.header()) + num_bytes(coded)) / len(values)
    if cost + _BASE_BYTES / len(values) < limit:
        yield _Option(ROWS, cost, mode, runs, (block_id,))


def _guessed(data: memoryview, candidates: Sequence[Candidate], thorough: bool) -> Iterable[_Option]:
    """Opaque bytes may still be floats: the storages of a pickle, the tensors of another format."""
    for dtype in ("F32", "BF16"):
        item = {"F32": 4, "BF16": 2}[dtype]
        if len(data) % item == 0:
            guess = TensorSpec(dtype, (len(data) // item,))
            same = [(i, d, guess) for i, d, s in candidates if s.dtype == dtype and len(d) == len(data)]
            yield from _options(data, guess, same, (), lambda _: (), NO_COSTS, thorough=thorough)


def _options(
    data: memoryview,
    spec: TensorSpec,
    candidates: Sequence[Candidate],
    loras: Sequence[LoraCandidate],
    derive: Derive,
    own_costs: Mapping[BlockId, float],
    *,
    thorough: bool,
) -> list[_Option]:
    sample = Sample(len(data) // spec.item_bytes, spec.item_bytes)
    values = sample.of(data)
    straight = _best_straight(values, sample, spec, candidates)
    based = [] if straight is None else [_tuned(straight, values, sample, spec, thorough=thorough)]
    if not based or based[0].cost > _CLEAR_COST:
        others = _other_predictions(data, spec, candidates, loras, straight)
        based += [_tuned(other, values, sample, spec, thorough=thorough) for other in others]
        based += [_derived(one, values, sample, spec, thorough=thorough) for one in _grouped(spec, loras)]
    least = min((option.cost for option in based), default=1.0)
    if least > _DERIVE_COST:
        based += [_derived(one, values, sample, spec, thorough=thorough) for one in derive(least)]
    best = min(based, key=lambda option: option.cost, default=None)
    if best is not None and best.cost <= max(_CLEAR_COST, _OWN_SHARE * _own_cost(best, own_costs)):
        return [best]
    alone = _alone(data, values, spec, rivals=best is not None, thorough=thorough)
    limit = (1 - MIN_GAIN) * min((option.cost for option in alone), default=1.0)
    return [*alone, *(option for option in based if option.cost <= min(limit, 1 - MIN_GAIN))] or alone


def _own_cost(option: _Option, own_costs: Mapping[BlockId, float]) -> float:
    """What the block would take without the base that an option needs, as far as its base tells; 0 if not."""
    return own_costs.get(option.needs[0], 0.0) if option.codec == DELTA else 0.0


def _alone(
    data: memoryview, values: Uints, spec: TensorSpec, *, rivals: bool, thorough: bool
) -> list[_Option]:
    """Forms without a base; the only form of all, without `rivals`, is not tried before it is written."""
    plain = Mode(item_bytes=spec.item_bytes, rotate=spec.dtype in _FLOATS)
    options = []
    if spec.dtype not in _FLOATS:
        options.append(_Option(ZSTD, text_cost(data), Mode()))
    elif thorough and fits_grid(spec) and len(data) >= _GRID_FROM_BYTES:
        kind = find_kind(values, spec.dtype)
        if kind is not None:
            some = values[:_GRID_TRIAL]
            cost = num_bytes(encode_grid(some, spec.dtype, kind)) / some.nbytes
            options.append(_Option(GRID, cost, plain, grid=(spec.dtype, kind)))
    untried = not rivals and not options
    cost = 0.0 if untried else num_bytes(encode_chunk(values, None, plain)) / values.nbytes
    return [*options, _Option(PLANES, cost, plain)]


def _best_straight(
    values: Uints, sample: Sample, spec: TensorSpec, candidates: Sequence[Candidate]
) -> _Option | None:
    """The candidate whose difference is smallest, in the plainest mode; a clear one ends the search."""
    plain = Mode(item_bytes=spec.item_bytes)
    best = None
    for block_id, base, base_spec in candidates:
        cast = cast_number(base_spec.dtype, spec.dtype)
        if cast is None:
            continue
        prediction = Straight(memoryview(base).cast("B"), spec.item_bytes, cast)
        expected = sample.predicted(prediction)
        cost = num_bytes(encode_chunk(values, expected, plain)) / values.nbytes
        if best is None or cost < best.cost:
            codec = CAST if cast else DELTA
            best = _Option(codec, cost, plain, prediction, (block_id,), expected=expected)
        if cost < _CLEAR_COST:
            break
    return best


def _tuned(option: _Option, values: Uints, sample: Sample, spec: TensorSpec, *, thorough: bool) -> _Option:
    """The option in its best mode."""
    expected = option.expected
    if expected is None and option.prediction is not None:
        expected = sample.predicted(option.prediction)
    if expected is None or np.array_equal(values, expected):
        return replace(option, cost=1 / max(1, values.nbytes))
    if _NOISY_COST < option.cost < math.inf:
        return replace(option, expected=None)
    mode, cost = best_mode(values, expected, spec, option.cost, thorough=thorough)
    return replace(option, mode=mode, cost=cost, expected=None)


def _derived(
    proposal: Proposal, values: Uints, sample: Sample, spec: TensorSpec, *, thorough: bool
) -> _Option:
    """A program as an option; what it takes itself counts, and what elements choose of its predictions."""
    derived = proposal.derived
    size = len(derived.header()) / spec.num_bytes
    expected = None
    if len(derived.kinds) > 1:
        parts, expected = encode_choices(values, sample.alternatives(derived))
        size += num_bytes(parts) / values.nbytes
    mode = Mode(item_bytes=spec.item_bytes)
    option = _Option(proposal.codec, math.inf, mode, derived, proposal.needs, expected=expected)
    option = _tuned(option, values, sample, spec, thorough=thorough)
    return replace(option, cost=option.cost + size)


def _other_predictions(
    data: memoryview,
    spec: TensorSpec,
    candidates: Sequence[Candidate],
    loras: Sequence[LoraCandidate],
    straight: _Option | None,
) -> Iterable[_Option]:
    """Worth a trial where no base fits clearly: a row map, merged adapters."""
    plain = Mode(item_bytes=spec.item_bytes)
    fits = straight is not None and straight.cost < _SIMILAR_COST
    same_size = fits and straight is not None and _base_bytes(straight) == spec.num_bytes
    if spec.row_bytes and not same_size:
        for codec, prediction, needs in _row_map(data, spec, candidates):
            yield _Option(codec, math.inf, plain, prediction, needs)
    for lora in loras:
        if lora.group is not None:
            continue  # a program: see `_options`
        merged = _lora(spec, lora)
        if merged is not None:
            yield _Option(LORA, math.inf, plain, merged, (lora.weight[0], lora.down[0], lora.up[0]))


def _base_bytes(option: _Option) -> int:
    return len(option.prediction.base) if isinstance(option.prediction, Straight) else -1


def _row_map(
    data: memoryview, spec: TensorSpec, candidates: Sequence[Candidate]
) -> Iterable[tuple[str, Prediction, tuple[BlockId, ...]]]:
    alike = [c for c in candidates if c[2].dtype == spec.dtype and c[2].row_bytes == spec.row_bytes]
    if not alike:
        return
    runs, share = find_runs(data, spec, [(memoryview(d).cast("B"), s) for _, d, s in alike])
    if share < MIN_GAIN or len(runs) > _MOST_RUNS:
        return
    used = sorted({int(base) for base in runs["base"] if base < len(alike)})
    renumber = np.full(len(alike) + 1, 0xFFFFFFFF, np.uint32)
    renumber[used] = np.arange(len(used))
    runs["base"] = renumber[np.minimum(runs["base"], len(alike))]
    bases = tuple(memoryview(alike[i][1]).cast("B") for i in used)
    yield ROWS, Runs(bases, spec.item_bytes, runs), tuple(alike[i][0] for i in used)


def _grouped(spec: TensorSpec, loras: Sequence[LoraCandidate]) -> Iterable[Proposal]:
    """Programs of merged adapters whose factors lie in groups."""
    for lora in loras:
        if lora.group is not None:
            weight, down, up = (Parent(i, raw, s) for i, raw, s in (lora.weight, lora.down, lora.up))
            proposal = merged(spec, weight, down, up, lora.scale, lora.group)
            if proposal is not None:
                yield proposal


def _lora(spec: TensorSpec, lora: LoraCandidate) -> Lora | None:
    parts = [lora.weight[2], lora.down[2], lora.up[2], spec]
    numbers = [dtype_number(part.dtype) for part in parts]
    if any(len(part.shape) != 2 for part in parts) or None in numbers:
        return None
    (rows, cols), rank = spec.shape, lora.down[2].shape[0]
    if [p.shape for p in parts[:3]] != [(rows, cols), (rank, cols), (rows, rank)]:
        return None
    a, b, c, d = (number or 0 for number in numbers)
    weight, down, up = (memoryview(part[1]).cast("B") for part in (lora.weight, lora.down, lora.up))
    return Lora(weight, down, up, rows, cols, rank, lora.scale, (a, b, c, d))


def _write(data: memoryview, option: _Option, workers: int, take: TakeMemory) -> Encoded:
    if option.cost > 1 - MIN_GAIN:
        return Encoded(RAW, bytes(data))
    if option.codec == ZSTD:
        payload: Buffer = b"".join(pack_stream(np.frombuffer(data, np.uint8), text=True))
    elif option.grid is not None:
        payload = write_grid(data, *option.grid, workers, take)
    else:
        payload = write_payload(data, option.mode, option.prediction, workers, take)
    if len(payload) > (1 - MIN_GAIN) * len(data):
        return Encoded(RAW, bytes(data))
    return Encoded(option.codec, payload, option.needs)
