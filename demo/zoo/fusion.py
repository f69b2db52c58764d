"""Fusing two networks whose neurons have different names: find who is who, then average.

Neurons of a hidden layer may be renumbered without changing what a network computes, so the plain average of
two networks that were trained apart mixes strangers. Optimal transport first (Singh and Jaggi, Model Fusion
via Optimal Transport, NeurIPS 2020): layer by layer, the plan that moves one network's neurons onto the
other's at least cost. Both have equally many of equal weight, so that the plan is an assignment, found
exactly; costs are squared distances of weights, those that lead in and those that lead out together. In a
transformer (Imfeld et al., Transformer Fusion with Optimal Transport, ICLR 2024) neurons are those of the
feed-forward layers and of the pooler, whole attention heads, and the dimensions inside a head, where query
and key go together, and value and output. The residual stream keeps its names: both grew from one base.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

State = Mapping[str, Tensor]
Order = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tensors that have neurons in common."""

    rows: tuple[str, ...]
    """What leads in: a row, or a number of a bias, for each neuron."""
    columns: tuple[str, ...] = ()
    """What leads out: a column for each neuron."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Groups whose neurons move in heads: a head of one group goes where that of the others goes."""

    groups: tuple[Group, ...]
    heads: int = 1


def parts_of(state: State, heads: int) -> list[Part]:
    """Where neurons may be renamed, in the order of the tensors.

    Args:
        state: Tensors of a classifier of the BERT family.
        heads: Of each attention.
    """
    return [part for name in state for part in _parts_at(name, heads, state)]


def _parts_at(name: str, heads: int, state: State) -> Iterator[Part]:
    layer, inner, _ = name.rpartition(".intermediate.dense.weight")
    if inner:
        attention = f"{layer}.attention"
        query, key, value = (_both(f"{attention}.self.{one}") for one in ("query", "key", "value"))
        values = Group(rows=value, columns=(f"{attention}.output.dense.weight",))
        yield Part(groups=(Group(rows=(*query, *key)), values), heads=heads)
        yield Part(
            groups=(
                Group(rows=_both(f"{layer}.intermediate.dense"), columns=(f"{layer}.output.dense.weight",)),
            )
        )
    if name.endswith("pooler.dense.weight") and "classifier.weight" in state:
        pooler = _both(name.removesuffix(".weight"))
        yield Part(groups=(Group(rows=pooler, columns=("classifier.weight",)),))


def _both(module: str) -> tuple[str, str]:
    return f"{module}.weight", f"{module}.bias"


def aligned(first: State, second: State, heads: int) -> dict[str, Tensor]:
    """The second network with its neurons renamed to be as near as can be to those of the first.

    Args:
        first: Tensors of one classifier.
        second: Tensors of another one of the same names and shapes.
        heads: Of each attention.

    Raises:
        ValueError: If names or shapes differ.
    """
    if {name: value.shape for name, value in first.items()} != {k: v.shape for k, v in second.items()}:
        raise ValueError("expected two networks with the same names and shapes of tensors")
    moved = dict(second)
    for part in parts_of(first, heads):
        if any(not torch.equal(first[name], second[name]) for name in _names(part)):
            _rename(moved, part, _nearest(first, second, part))
    return moved


def shuffled(state: State, heads: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """The same network with its neurons renamed at random: it computes the same.

    Args:
        state: Tensors of a classifier.
        heads: Of each attention.
        rng: Of the names.
    """
    moved = dict(state)
    for part in parts_of(state, heads):
        to = rng.permutation(part.heads)
        width = state[part.groups[0].rows[0]].shape[0] // part.heads
        inside = [[rng.permutation(width) for _ in to] for _ in part.groups]
        _rename(moved, part, [_order(to, one) for one in inside])
    return moved


def fused(first: State, second: State, share: float = 0.5) -> dict[str, Tensor]:
    """The weighted mean of two networks, `share` of the second; what is equal in both stays as it is.

    Args:
        first: Tensors of one network.
        second: Tensors of another one, of the same names.
        share: Weight of the second, 0 to 1.
    """
    return {
        name: value if torch.equal(value, second[name]) else (1 - share) * value + share * second[name]
        for name, value in first.items()
    }


def _names(part: Part) -> Iterator[str]:
    for group in part.groups:
        yield from (*group.rows, *group.columns)


def _rename(state: dict[str, Tensor], part: Part, orders: Sequence[Order]) -> None:
    for group, order in zip(part.groups, orders, strict=True):
        for name in group.rows:
            state[name] = state[name][order]
        for name in group.columns:
            state[name] = state[name][:, order].contiguous()


def _nearest(first: State, second: State, part: Part) -> list[Order]:
    """Which neuron of the second goes where one of the first is, for each group, (neurons,)."""
    heads = part.heads
    worth, inside = np.zeros((heads, heads)), []
    for group in part.groups:
        likeness = _likeness(first, second, group)
        width = len(likeness) // heads
        blocks = likeness.reshape(heads, width, heads, width).swapaxes(1, 2)
        best = [[linear_sum_assignment(block, maximize=True)[1] for block in row] for row in blocks]
        worth += [
            [block[np.arange(width), to].sum() for block, to in zip(row, tos, strict=True)]
            for row, tos in zip(blocks, best, strict=True)
        ]
        inside.append(best)
    to = linear_sum_assignment(worth, maximize=True)[1]
    return [_order(to, [best[head][other] for head, other in enumerate(to)]) for best in inside]


def _order(to: Order, inside: Sequence[Order]) -> Order:
    """Neurons by heads that go to `to` and dimensions inside each."""
    width = len(inside[0])
    return np.concatenate([other * width + dims for other, dims in zip(to, inside, strict=True)])


def _likeness(first: State, second: State, group: Group) -> Table:
    """Inner products of all weights of two neurons, (neurons, neurons): the nearer, the larger.

    Over a whole assignment their sum is half of a constant less the squared distance.
    """
    wide = [
        (
            first[name].flatten(1) if first[name].ndim > 1 else first[name][:, None],
            second[name].flatten(1) if second[name].ndim > 1 else second[name][:, None],
        )
        for name in group.rows
    ]
    wide += [(first[name].T, second[name].T) for name in group.columns]
    return np.asarray(sum(mine.double().numpy() @ theirs.double().numpy().T for mine, theirs in wide))
