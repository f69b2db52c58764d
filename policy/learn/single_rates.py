"""What one node alone gives each user, and what sets of nodes would: the rates that learners are told.

On the real channel a single node's rate is known to it from pilots. What a set of nodes gives is distilled
from these: amplitudes add and the slowest user counts (`policy/MAASN.md` states how far
the clock made of them is from real beams and real serving).
"""

import numpy as np

from policy.interfaces import DelayModel, Float, Int
from policy.scenario import World
from policy.slot.tables import mask_bits

SLOWEST_S_BIT = 1e3
"""Air time of a bit that counts as never, s."""


def node_rates(delay: DelayModel, slot: int, users: Int, shape: tuple[int, int]) -> Float:
    """Rate of each user from each node alone, (users named, nodes), bit/s.

    Args:
        delay: The radio.
        slot: Slot.
        users: Numbers of the users.
        shape: Users and nodes of the world.
    """
    num_users, nodes = shape
    holders = np.tile(np.eye(nodes, dtype=bool), (users.size, 1))
    receivers = np.repeat(np.eye(num_users, dtype=bool)[users], nodes, axis=0)
    return np.asarray(delay.rate_bit_s(slot, holders, receivers)).reshape(users.size, nodes)


def joint_air(rates: Float, bandwidth_hz: float) -> Float:
    """Time on the air of a bit from each set of nodes, (..., 2^nodes), s; amplitudes add.

    Args:
        rates: Rate from each node alone, (..., nodes), bit/s.
        bandwidth_hz: Bandwidth.
    """
    sets = mask_bits(rates.shape[-1]).T.astype(np.float64)
    joint = (np.sqrt(2.0 ** (rates / bandwidth_hz) - 1.0) @ sets) ** 2
    with np.errstate(divide="ignore"):
        air = 1.0 / (bandwidth_hz * np.log2(1.0 + joint))
    return np.asarray(np.minimum(air, SLOWEST_S_BIT))


def user_air(world: World, slot: int, users: Int) -> Float:
    """Time on the air of a bit from each set of nodes to each user named, (users, 2^nodes), s."""
    config = world.scenario.config
    rates = node_rates(world.delay, slot, users, (config.num_users, config.num_nodes))
    return joint_air(rates, config.radio.bandwidth_hz)


def world_rates(world: World) -> Float:
    """Rate of every user from every node alone in all slots, (slots, users, nodes), bit/s."""
    config, everyone = world.scenario.config, np.arange(world.scenario.config.num_users)
    shape = (config.num_users, config.num_nodes)
    return np.stack([node_rates(world.delay, slot, everyone, shape) for slot in range(config.num_slots)])
