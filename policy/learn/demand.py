"""Forecast of each user's next request: a small shared network that corrects `request_statistics`.

Training is in torch (`policy.learn.network`); deployment is three matrix products in numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float
from policy.learn.request_statistics import NUM_ASK_FEATURES, NUM_FEATURES, Single

_INPUTS = (NUM_FEATURES, NUM_ASK_FEATURES)


@dataclass(frozen=True, slots=True, eq=False)
class DemandModel:
    """The trained network as plain arrays."""

    weights: tuple[tuple[Single, Single], ...]
    """Of the pair network: (inputs, outputs) and (outputs,) a layer."""
    ask_weights: tuple[tuple[Single, Single], ...]
    """Of the ask network."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Single]) -> "DemandModel":
        """Read what `policy.learn.network.DemandNet` holds."""
        return cls(weights=_layers(tensors, "pair", 3), ask_weights=_layers(tensors, "ask", 2))

    @classmethod
    def untrained(cls) -> "DemandModel":
        """Corrects nothing: the forecasts of `request_statistics` stand as they are."""
        nothing = tuple(((np.zeros((rows, 2), np.float32), np.zeros(2, np.float32)),) for rows in _INPUTS)
        return cls(weights=nothing[0], ask_weights=nothing[1])

    def chances(self, base: Single, pair: Single, ask: Single) -> Float:
        """Chance that each user asks for each model, in the next slot and in a later one.

        Shapes as in `DemandNet`; rows sum to at most 1.
        """
        logits = base + np.moveaxis(_forward(self.weights, pair), -1, 0)
        logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
        odds = ask[..., 0] + np.moveaxis(_forward(self.ask_weights, ask), -1, 0)
        asks = 1.0 / (1.0 + np.exp(-odds))
        return np.asarray(logits / logits.sum(axis=-1, keepdims=True) * asks[..., None], dtype=np.float64)


def _layers(tensors: Mapping[str, Single], name: str, count: int) -> tuple[tuple[Single, Single], ...]:
    pairs = [(tensors[f"{name}.{2 * i}.weight"], tensors[f"{name}.{2 * i}.bias"]) for i in range(count)]
    return tuple((np.ascontiguousarray(weight.T), bias) for weight, bias in pairs)


def _forward(layers: tuple[tuple[Single, Single], ...], x: Single) -> Single:
    flat = x.reshape(-1, x.shape[-1])
    for place, (weight, bias) in enumerate(layers):
        flat = flat @ weight + bias
        if place + 1 < len(layers):
            np.maximum(flat, 0.0, out=flat)
    return flat.reshape(*x.shape[:-1], -1)
