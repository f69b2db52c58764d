"""`radio` as what `policy` knows: the delay model of a trace."""

from collections import defaultdict

import numpy as np

from policy.interfaces import Bool, Float
from policy.world.trace import Trace
from radio import (
    RadioConfig,
    draw_channel,
    draw_deployment,
    expected_snr,
    node_coherence,
    rate_bit_s,
    solve_broadcast,
)


class RadioDelay:
    """Rates of real CoMP beamformers over TR 38.901 channels: the `DelayModel` of a trace.

    Large-scale fading follows the users through one deployment; small-scale fading is fresh in every slot,
    since a slot is much longer than the coherence time. Answers are remembered: schemes ask alike. The rate
    is that of the config's `link`; with phase or timing errors between nodes it is at the mean SNR over them.
    """

    def __init__(self, config: RadioConfig, trace: Trace, seed: int) -> None:
        """Draw the deployment around the trace's nodes."""
        self._config, self._trace, self._seed = config, trace, seed
        self._deployment = draw_deployment(config, np.random.default_rng([seed, 0]), trace.node_xy)
        self._known: dict[int, dict[bytes, float]] = defaultdict(dict)
        self.worst_gap = 0.0
        """Largest certified gap, 1 - SNR / upper bound, of all of them."""

    def rate_bit_s(self, slot: int, holders: Bool, users: Bool) -> Float:
        """See `policy.interfaces.DelayModel`."""
        keys = [row.tobytes() for row in np.packbits(np.concatenate([holders, users], axis=1), axis=1)]
        known = self._known[slot]
        missing = {key: row for row, key in enumerate(keys) if key not in known}
        if missing:
            rows = list(missing.values())
            known.update(zip(missing, self._solve(slot, holders[rows], users[rows]), strict=True))
        return np.array([known[key] for key in keys])

    def _solve(self, slot: int, holders: Bool, users: Bool) -> list[float]:
        rng = np.random.default_rng([self._seed, 1, slot])
        h = draw_channel(self._deployment, self._trace.user_xy[slot], rng)
        config = self._config
        result = solve_broadcast(h, config.power_w, config.noise_w, holders=holders, users=users, rng=rng)
        self.worst_gap = max(self.worst_gap, float(result.gap.max(initial=0.0)))
        worst = result.worst_snr
        if config.phase_std_deg or config.timing_std_s:
            coherence = node_coherence(
                np.deg2rad(config.phase_std_deg), config.timing_std_s, config.bandwidth_hz
            )
            snr = expected_snr(h, result.w, config.noise_w, coherence)
            worst = np.minimum(worst, np.where(users, snr, np.inf).min(axis=-1))
        rates: list[float] = rate_bit_s(config, worst).tolist()
        return rates
