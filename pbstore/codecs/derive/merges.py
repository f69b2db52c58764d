"""Merges: averages, interpolations, task arithmetic, and what TIES and DARE leave of one.

Factors are fitted to a sample; which order of operations was taken is found by trying the usual ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import (
    F64,
    Parent,
    Proposal,
    Steps,
    add,
    after,
    const,
    div,
    floats,
    fused,
    mul,
    narrow,
    propose,
    straight,
    sub,
    to_dtype,
    wide,
)
from pbstore.codecs.derive.grammar import Op
from pbstore.codecs.types import TensorSpec

_NOISE = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
"""Half of a step between neighbours, as part of a weight."""
_FITS = 0.02
"""Part of a difference, beyond what rounding explains, that factors may leave."""
_LOW = ("BF16", "F16")
_EXACT = 0.25
"""Part of a sample that a merge must give exactly."""
_MASKED = 0.5
_NUDGES = 24
"""Neighbours of a weight on either side that are tried."""


def merged(case: Case, first: Parent, others: Sequence[Parent]) -> Proposal | None:
    """The tensor as a merge of a parent with one or two of some others, None if it is none."""
    dtype = case.spec.dtype
    if dtype not in _NOISE or first.spec.dtype not in _NOISE:
        return None
    values, base = case.floats, case.of(first)
    with np.errstate(all="ignore"):
        moved = values - base
        noise = float(np.sum((_NOISE[dtype] * values) ** 2)) * 1.5
        known = [(other, case.of(other) - base) for other in others if other.spec.dtype in _NOISE]
    known = [(other, step) for other, step in known if np.any(step) and np.all(np.isfinite(step))]
    if not known or not np.all(np.isfinite(moved)):
        return None
    for count in (1, 2):
        for some in _nearest(moved, known, count, noise):
            found = case.best(_sums(case, first, some, moved), _EXACT)
            if found is not None:
                return found
    masked = (one for other, step in known for one in _masked(case, first, other, moved, step))
    return case.best(masked, _MASKED)


def _nearest(
    moved: F64, known: Sequence[tuple[Parent, F64]], count: int, noise: float
) -> Iterator[list[tuple[Parent, F64]]]:
    """Sets of so many others that explain the difference to the first parent, the best one first."""
    total = float(moved @ moved)
    found = []
    for some in combinations(known, count):
        steps = np.stack([step for _, step in some], axis=1)
        factors, *_ = np.linalg.lstsq(steps, moved, rcond=None)
        rest = moved - steps @ factors
        found.append((float(rest @ rest), list(some)))
    for rest_size, chosen in sorted(found, key=lambda item: item[0])[:2]:
        if rest_size <= _FITS * total + 4 * noise and rest_size < 0.9 * total:
            yield chosen


def _sums(case: Case, first: Parent, others: Sequence[tuple[Parent, F64]], moved: F64) -> Iterator[Proposal]:
    """Weighted sums of two or three parents, in the usual orders of operations."""
    base = case.of(first)
    steps = np.stack([base, *(step for _, step in others)], axis=1)
    fitted, *_ = np.linalg.lstsq(steps, base + moved, rcond=None)
    constrained, *_ = np.linalg.lstsq(steps[:, 1:], moved, rcond=None)
    parents = [first, *(other for other, _ in others)]
    for factors in _round_factors(constrained.astype(np.float64)):
        yield from _orders(case.spec, parents, factors)
    yield from _free(case, parents, fitted.astype(np.float64))


def _round_factors(factors: F64) -> Iterator[list[float]]:
    """Factors as people write them, near those that were fitted."""
    seen = set()
    for rounded in ([_round(f, digits) for f in factors] for digits in (1, 2, 3, 4)):
        key = tuple(rounded)
        if key not in seen and np.allclose(rounded, factors, atol=0.02):
            seen.add(key)
            yield rounded
    thirds = [round(f * 12) / 12 for f in factors]
    if tuple(thirds) not in seen and np.allclose(thirds, factors, atol=0.01):
        yield thirds
    yield [float(f) for f in factors]


def _round(value: float, digits: int) -> float:
    return float(round(value, digits))


def _orders(spec: TensorSpec, parents: Sequence[Parent], factors: Sequence[float]) -> Iterator[Proposal]:
    """Sums over the first parent, as differences to it and as weighted means."""
    loaded = [floats(number, parent, spec) for number, parent in enumerate(parents)]
    yield from _full_orders(spec, parents, loaded, factors)
    if spec.dtype in _LOW:
        low = [_low(one, spec.dtype) for one in loaded]
        weights = [1 - sum(factors), *factors]
        gap = _low(sub(low[1], low[0]), spec.dtype)
        products = [_low(mul(one, const(w)), spec.dtype) for one, w in zip(low, weights, strict=True)]
        for steps in (
            _weighted(low, weights),
            _summed(products),
            mul(_low(_summed(low), spec.dtype), const(factors[0])),
            add(low[0], _low(mul(gap, const(factors[0])), spec.dtype)),
            _along(low[0], low[1:], factors),
        ):
            yield from _finished(spec, parents, steps)


def _low(steps: Steps, dtype: str) -> Steps:
    """Rounded to a dtype, as each step is that is computed in it."""
    return to_dtype(to_dtype(steps, "F32", dtype), dtype, "F32")


def _summed(terms: Sequence[Steps]) -> Steps:
    """The sum, from the left."""
    total = terms[0]
    for one in terms[1:]:
        total = add(total, one)
    return total


def _full_orders(
    spec: TensorSpec, parents: Sequence[Parent], loaded: Sequence[Steps], factors: Sequence[float]
) -> Iterator[Proposal]:
    """Orders of operations in float32, or float64."""
    base, others = loaded[0], loaded[1:]
    weights = [1 - sum(factors), *factors]
    found = [_weighted(loaded, weights), _along(base, others, factors), _fused_means(loaded, weights)]
    if np.ptp(weights) < 1e-9:
        count = const(len(loaded))
        found += [div(_summed(loaded), count), _summed([div(one, count) for one in loaded])]
    if len(others) == 1:
        t, gap = factors[0], sub(others[0], base)
        found += [
            fused(const(t), gap, base),
            fused(const(t - 1), gap, others[0]),
            sub(others[0], mul(gap, const(1 - t))),
            fused(const(weights[0]), base, mul(const(t), others[0])),
        ]
    else:
        found += [_one_by_one(base, others, factors), _gathered(base, others, factors)]
        if abs(sum(factors) - 1) < 1e-9:  # a mean of the others: the first parent is none of them
            yield from _full_orders(
                spec, parents[1:], [floats(i, p, spec) for i, p in enumerate(parents[1:])], factors[1:]
            )
    found.append(narrow(_weighted([wide(one) for one in loaded], weights, "F64")))
    for steps in found:
        yield from _finished(spec, parents, steps)


def _finished(spec: TensorSpec, parents: Sequence[Parent], steps: Steps) -> Iterator[Proposal]:
    yield propose(spec, parents, to_dtype(steps, "F32", spec.dtype))


def _weighted(loaded: Sequence[Steps], weights: Sequence[float], dtype: str = "F32") -> Steps:
    """w0 * x0 + w1 * x1 + ..., from the left; what has no weight is left out."""
    total: Steps = ()
    for one, weight in zip(loaded, weights, strict=True):
        if weight:
            term = mul(one, const(weight, dtype))
            total = add(total, term) if total else term
    return total or mul(loaded[0], const(0, dtype))


def _fused_means(loaded: Sequence[Steps], weights: Sequence[float]) -> Steps:
    """The same, each product added without being rounded."""
    total = mul(loaded[0], const(weights[0]))
    for one, weight in zip(loaded[1:], weights[1:], strict=True):
        total = fused(const(weight), one, total)
    return total


def _along(base: Steps, others: Sequence[Steps], factors: Sequence[float]) -> Steps:
    """Multiples of differences, summed and added: x0 + (t1 * (x1 - x0) + t2 * (x2 - x0))."""
    total: Steps = ()
    for one, factor in zip(others, factors, strict=True):
        term = mul(sub(one, base), const(factor))
        total = add(total, term) if total else term
    return add(base, total)


def _one_by_one(base: Steps, others: Sequence[Steps], factors: Sequence[float]) -> Steps:
    """The same, added one by one: (x0 + t1 * (x1 - x0)) + t2 * (x2 - x0)."""
    total = base
    for one, factor in zip(others, factors, strict=True):
        total = add(total, mul(sub(one, base), const(factor)))
    return total


def _gathered(base: Steps, others: Sequence[Steps], factors: Sequence[float]) -> Steps:
    """The same with one factor: x0 + t * ((x1 - x0) + (x2 - x0))."""
    total = sub(others[0], base)
    for one in others[1:]:
        total = add(total, sub(one, base))
    return add(base, mul(total, const(factors[0])))


def _free(case: Case, parents: Sequence[Parent], fitted: F64) -> Iterator[Proposal]:
    """Weights that need not sum to one, as spherical interpolation has them."""
    loaded = [floats(number, parent, case.spec) for number, parent in enumerate(parents)]
    weights = [float(fitted[0] - fitted[1:].sum()), *map(float, fitted[1:])]
    if len(parents) == 2:
        sharp = _sharpened(case, parents, weights)
        yield from _finished(case.spec, parents, _weighted(loaded, sharp))
        yield from _finished(case.spec, parents, _fused_means(loaded, sharp))
    yield from _finished(case.spec, parents, _weighted(loaded, weights))
    yield from _finished(case.spec, parents, narrow(_weighted([wide(x) for x in loaded], weights, "F64")))


def _sharpened(case: Case, parents: Sequence[Parent], weights: Sequence[float]) -> list[float]:
    """Of two weights and their neighbours in float32, those that give most of the sample exactly.

    How all is rounded follows from their sum, which is fitted best; each of them is less well known.
    """
    first, second = (case.of(parent).astype(np.float32) for parent in parents)
    target, total = case.floats.astype(np.float32), sum(weights)
    middle, most, best = np.float32(weights[1]), -1, list(weights)
    for nudge in range(-_NUDGES, _NUDGES + 1):
        other = middle + np.float32(nudge) * np.spacing(middle)
        part = other * second
        base = np.float32(total - float(other))
        for one in (base, base + np.spacing(base), base - np.spacing(base)):
            right = int(np.count_nonzero(one * first + part == target))
            if right > most:
                most, best = right, [float(one), float(other)]
    return best


def _masked(case: Case, first: Parent, other: Parent, moved: F64, step: F64) -> Iterator[Proposal]:
    """The first parent, and elsewhere the first parent and a multiple of its difference to another one."""
    spec = case.spec
    clear = (np.abs(moved) > 8 * _NOISE[spec.dtype] * np.abs(case.floats)) & (step != 0)
    if np.count_nonzero(clear) < 0.005 * len(moved) or np.count_nonzero(clear) < 16:
        return
    ratio = moved[clear] / step[clear]
    factor = float(np.median(ratio))
    if np.mean(np.abs(ratio - factor) < 0.02 * abs(factor) + 1e-9) < 0.8:
        return
    base, end = floats(0, first, spec), floats(1, other, spec)
    plain = to_dtype(straight(0, first, spec), first.spec.dtype, spec.dtype)
    kept, dropped = np.abs(step[clear]), np.abs(step[~clear])
    for rounded in _round_factors(np.array([factor])):
        t = rounded[0]
        gap = sub(end, base)
        if dropped.max(initial=0) < kept.min():
            large = after(gap, Op.KEEP_LARGE, 0, _limit(case, first, other, kept.min()))
            along = add(base, mul(large, const(t))) if t != 1 else add(base, large)
            yield from _finished(spec, (first, other), along)
        along = add(base, mul(gap, const(t))) if t != 1 else add(base, gap)
        ends = [along, fused(const(t), gap, base)]
        if t == 1:
            ends.insert(0, end)
        for one in ends:
            yield propose(spec, (first, other), plain, to_dtype(one, "F32", spec.dtype))


def _limit(case: Case, first: Parent, other: Parent, kept: float) -> float:
    """The least magnitude of a difference that is kept anywhere, near the least one of the sample."""
    if {first.spec.dtype, other.spec.dtype, case.spec.dtype} != {"F32"}:
        return kept
    before, after_it = first.bits.view(np.float32), other.bits.view(np.float32)
    with np.errstate(all="ignore"):
        gap = np.abs(after_it - before)
        changed = gap[case.bits != first.bits]
    near = changed[changed > np.float32(0.9 * kept)] if len(changed) else changed
    below = np.count_nonzero(changed <= np.float32(0.9 * kept))
    return float(near.min()) if len(near) and below < 0.01 * len(changed) else kept
