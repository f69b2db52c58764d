"""Path loss and LOS probability of 3GPP TR 38.901, UMi street canyon and UMa, for users up to 13 m high."""

import numpy as np

from radio.config import RadioConfig
from radio.types import BoolArray, FloatArray
from radio.units import SPEED_OF_LIGHT_M_S

__all__ = ["los_probability", "path_loss_db", "path_losses_db"]


def los_probability(config: RadioConfig, ground_m: FloatArray) -> FloatArray:
    """Probability of line of sight, TR 38.901 table 7.4.2-1: one up to 18 m, then falling with distance.

    Args:
        config: Scenario.
        ground_m: Distance on the ground, any shape, m.

    Returns:
        Probabilities, same shape.
    """
    decay_m = 36.0 if config.scenario == "umi" else 63.0
    near = 18.0 / np.maximum(ground_m, 18.0)
    return np.asarray(near + np.exp(-ground_m / decay_m) * (1.0 - near))


def path_loss_db(
    config: RadioConfig, ground_m: FloatArray, space_m: FloatArray, los: BoolArray
) -> FloatArray:
    """Mean path loss, TR 38.901 table 7.4.1-1.

    Args:
        config: Scenario, carrier, heights.
        ground_m: Distance on the ground, any shape, m.
        space_m: Distance in space, same shape, m.
        los: Line of sight or not, bool, same shape.

    Returns:
        Path loss, same shape, dB.
    """
    return np.where(los, *path_losses_db(config, ground_m, space_m))


def path_losses_db(
    config: RadioConfig, ground_m: FloatArray, space_m: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean path loss in sight and out of sight, each of the shape of the distances; see `path_loss_db`."""
    in_sight = _los_loss_db(config, ground_m, space_m)
    carrier_ghz = config.carrier_hz / 1e9
    if config.scenario == "umi":
        hidden = 35.3 * np.log10(space_m) + 22.4 + 21.3 * np.log10(carrier_ghz)
        hidden -= 0.3 * (config.user_height_m - 1.5)
    else:
        hidden = 39.08 * np.log10(space_m) + 13.54 + 20.0 * np.log10(carrier_ghz)
        hidden -= 0.6 * (config.user_height_m - 1.5)
    return in_sight, np.maximum(in_sight, hidden)


def _los_loss_db(config: RadioConfig, ground_m: FloatArray, space_m: FloatArray) -> FloatArray:
    """Two slopes that meet at the break point; the effective environment height is 1 m (note 1)."""
    start, slope, correction = (32.4, 21.0, 9.5) if config.scenario == "umi" else (28.0, 22.0, 9.0)
    heights = (config.height_m - 1.0) * (config.user_height_m - 1.0)
    break_m = 4.0 * heights * config.carrier_hz / SPEED_OF_LIGHT_M_S
    common = start + 20.0 * np.log10(config.carrier_hz / 1e9)
    near = common + slope * np.log10(space_m)
    rise = config.height_m - config.user_height_m
    far = common + 40.0 * np.log10(space_m) - correction * np.log10(break_m**2 + rise**2)
    return np.asarray(np.where(ground_m <= break_m, near, far))
