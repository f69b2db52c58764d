"""What readers of formats share: a cut, and the error that says that a file is not what it seems to be."""

from __future__ import annotations

from dataclasses import dataclass

from pbstore.spec import TensorSpec

MIN_CUT_BYTES = 4096
"""Smaller members and tensors stay with what stands before them."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A run of bytes that should be a block of its own."""

    offset: int
    length: int
    spec: TensorSpec | None = None
    name: str | None = None


class NotSoError(Exception):
    """The file is not what its first bytes say."""
