"""What search knows of the tensor that it explains: a few of its elements."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from pbstore.codecs.chunk import UINT, Uints
from pbstore.codecs.derive.draft import F64, FLOAT_DTYPES, Parent, Proposal, as_floats
from pbstore.codecs.types import TensorSpec

_ALIKE = 0.8
_RUNS, _RUN = 12, 128
"""Runs of neighbours that are looked at, and their length."""


class Case:
    """A tensor and a sample of it; runs start at multiples of 128, so that groups of neighbours are whole."""

    def __init__(self, data: memoryview, spec: TensorSpec) -> None:
        self.data, self.spec = data, spec
        self.bits: Uints = np.frombuffer(data, UINT[spec.item_bytes])
        last = max(0, len(self.bits) - _RUN)
        starts = sorted({last * i // (_RUNS - 1) // _RUN * _RUN for i in range(_RUNS)})
        self.shares: dict[Proposal, float] = {}
        """Of the programs that were found."""
        self.runs = [(start, min(start + _RUN, len(self.bits))) for start in starts]

    @cached_property
    def some(self) -> Uints:
        """The sample."""
        return self.taken(self.bits)

    @cached_property
    def floats(self) -> F64:
        """The sample as float64."""
        return as_floats(self.some, self.spec.dtype)

    def taken(self, bits: Uints) -> Uints:
        """The elements of another tensor that lie where the sample does."""
        return np.concatenate([bits[begin:end] for begin, end in self.runs])

    def of(self, parent: Parent) -> F64:
        """The same of a parent, as float64."""
        return as_floats(self.taken(parent.bits), parent.spec.dtype)

    def alike(self, parents: Iterable[Parent]) -> list[Parent]:
        """Parents with as many elements."""
        return [p for p in parents if p.spec.num_elements == self.spec.num_elements]

    def follows(self, parent: Parent) -> bool:
        """Whether the sample goes up and down with that of a parent, as a fine-tune does."""
        if parent.spec.dtype not in FLOAT_DTYPES:
            return False
        one, other = self.floats, self.of(parent)
        with np.errstate(all="ignore"):
            size = float(np.sqrt((one @ one) * (other @ other)))
            return size > 0 and float(one @ other) > _ALIKE * size

    def share(self, proposal: Proposal) -> float:
        """Part of the sample that a program's nearest prediction gives exactly."""
        found = [proposal.derived.alternatives(begin, end) for begin, end in self.runs]
        right = np.zeros(len(self.some), np.bool_)
        for alternative in zip(*found, strict=True):
            right |= np.concatenate(alternative) == self.some
        return float(np.mean(right))

    def best(self, proposals: Iterable[Proposal], least: float) -> Proposal | None:
        """The program that gives most of the sample exactly, if it gives so much; a perfect one at once."""
        best, most = None, least
        for proposal in proposals:
            share = self.share(proposal)
            if share >= most and (best is None or share > most):
                best, most = proposal, share
            if share == 1:
                break
        if best is not None:
            self.shares[best] = most
        return best
