"""Channels of one's own (measured, ray-traced, of another simulator) from a file, beside simple schemes."""

import tempfile
from pathlib import Path

import numpy as np

from radio import BASELINES, load_channel, rate_bit_s_hz, solve_baseline, solve_broadcast


def main(folder: Path) -> None:
    """Write a channel file as another tool would, read it with all checks, and solve it."""
    rng = np.random.default_rng(0)
    shape = (5, 3, 4)  # users, nodes, antennas
    h = rng.normal(size=shape) + 1j * rng.normal(size=shape)  # user k receives sum(h[k] * w)
    np.savez(folder / "measured.npz", h=1e-5 * h, power_w=np.full(3, 20.0), noise_w=np.full(5, 1e-9))

    channel = load_channel(folder / "measured.npz")  # a name or shape that is none is an error
    power_w = np.asarray(channel.power_w)
    noise_w = np.asarray(channel.noise_w)
    result = solve_broadcast(channel.h, power_w, noise_w)
    print(result)
    most = rate_bit_s_hz(result.upper_bound)
    print(f"ours: {result.rate_bit_s_hz:.2f} bit/s/Hz, no beam has more than {most:.2f}")
    for name in BASELINES:
        rate = solve_baseline(name, channel.h, power_w, noise_w).rate_bit_s_hz
        print(f"{name}: {rate:.2f} bit/s/Hz")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
