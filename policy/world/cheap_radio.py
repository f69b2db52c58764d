"""The two cheap radios: holders add in power, or in amplitude.

Both are idealised single-stream formulas on path loss alone; runs that matter use real beamformers through
the same protocol.
"""

from dataclasses import dataclass

import numpy as np

from policy.config import RadioProxyConfig
from policy.interfaces import Bool, Float


def link_snr(node_xy: Float, user_xy: Float, config: RadioProxyConfig) -> Float:
    """SNR of each user from each node alone, linear.

    Args:
        node_xy: Places of the nodes, (nodes, 2), m.
        user_xy: Places of the users, (..., users, 2), m.
        config: Reference SNR and path loss.

    Returns:
        (..., users, nodes): `10^(snr_db/10) (distance / distance_m)^-exponent`, 0 out of range.
    """
    east, north = (user_xy[..., :, None, axis] - node_xy[:, axis] for axis in range(2))
    apart = np.sqrt(east**2 + north**2)  # several times as fast as a norm over an axis of two
    near = np.maximum(apart, config.min_distance_m) / config.distance_m
    snr = 10 ** (config.snr_db / 10) * near**-config.path_loss_exponent
    return np.where(apart <= config.range_m, snr, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProxyDelay:
    """Delay model without beamformers: rate = bandwidth x log2(1 + SNR of the slowest user)."""

    snr: Float
    """SNR from one node alone, linear, (slots, users, nodes)."""
    bandwidth_hz: float
    """Bandwidth, Hz."""
    coherent: bool
    """True: SNR of a set is (sum of amplitudes)^2; False: sum of SNRs."""

    def rate_bit_s(self, slot: int, holders: Bool, users: Bool) -> Float:
        """See `DelayModel`."""
        if 8 * np.count_nonzero(users) < users.size:
            slowest = self._slowest_of_few(slot, holders, users)
        else:
            slowest = np.where(users, self.joint_snr(slot, holders), np.inf).min(axis=1)
        with np.errstate(over="ignore"):
            return np.asarray(self.bandwidth_hz * np.log2(1.0 + slowest))

    def _slowest_of_few(self, slot: int, holders: Bool, users: Bool) -> Float:
        """SNR of the slowest user of each broadcast, looking only at users who are served, (broadcasts,)."""
        row, user = np.nonzero(users)
        slowest = np.full(users.shape[0], np.inf)
        if row.size == 0:
            return slowest
        power = np.sqrt(self.snr[slot]) if self.coherent else self.snr[slot]
        heard = np.einsum("pn,pn->p", holders[row].astype(np.float64), power[user])
        served, first = np.unique(row, return_index=True)
        slowest[served] = np.minimum.reduceat(heard**2 if self.coherent else heard, first)
        return slowest

    def joint_snr(self, slot: int, holders: Bool) -> Float:
        """SNR of every user from each set of holders, linear, (broadcasts, users)."""
        weights = holders.astype(np.float64)
        if self.coherent:
            return np.asarray((weights @ np.sqrt(self.snr[slot]).T) ** 2)
        return np.asarray(weights @ self.snr[slot].T)


def proxy_delay(node_xy: Float, user_xy: Float, config: RadioProxyConfig) -> ProxyDelay:
    """The cheap delay model of one trace.

    Raises:
        ValueError: If some user is in nobody's range in some slot.
    """
    snr = link_snr(node_xy, user_xy, config)
    lost = np.argwhere(~(snr > 0).any(axis=-1))
    if lost.size:
        slot, user = lost[0]
        raise ValueError(f"user {user} is in no node's range in slot {slot}: raise range_m or move the nodes")
    return ProxyDelay(snr=snr, bandwidth_hz=config.bandwidth_hz, coherent=config.combining == "coherent")
