"""Arrays from `.npz` files that anybody may have made."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 8 << 30
"""Most bytes of one array: what a header claims beyond that is refused before memory is taken."""


def read_npz(
    path: Path, kinds: Mapping[str, str], optional: Mapping[str, str] | None = None
) -> dict[str, NDArray[Any]]:
    """Arrays of a file by name; nothing is unpickled.

    Args:
        path: The file.
        kinds: Letters of `numpy.dtype.kind` that each array may have, such as `iu` for whole numbers.
        optional: The same for arrays that a file may leave out, all of them or none.

    Raises:
        ValueError: If it is no whole `.npz` file, lacks an array, or an array is of another kind or claims to
            be too large; without the path, which the caller names.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            arrays: dict[str, NDArray[Any]] = {}
            present = {f"{name}.npy" for name in optional or {}}.intersection(archive.namelist())
            for name, kind in {**kinds, **((optional or {}) if present else {})}.items():
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = _read_array(member, name)
                if arrays[name].dtype.kind not in kind:
                    raise ValueError(f"array {name!r} holds {arrays[name].dtype}")
            return arrays
    except KeyError:
        raise ValueError(f"it has no array {name!r}") from None
    except (
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        NotImplementedError,
        OverflowError,
        RuntimeError,
    ) as error:
        raise ValueError(f"no whole .npz file ({error})") from None


def _read_array(member: Any, name: str) -> NDArray[Any]:  # noqa: ANN401 - an open member of an archive
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array {name!r} has format {version}, expected 1.0 or 2.0")
    shape, fortran, dtype = read(member)
    count = int(np.prod([int(length) for length in shape], dtype=object)) if shape else 1
    if dtype.hasobject or min(shape, default=0) < 0 or count * dtype.itemsize > MAX_BYTES:
        raise ValueError(
            f"array {name!r} claims shape {shape} of {dtype}: not plain numbers or texts, or too large"
        )
    data = member.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"array {name!r} ends early")
    flat: NDArray[Any] = np.frombuffer(data, dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
