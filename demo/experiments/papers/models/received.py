"""A fine-tune that has arrived in part: its score against the share received, for orders of its tensors.

After FedDD (Feng et al., arXiv 2308.16835), which sends the parameters of largest importance first. The
device has the base; what has not come is as in the base, and zero where the base has nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from demo.experiments.papers.models.zoo import Scored, zoo_scored

State = Mapping[str, Tensor]
LOSS, CHANGE, FILE, RANDOM = "by loss without it", "by change", "as in the file", "at random"
ORDERS = (LOSS, CHANGE, FILE, RANDOM)
ROWS = 64
"""Training rows on which losses are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The changed tensors of one module, sent together."""

    name: str
    tensors: tuple[str, ...]
    num_bytes: int
    change: float
    """Sum of squared differences to the base."""


def pieces_of(base: State, tuned: State) -> list[Piece]:
    """What a device that has the base lacks, in the order of the tuned model.

    Args:
        base: Tensors of the base; names that the tuned model lacks do not matter.
        tuned: Tensors of the fine-tune.
    """
    modules: dict[str, list[str]] = {}
    for name, value in tuned.items():
        old = base.get(name)
        if old is None or old.shape != value.shape or not torch.equal(old, value):
            modules.setdefault(name.rpartition(".")[0], []).append(name)
    return [
        Piece(
            name=module,
            tensors=tuple(names),
            num_bytes=sum(tuned[name].nbytes for name in names),
            change=sum(_change(base, tuned, name) for name in names),
        )
        for module, names in modules.items()
    ]


def _change(base: State, tuned: State, name: str) -> float:
    value = tuned[name].double()
    return float((value - _of_base(base, tuned, name).double()).square().sum())


def _of_base(base: State, tuned: State, name: str) -> Tensor:
    old = base.get(name)
    return torch.zeros_like(tuned[name]) if old is None or old.shape != tuned[name].shape else old


class Device:
    """A module whose pieces arrive."""

    def __init__(self, net: nn.Module, base: State, tuned: State) -> None:
        """Args: the module to change in place, tensors that it has at first, and those that arrive."""
        self._own, self._base, self._tuned = net.state_dict(), base, tuned
        self.pieces = pieces_of(base, tuned)

    @torch.no_grad()
    def hold(self, pieces: Sequence[int]) -> None:
        """Let these pieces be there, and no others."""
        for number, piece in enumerate(self.pieces):
            for name in piece.tensors:
                new = number in pieces
                source = self._tuned[name] if new else _of_base(self._base, self._tuned, name)
                self._own[name].copy_(source)


def order_of(kind: str, device: Device, loss: Callable[[], float], rng: np.random.Generator) -> list[int]:
    """Which piece comes when.

    Args:
        kind: One of `ORDERS`: largest loss per byte first, when this piece alone has not come; largest change
            per byte first; as the file has them; at random.
        device: Where they arrive.
        loss: Of the module as it is now, on rows that no score is measured on.
        rng: For `RANDOM`.

    Raises:
        ValueError: If there is no such order.
    """
    count = len(device.pieces)
    if kind == FILE:
        return list(range(count))
    if kind == RANDOM:
        return [int(number) for number in rng.permutation(count)]
    if kind == CHANGE:
        worth = [piece.change / piece.num_bytes for piece in device.pieces]
        return sorted(range(count), key=lambda number: -worth[number])
    if kind == LOSS:
        return _by_loss(device, loss)
    raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {kind!r}")


def _by_loss(device: Device, loss: Callable[[], float]) -> list[int]:
    """Largest loss per byte first, when this piece alone has not come.

    Greedy from the base up is worse: a piece by itself hardly ever lowers the loss.
    """
    every = range(len(device.pieces))
    worth = []
    for piece in every:
        device.hold([other for other in every if other != piece])
        worth.append(loss() / device.pieces[piece].num_bytes)
    device.hold(every)
    whole = loss()
    worth = [value - whole / piece.num_bytes for value, piece in zip(worth, device.pieces, strict=True)]
    return sorted(every, key=lambda piece: -worth[piece])


def received(pieces: Sequence[Piece], order: Sequence[int], share: float) -> list[int]:
    """Pieces that are there whole once a share of all their bytes has come."""
    sizes = np.cumsum([pieces[number].num_bytes for number in order])
    there = int(np.searchsorted(sizes, share * sizes[-1] * (1 + 1e-12), side="right"))
    return list(order[:there])


@cache
def _tuned(name: str) -> tuple[Scored, Device]:
    scored = zoo_scored(name)
    tuned = {key: value.clone() for key, value in scored.net.state_dict().items()}
    return scored, Device(scored.net, scored.base_state, tuned)


@cache
def _order(name: str, kind: str, seed: int) -> tuple[int, ...]:
    scored, device = _tuned(name)
    rows = np.random.default_rng((seed, 0)).choice(len(scored.text.train), ROWS, replace=False).tolist()
    rng = np.random.default_rng((seed, 1))
    return tuple(order_of(kind, device, lambda: scored.loss(rows), rng))


@cache
def _score(name: str, there: frozenset[int]) -> float:
    scored, device = _tuned(name)
    device.hold(sorted(there))
    return scored.score()


def score_received(name: str, share: float, seed: int) -> dict[str, float]:
    """Held-out score of a fine-tune of the zoo once a share of what the base lacks has come, by order.

    Args:
        name: Model of the zoo.
        share: Of the bytes of all changed tensors.
        seed: Of the training rows on which losses are measured, and of the order at random.
    """
    pieces = _tuned(name)[1].pieces
    there = {kind: received(pieces, _order(name, kind, seed), share) for kind in ORDERS}
    return {kind: _score(name, frozenset(which)) for kind, which in there.items()}
