"""Which programs are worth a trial for a tensor: cheap looks at a sample, commoner edits first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import FLOAT_DTYPES, Parent, Proposal
from pbstore.codecs.derive.factors import low_rank
from pbstore.codecs.derive.grown import grown
from pbstore.codecs.derive.joined import joined
from pbstore.codecs.derive.masks import pruned
from pbstore.codecs.derive.merges import merged
from pbstore.codecs.derive.moved import moved, transposed
from pbstore.codecs.derive.numbers import recast, scaled
from pbstore.codecs.derive.quantised import dequantised, quantised, scales

MIN_ELEMENTS = 64
CLEAR = 0.999
"""Part of a sample that no other program need be tried to beat."""
_MOST = 2
_ALONE = (recast, pruned, scaled, dequantised)
"""One parent with as many floats, element by element."""


Others: TypeAlias = Callable[[Parent], Sequence[Parent]]
"""Tensors that a parent may have been merged with; they are read when they are asked for."""


def search(case: Case, parents: Sequence[Parent], others: Others = lambda _: ()) -> list[Proposal]:
    """Programs that give much of a tensor, the best one first.

    Args:
        case: The tensor.
        parents: Tensors it may be made of, the likeliest first.
        others: Tensors that the first parent of the tensor's size may have been merged with.
    """
    if case.spec.num_elements < MIN_ELEMENTS:
        return []
    found: list[Proposal] = []
    for proposal in _looks(case, parents, others):
        if proposal is not None:
            found.append(proposal)
            if case.shares[proposal] > CLEAR:
                break
    return sorted(found, key=lambda one: -case.shares[one])[:_MOST]


def _looks(case: Case, parents: Sequence[Parent], others: Others) -> Iterator[Proposal | None]:
    same = [parent for parent in case.alike(parents) if parent.spec.shape == case.spec.shape]
    floats = case.spec.dtype in FLOAT_DTYPES
    if floats:
        yield from (look(case, parent) for parent in same[:2] for look in _ALONE)
    alike = [parent for parent in same if floats and case.follows(parent)]
    if alike:
        yield merged(
            case, alike[0], [*(one for one in same if one is not alike[0]), *case.alike(others(alike[0]))]
        )
        yield low_rank(case, alike[0])
    else:
        yield joined(case, parents)
    for parent in parents[:4]:
        elsewhere = () if parent in alike else (transposed, moved, grown)
        yield from (look(case, parent) for look in (quantised, scales, *elsewhere))
