"""Channel files: bring DeepMIMO, ray-traced or measured channels, and keep drawn ones.

A channel file is a plain numpy `.npz` without pickles:

    h          complex (..., users, nodes, antennas), required: CSI as user k receives it, sum(h[k] * w); a
    channel matrix that is written h^H w must be conjugated first
    power_w    float (..., nodes) or (), optional: transmit power limit of each node, W
    noise_w    float (..., users) or (), optional: noise power of each user, W
    csi_error  float (..., users) or (..., users, nodes), optional: radius of the CSI error, in units of h
    users_xy   float (users, 2), optional: positions, m
    nodes_xy   float (nodes, 2), optional: positions, m
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radio.errors import ChannelFileError
from radio.types import ComplexArray, FloatArray

__all__ = ["ChannelFile", "load_channel", "save_channel"]

_OPTIONAL = ("power_w", "noise_w", "csi_error", "users_xy", "nodes_xy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFile:
    """What a channel file holds; see the module."""

    h: ComplexArray
    power_w: FloatArray | None = None
    noise_w: FloatArray | None = None
    csi_error: FloatArray | None = None
    users_xy: FloatArray | None = None
    nodes_xy: FloatArray | None = None


def save_channel(path: Path, channel: ChannelFile) -> None:
    """Write a channel file."""
    arrays = {name: getattr(channel, name) for name in ("h", *_OPTIONAL)}
    np.savez_compressed(path, allow_pickle=False, **{k: v for k, v in arrays.items() if v is not None})


def load_channel(path: Path) -> ChannelFile:
    """Read a channel file.

    Args:
        path: The `.npz`.

    Returns:
        Its arrays, in double precision.

    Raises:
        ChannelFileError: If it is not such a file, or an array has the wrong shape or numbers.
        OSError: If it cannot be read.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):  # else numpy takes any file for a pickle
            file.seek(0)
            data = np.load(file, allow_pickle=False)
            found = {name: data[name] for name in ("h", *_OPTIONAL) if name in data}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ChannelFileError(str(path), f"not a plain .npz: {error}") from None
    if "h" not in found:
        raise ChannelFileError(str(path), "holds no array named h")
    h = found.pop("h")
    if h.ndim < 3 or h.dtype.kind not in "cf" or 0 in h.shape or not np.isfinite(h).all():
        problem = f"h must be finite numbers (..., users, nodes, antennas), got {h.dtype} {h.shape}"
        raise ChannelFileError(str(path), problem)
    for name, array in found.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ChannelFileError(str(path), f"{name} must be finite real numbers, got {array.dtype}")
    for name, axis in (("users_xy", -3), ("nodes_xy", -2)):
        if name in found and found[name].shape != (h.shape[axis], 2):
            raise ChannelFileError(str(path), f"{name} must be ({h.shape[axis]}, 2), got {found[name].shape}")
    return ChannelFile(
        h=h.astype(np.complex128), **{name: array.astype(np.float64) for name, array in found.items()}
    )
