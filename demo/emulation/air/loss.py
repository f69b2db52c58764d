"""Which datagrams a user's radio loses: by its SNR margin, or as forced; the same ones for the same seed."""

import math

import numpy as np
from numpy.typing import NDArray

_STEPS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
TARGET = 1e-3
"""Share of datagrams that is lost where the SNR is what the rate was chosen for, after retransmissions of the
link itself; ours."""
DECADE_DB = 0.5
"""Margin that makes it ten times less, or more, dB: the waterfall of long codes of blocks, ours."""


def loss_of_margin(margin_db: float, target: float = TARGET, decade_db: float = DECADE_DB) -> float:
    """Share of datagrams that a user loses, in [0, 1).

    Args:
        margin_db: SNR of the user above that of the broadcast's rate, dB; negative below it.
        target: Share at a margin of 0.
        decade_db: Margin for a tenth of it.

    Returns:
        1 / (1 + (1 / target - 1) 10^(margin / decade)), at most 0.99.
    """
    exponent = min(max(margin_db / decade_db, -300.0), 300.0)
    odds = (1.0 / target - 1.0) * math.pow(10.0, exponent)
    return min(1.0 / (1.0 + odds), 0.99)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of each number: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 13)."""
    step, first, second = (np.uint64(step) for step in _STEPS)
    x = values + step
    x = (x ^ (x >> np.uint64(30))) * first
    x = (x ^ (x >> np.uint64(27))) * second
    return np.asarray(x ^ (x >> np.uint64(31)))


def lost(key: int, share: int, heads: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which datagrams are lost.

    Args:
        key: Of the receiver: seed and user.
        share: Probability in 1 / 65536.
        heads: Per datagram two numbers that name it, (rows, 2): the header without its check.

    Returns:
        True where lost, (rows,): it depends on key and header alone, so no order or timing changes it.
    """
    if not share:
        return np.zeros(len(heads), np.bool_)
    start = mixed(np.array([key % 2**64], np.uint64))
    draw = mixed(mixed(heads[:, 0] ^ start) ^ heads[:, 1])
    return np.asarray((draw >> np.uint64(48)) < np.uint64(share))


def key_of(seed: int, user: int) -> int:
    """The key of a receiver."""
    return (seed * 0x10001 + user) % 2**64
