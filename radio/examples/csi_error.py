"""A broadcast that every user can rely on, though the transmitters know the channels only roughly."""

from pathlib import Path

import numpy as np

from radio import RadioConfig, airtime_s, draw_channel, draw_deployment, draw_users, solve_broadcast


def main(folder: Path) -> None:
    """Solve one broadcast as if the CSI were right, then for every channel within 10 % of it."""
    config, rng = RadioConfig(num_users=4), np.random.default_rng(0)
    deployment = draw_deployment(config, rng)
    h = draw_channel(deployment, draw_users(config, rng), rng)  # (users, nodes, antennas)
    error = 0.1 * np.linalg.norm(h, axis=(1, 2))  # radius of each user's error, in units of h

    hopeful = solve_broadcast(h, config.power_w, config.noise_w)
    safe = solve_broadcast(h, config.power_w, config.noise_w, csi_error=error)
    print(f"if the CSI is right: SNR {hopeful.min_snr:.1f}, at most {hopeful.upper_bound:.1f}")
    print(f"within the error: SNR {safe.worst_snr:.1f} is guaranteed, at most {safe.upper_bound:.1f}")
    for name, result in (("hopeful", hopeful), ("safe", safe)):
        print(f"{name}: 100 MB in {airtime_s(100e6, config.bandwidth_hz, result.worst_snr):.2f} s")


if __name__ == "__main__":
    main(Path())
