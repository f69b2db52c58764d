"""`radio` as what `policy` knows: the delay model of a trace."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.bridge.csi import CsiError, delivered
from policy.interfaces import Bool, Float
from policy.play.growing import Places
from radio import (
    DEFAULT_EFFORT,
    RadioConfig,
    Together,
    broadcast_snr,
    draw_channel,
    draw_deployment,
    expected_snr,
    node_coherence,
    rate_bit_s,
    solve_broadcast,
    solve_together,
)


class RadioDelay:
    """Rates of real CoMP beamformers over TR 38.901 channels: the `DelayModel` of a trace.

    Large-scale fading follows the users through one deployment; small-scale fading is fresh in every slot,
    since a slot is much longer than the coherence time. Answers are remembered: schemes ask alike. What one
    is does not depend on what is asked beside it or before, bit for bit. The rate is that of the config's
    `link`; with phase or timing errors between nodes it is at the mean SNR over them. With CSI error the
    beams are designed on estimates, and the true channel decides, see `demo.bridge.csi`.
    """

    def __init__(self, config: RadioConfig, trace: Places, seed: int, csi: CsiError | None = None) -> None:
        """Draw the deployment around the nodes; places of users may come to be known later."""
        self._config, self._trace, self._seed = config, trace, seed
        self._csi = csi if csi is not None and csi.size > 0 else None
        self._deployment = draw_deployment(config, np.random.default_rng([seed, 0]), trace.node_xy)
        self._known: dict[int, dict[bytes, tuple[float, bool, float]]] = defaultdict(dict)
        self._last: tuple[int, NDArray[Any]] = (-1, np.empty(0))
        self.worst_gap = 0.0
        """Largest certified gap, 1 - SNR / upper bound, of all of them."""

    def rate_bit_s(self, slot: int, holders: Bool, users: Bool) -> Float:
        """See `policy.interfaces.DelayModel`."""
        return np.array([rate for rate, _, _ in self._ask(slot, holders, users)])

    @property
    def may_lose(self) -> bool:
        """Whether channels are known only up to an error."""
        return self._csi is not None

    def lost(self, slot: int, holders: Sequence[int], users: Sequence[int]) -> bool:
        """Whether a broadcast is lost at first: it is coded for more than the true channel carries."""
        return self._ask_one(slot, holders, users)[1]

    def forget(self, slot: int) -> None:
        """Let go of the answers of a slot."""
        self._known.pop(slot, None)

    def bound_bit_s(self, slot: int, holders: Sequence[int], users: Sequence[int]) -> float:
        """Rate that no beamformer of these nodes can exceed, bit/s."""
        return self._ask_one(slot, holders, users)[2]

    def check_together(self) -> None:
        """Whether it is known what broadcasts at once do to one another.

        Raises:
            ValueError: If not: with errors of phase or timing between nodes, or with beams that are designed
                as if estimates were exact.
        """
        if self._config.phase_std_deg or self._config.timing_std_s:
            raise ValueError("air.superpose needs nodes without errors of phase and timing")
        if self._csi is not None and self._csi.design != "robust":
            raise ValueError("air.superpose needs exact channels or robust beams, not nominal ones")

    def together_bit_s(self, slot: int, holders: Bool, users: Bool, alone_bit_s: Float) -> Float:
        """See `policy.interfaces.JointDelay`. With robust beams rates hold for every channel in the ball."""
        solved = self._beams_together(slot, holders, users, alone_bit_s)
        return np.asarray(rate_bit_s(self._config, _least_of_groups(solved.worst_sinr, users)))

    def together_margins_db(
        self, slot: int, holders: Bool, users: Bool, alone_bit_s: Float
    ) -> list[dict[int, float]]:
        """SINR of each user of some broadcasts at once above that for which its own is coded, dB.

        Args:
            slot: Slot of the trace.
            holders: Sending nodes, (broadcasts, nodes).
            users: Receiving users, (broadcasts, users).
            alone_bit_s: Rate of each broadcast alone, (broadcasts,), bit/s.

        Returns:
            For each broadcast its users' margins, see `margins_db`.
        """
        solved = self._beams_together(slot, holders[None], users[None], alone_bit_s[None])
        coded_for = _least_of_groups(solved.worst_sinr, users[None])[0]
        heard = broadcast_snr(self._channel(slot), solved.w[0][..., None], self._config.noise_w)
        true = heard / (1.0 + heard.sum(axis=0) - heard)
        with np.errstate(divide="ignore"):
            margins = 10.0 * np.log10(true / coded_for[:, None])
        return [
            {user: float(row[user]) for user in np.flatnonzero(own).tolist()}
            for row, own in zip(margins, users, strict=True)
        ]

    def _beams_together(self, slot: int, holders: Bool, users: Bool, alone_bit_s: Float) -> Together:
        """Beams of sets of broadcasts at once, on what the nodes believe of the channels."""
        self.check_together()
        config, error = self._config, None
        believed = self._channel(slot)
        if self._csi is not None:
            error = self._csi.radius(believed)
            believed = self._csi.estimate(believed, np.random.default_rng([self._seed, 3, slot]))
        return solve_together(
            believed, config.power_w, config.noise_w, holders, users, alone_bit_s, csi_error=error
        )

    def _channel(self, slot: int) -> NDArray[Any]:
        """True channels of a slot, (users, nodes, antennas); those of the last one are kept."""
        if self._last[0] != slot:
            rng = np.random.default_rng([self._seed, 1, slot])
            self._last = slot, np.asarray(draw_channel(self._deployment, self._trace.user_xy[slot], rng))
        return self._last[1]

    def _ask_one(self, slot: int, holders: Sequence[int], users: Sequence[int]) -> tuple[float, bool, float]:
        return self._ask(slot, *self._row(holders, users))[0]

    def _row(self, holders: Sequence[int], users: Sequence[int]) -> tuple[Bool, Bool]:
        """One broadcast as rows, (1, nodes) and (1, users)."""
        sender = np.zeros((1, self._config.num_nodes), bool)
        user = np.zeros((1, self._config.num_users), bool)
        sender[0, list(holders)] = user[0, list(users)] = True
        return sender, user

    def _ask(self, slot: int, holders: Bool, users: Bool) -> list[tuple[float, bool, float]]:
        keys = [row.tobytes() for row in np.packbits(np.concatenate([holders, users], axis=1), axis=1)]
        known = self._known[slot]
        missing = {key: row for row, key in enumerate(keys) if key not in known}
        if missing:
            rows = list(missing.values())
            known.update(zip(missing, self._solve(slot, holders[rows], users[rows]), strict=True))
        return [known[key] for key in keys]

    def margins_db(self, slot: int, holders: Sequence[int], users: Sequence[int]) -> dict[int, float]:
        """SNR of each user of a broadcast above that for which its rate is chosen, dB.

        It is 0 for the weakest, or less where the true channel carries less than the nodes believe.
        """
        sender, user = self._row(holders, users)
        solved = self._solved(slot, sender, user, every_user=True)
        snr, least = solved.true[0, list(users)], solved.coded_for[0]
        return dict(zip(users, (10.0 * np.log10(snr / least)).tolist(), strict=True))

    def _solve(self, slot: int, holders: Bool, users: Bool) -> list[tuple[float, bool, float]]:
        config, is_known = self._config, self._csi is None
        solved = self._solved(slot, holders, users, every_user=not is_known)
        self.worst_gap = max(self.worst_gap, solved.gap)
        true = solved.coded_for if is_known else _least(solved.true, users)
        rates, fails = delivered(rate_bit_s(config, solved.coded_for), rate_bit_s(config, true))
        bounds = rate_bit_s(config, solved.bound)
        return list(zip(rates.tolist(), fails.tolist(), bounds.tolist(), strict=True))

    def _solved(self, slot: int, holders: Bool, users: Bool, *, every_user: bool) -> "_Solved":
        rng = np.random.default_rng([self._seed, 1, slot])
        h = draw_channel(self._deployment, self._trace.user_xy[slot], rng)
        config = self._config
        believed, error = h, None
        if self._csi is not None:
            believed = self._csi.estimate(h, np.random.default_rng([self._seed, 3, slot]))
            error = self._csi.radius(h) if self._csi.design == "robust" else None
        result = solve_broadcast(
            believed,
            config.power_w,
            config.noise_w,
            holders=holders,
            users=users,
            csi_error=None if error is None else np.tile(error, (holders.shape[0], 1, 1)),
            rng=rng,
            effort=DEFAULT_EFFORT,  # told, as one broadcast alone would be searched in another way
        )
        coded_for: NDArray[Any] = result.worst_snr
        true: NDArray[Any] = np.empty((len(users), 0))
        if every_user:
            true = broadcast_snr(h, result.w, config.noise_w)
        if config.phase_std_deg or config.timing_std_s:
            coherence = node_coherence(
                np.deg2rad(config.phase_std_deg), config.timing_std_s, config.bandwidth_hz
            )
            snr = expected_snr(believed, result.w, config.noise_w, coherence)
            coded_for = np.minimum(coded_for, _least(snr, users))
            if every_user:
                true = np.minimum(true, expected_snr(h, result.w, config.noise_w, coherence))
        gap = float(result.gap.max(initial=0.0))
        return _Solved(np.asarray(coded_for), np.asarray(true), np.asarray(result.upper_bound), gap)


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """Beams of some broadcasts."""

    coded_for: NDArray[Any]
    """SNR that each is coded for, (broadcasts,)."""
    true: NDArray[Any]
    """SNR of every user, (broadcasts, users); (broadcasts, 0) if nobody asked."""
    bound: NDArray[Any]
    """SNR of the weakest that no beamformer exceeds, (broadcasts,)."""
    gap: float
    """The largest certified one."""


def _least_of_groups(sinr: NDArray[Any], users: Bool) -> Float:
    """SINR of the weakest user of each broadcast of some sets, (sets, broadcasts); inf without one."""
    return np.asarray(np.where(users, sinr[:, None, :], np.inf).min(axis=2))


def _least(snr: NDArray[Any], users: Bool) -> Float:
    """SNR of the weakest user of each broadcast, (broadcasts,); inf without one."""
    return np.asarray(np.where(users, snr, np.inf).min(axis=-1))
