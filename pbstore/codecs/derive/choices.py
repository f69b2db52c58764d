"""Which of several predictions each element follows.

For each prediction but the last: a stream of one bit for each element that has not found its prediction yet,
set where it is a later one. An element whose remaining predictions are all equal has no bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import Uints
from pbstore.codecs.streams import pack_stream, unpack_stream
from pbstore.codecs.types import Buffer


def encode_choices(values: Uints, alternatives: Sequence[Uints]) -> tuple[list[Buffer], Uints]:
    """Choose the nearest prediction of each element.

    Returns:
        The streams, and the chosen predictions.
    """
    expected = alternatives[0].copy()
    chosen = _nearest(values, alternatives)
    parts: list[Buffer] = []
    left = np.arange(len(values))
    for number, one in enumerate(alternatives[:-1]):
        left = left[_differs(left, one, alternatives[number + 1 :])]
        later = chosen[left] > number
        parts += pack_stream(np.packbits(later))
        left = left[later]
        expected[left] = alternatives[number + 1][left]
    return parts, expected


def decode_choices(body: memoryview, position: int, alternatives: Sequence[Uints]) -> tuple[Uints, int]:
    """Undo `encode_choices`: the chosen predictions, and the position behind the streams."""
    expected = alternatives[0].copy()
    left = np.arange(len(expected))
    for number, one in enumerate(alternatives[:-1]):
        left = left[_differs(left, one, alternatives[number + 1 :])]
        bits, position = unpack_stream(body, position, (len(left) + 7) // 8)
        left = left[np.unpackbits(bits, count=len(left)).view(np.bool_)]
        expected[left] = alternatives[number + 1][left]
    return expected, position


def _differs(left: npt.NDArray[np.intp], one: Uints, others: Sequence[Uints]) -> npt.NDArray[np.bool_]:
    """Where some of the later predictions differ from one."""
    found = np.zeros(len(left), np.bool_)
    for other in others:
        found |= one[left] != other[left]
    return found


def _nearest(values: Uints, alternatives: Sequence[Uints]) -> npt.NDArray[np.uint8]:
    """Number of the prediction whose bits, as a number, are nearest; the first of several."""
    signed = np.dtype(f"i{values.itemsize}")
    least: Uints | None = None
    chosen = np.zeros(len(values), np.uint8)
    for number, one in enumerate(alternatives):
        gap = np.abs((values - one).view(signed)).view(values.dtype)
        if least is None:
            least = gap
        else:
            nearer = gap < least
            chosen[nearer] = number
            np.copyto(least, gap, where=nearer)
    return chosen
