"""Channel files: bring DeepMIMO, ray-traced or measured channels, and keep drawn ones.

A channel file is a plain numpy `.npz` without pickles:

    h          complex (..., users, nodes, antennas), required: CSI as user k receives it, sum(h[k] * w); a
    channel matrix that is written h^H w must be conjugated first
    power_w    float (..., nodes) or (), optional: transmit power limit of each node, W
    noise_w    float (..., users) or (), optional: noise power of each user, W
    csi_error  float (..., users) or (..., users, nodes), optional: radius of the CSI error, in units of h
    users_xy   float (users, 2), optional: positions, m
    nodes_xy   float (nodes, 2), optional: positions, m

Any other name is an error, so that `noise` for `noise_w` is not passed over.
"""

import io
import math
import os
import stat
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radio.errors import BadInputError, ChannelFileError
from radio.problem import normalise
from radio.types import ComplexArray, FloatArray

__all__ = ["ChannelFile", "load_channel", "save_channel"]

_DAMAGED = (
    ValueError,
    KeyError,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)
"""What reading a damaged zip raises; a RuntimeError is one that is encrypted or of a method not known."""
_MOST_DEFLATED = 1040
"""Most bytes that one deflated byte can make."""
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
        ChannelFileError: If it is not such a file, or an array has an unknown name, a wrong shape or numbers.
        OSError: If it cannot be read.
    """
    found = _read(path)
    if "h" not in found:
        held = ", ".join(map(repr, sorted(found)[:5])) or "none"
        raise ChannelFileError(str(path), f"holds no array named h but {held}")
    unknown = sorted(set(found) - {"h", *_OPTIONAL})
    if unknown:
        raise ChannelFileError(str(path), _not_known(unknown[0]))
    h = found.pop("h")
    if h.ndim < 3 or h.dtype.kind not in "cf" or 0 in h.shape or not np.isfinite(h).all():
        said = f"h must be finite numbers (..., users, nodes, antennas), got {h.dtype} {h.shape}"
        raise ChannelFileError(str(path), said)
    for name, array in found.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ChannelFileError(str(path), f"{name} must be finite real numbers, got {array.dtype}")
    for name, axis in (("users_xy", -3), ("nodes_xy", -2)):
        if name in found and found[name].shape != (h.shape[axis], 2):
            raise ChannelFileError(str(path), f"{name} must be ({h.shape[axis]}, 2), got {found[name].shape}")
    try:  # the door of the solver: what passes here is solved
        problem = normalise(
            h, found.get("power_w", 1.0), found.get("noise_w", 1.0), csi_error=found.get("csi_error")
        )
    except BadInputError as error:
        raise ChannelFileError(str(path), str(error)) from None
    if problem.batch_shape != h.shape[:-3]:
        raise ChannelFileError(str(path), f"power_w and noise_w have more axes than h, {h.shape}")
    return ChannelFile(
        h=h.astype(np.complex128), **{name: array.astype(np.float64) for name, array in found.items()}
    )


def _not_known(name: str) -> str:
    """What to say of an array that the format does not have."""
    near = [known for known in ("h", *_OPTIONAL) if known.partition("_")[0] == name.lower().partition("_")[0]]
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown array {name!r}; known are h, {', '.join(_OPTIONAL)}{hint}"


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a zip of `.npy` members; nothing is taken at its word, not even a size."""
    with path.open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ChannelFileError(str(path), "not a file")
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                found = {_name(info): _array(archive, info) for info in members}
        except _DAMAGED as error:
            raise ChannelFileError(str(path), f"not a plain .npz: {error}") from None
    if len(found) < len(members):
        raise ChannelFileError(str(path), "holds two arrays of one name")
    return found


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One member.

    Raises:
        ValueError: If it is larger than its compressed bytes can be, or than its header says, or no array.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed by a method that numpy does not write")
    if info.file_size > _MOST_DEFLATED * info.compress_size + 1024:
        raise ValueError(f"{info.filename} says that it has {info.file_size} bytes")
    data = io.BytesIO(archive.read(info))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            major = np.lib.format.read_magic(data)[0]
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
            shape, fortran, dtype = read(data)
    except Exception as error:  # whatever numpy and its parser of literals make of damaged bytes
        raise ValueError(f"{info.filename} is no array: {type(error).__name__}") from None
    left = len(data.getbuffer()) - data.tell()
    if dtype.hasobject or dtype.names or not dtype.itemsize or math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"{info.filename} has {left} bytes for {shape} of {dtype}")
    flat = np.frombuffer(data.getbuffer()[data.tell() :], dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
