"""Where nodes and users stand, and how they see one another."""

from functools import cache

import numpy as np

from radio.config import RadioConfig
from radio.types import ComplexArray, FloatArray

__all__ = [
    "array_response",
    "array_shape",
    "distances",
    "draw_users",
    "element_grid",
    "grid_nodes",
    "receive_antennas",
]


def grid_nodes(num_nodes: int, area_m: float) -> FloatArray:
    """Nodes on the most square grid that holds them, each in the middle of its cell.

    Args:
        num_nodes: How many.
        area_m: Side of the square area, m.

    Returns:
        Positions, (nodes, 2), m. A last row that is not full is spread over the whole width.
    """
    columns = int(np.ceil(np.sqrt(num_nodes)))
    rows = -(-num_nodes // columns)
    counts = [columns] * (rows - 1) + [num_nodes - columns * (rows - 1)]
    points = [
        ((column + 0.5) * area_m / count, (row + 0.5) * area_m / rows)
        for row, count in enumerate(counts)
        for column in range(count)
    ]
    return np.array(points)


def draw_users(config: RadioConfig, rng: np.random.Generator, batch: tuple[int, ...] = ()) -> FloatArray:
    """Users uniform in the area, (*batch, users, 2), m."""
    return rng.uniform(0.0, config.area_m, (*batch, config.num_users, 2))


def distances(
    config: RadioConfig, users_xy: FloatArray, nodes_xy: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Distance on the ground and in space, each (..., users, nodes), m (TR 38.901 figure 7.4.1-1)."""
    difference = users_xy[..., :, None, :] - nodes_xy
    ground = np.maximum(np.hypot(difference[..., 0], difference[..., 1]), config.min_distance_m)
    return ground, np.hypot(ground, config.height_m - config.user_height_m)


def receive_antennas(users_xy: FloatArray, count: int, spacing_m: float) -> FloatArray:
    """Places of the antennas of users who have several, in a line along x around each user.

    `radio.channel.channel(deployment, places, fading)` at these places is (..., users, receive, nodes,
    antennas): the antennas of a user are places in the same fading.

    Args:
        users_xy: (..., users, 2), m.
        count: Antennas of a user, >= 1.
        spacing_m: From one to the next, m; half a wavelength is usual.

    Returns:
        Places, (..., users, receive, 2), m.
    """
    offsets = (np.arange(count) - 0.5 * (count - 1)) * spacing_m
    return np.asarray(users_xy[..., None, :] + np.stack([offsets, np.zeros(count)], axis=1))


def array_shape(config: RadioConfig) -> tuple[int, int]:
    """Antennas along x, and upwards; antenna i * rows + j is the i-th along x and the j-th upwards."""
    count = config.num_antennas
    rows = 1
    if config.array == "upa":
        rows = max(r for r in range(1, int(np.sqrt(count)) + 1) if count % r == 0)
    return count // rows, rows


@cache
def element_grid(config: RadioConfig) -> FloatArray:
    """Places of a node's antennas in wavelengths, (antennas, 2): along the x axis and upwards."""
    columns, rows = array_shape(config)
    column, row = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    places = config.antenna_spacing * np.stack([column.ravel(), row.ravel()], axis=1).astype(np.float64)
    places.setflags(write=False)
    return places


def array_response(config: RadioConfig, users_xy: FloatArray, nodes_xy: FloatArray) -> ComplexArray:
    """Phases of a plane wave from each user over each node's antennas.

    a_m = exp(2 pi i (x_m sin(zenith) cos(azimuth) + z_m cos(zenith))), TR 38.901 (7.5-22) with isotropic
    elements; the array lies along the x axis.

    Args:
        config: Array and heights.
        users_xy: Positions, (..., users, 2), m.
        nodes_xy: Positions, (nodes, 2), m.

    Returns:
        Responses of modulus one, (..., users, nodes, antennas).
    """
    _, space = distances(config, users_xy, nodes_xy)
    along = (users_xy[..., :, None, 0] - nodes_xy[:, 0]) / space
    up = (config.user_height_m - config.height_m) / space
    places = element_grid(config)
    return np.asarray(np.exp(2j * np.pi * (along[..., None] * places[:, 0] + up[..., None] * places[:, 1])))
