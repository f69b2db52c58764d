"""Laws of probes: relatives show by a few elements, and what is none is not read."""

import numpy as np
import pytest
import torch

from pbstore.codecs.derive.probes import UNKNOWN, holding, likely, unlikeness
from pbstore.codecs.sketch import probe
from pbstore.codecs.types import TensorSpec
from tests.pbstore.codecs.edits import int8, raw_of, weights

X, Y, _ = weights()
G = torch.Generator().manual_seed(9)
ORDER = torch.randperm(X.shape[1], generator=G)
KEPT = torch.rand(X.shape, generator=G) < 0.2
LIKE = {
    "fine-tuned": Y,
    "scaled": X * -3.7,
    "in bf16": X.bfloat16(),
    "in int8": int8(X)[0],
    "pruned to a fifth": X * KEPT,
}
ELSEWHERE = {
    "transposed": X.T,
    "permuted": X[:, ORDER],
    "cut": X[:96, 128:],
    "in float64, cut": X[100:].double(),
    "tiled": X.repeat(2, 2),
    "halves beside each other": torch.cat([X, X], 1) / 2,
    "fp16 there and back, transposed": X.half().float().T,
}


def probe_of(tensor: torch.Tensor) -> tuple[bytes | None, str]:
    raw, spec = raw_of(tensor)
    return probe(raw, spec), spec.dtype


@pytest.mark.parametrize("kind", LIKE)
def test_what_is_made_element_by_element_is_like(kind: str) -> None:
    assert unlikeness(*probe_of(LIKE[kind]), *probe_of(X)) < UNKNOWN


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_elements_are_found_wherever_they_stand(kind: str) -> None:
    raw, spec = raw_of(ELSEWHERE[kind])
    parent = X.half() if "fp16" in kind else X
    assert holding(raw, spec.dtype, [probe_of(torch.randn(192, 256, generator=G)), probe_of(parent)]) == [
        False,
        True,
    ]


def test_of_what_probes_cannot_tell_anything_may_be() -> None:
    raw, spec = raw_of(X)
    small = probe_of(X.bfloat16())
    assert holding(raw, spec.dtype, [(None, "F32"), probe_of(int8(X)[0])]) == [True, True]
    assert holding(raw_of(Y.bfloat16())[0], "BF16", [small]) == [True]
    assert holding(b"", "F32", []) == []
    assert unlikeness(*probe_of(X), None, "F32") == UNKNOWN
    assert spec == TensorSpec("F32", (192, 256))


@pytest.mark.parametrize(
    "moved", [[1.0, -1, 1, -1, 0], [1e-300, -1e-300, 1e300, 1e-300, 0], [np.inf, 1, -1, 1, 0]]
)
@pytest.mark.parametrize("step", [[1.0] * 5, [1e300, -1e300, 1, 1e-300, 0], [0.0, 0, 0, 0, 1]])
def test_differences_of_any_size_are_compared_without_a_word(moved: list[float], step: list[float]) -> None:
    base = np.zeros(5)
    assert likely(np.array(moved), base, [("other", np.array(step))], "F64") == []
