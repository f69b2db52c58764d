"""Damaged input to every parser of radio: a value, or an error of our own that says where."""

import io
import math
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import radio as package
from demo.cli.app import main
from demo.jobs import broadcast as radio_scenario
from demo.jobs.broadcast import load_scenario
from radio import ChannelFile, ChannelFileError, load_channel, save_channel
from radio.problem import normalise
from tests.thoroughness import TIMES

ROOT = Path(package.__file__).parents[1]
PIECES = [
    b"\x00",
    b"\xff",
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"\x93NUMPY",
    b"'shape': (9999999999,",
    b"<c16",
    b"|O",
    b"\n",
]
NUMBERS = [
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e300",
    "1e-300",
    "2.5",
    "12",
    "1e9",
    "true",
    "[]",
    "''",
    "0x" + "f" * 5000,
]
NUMBERS += [
    "9" * 5000,
    "[[1, 2], [3, nan]]",
    "[0, 99]",
    "[true]",
    "{}",
    "1979-05-27",
    '"umi"',
    "[[[",
    "'''",
    "-0.0",
]


def ours(error: BaseException) -> bool:
    """Whether one of our own statements raised it, and not a library or an expression."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (
        Path(frame.filename).is_relative_to(ROOT)
        and ".venv" not in frame.filename
        and ("raise" in (frame.line or ""))
    )


def channels() -> list[bytes]:
    """Valid files, packed in both ways, with few and with all arrays."""
    rng = np.random.default_rng(0)
    h = rng.standard_normal((3, 2, 2)) + 1j * rng.standard_normal((3, 2, 2))
    more = {
        "power_w": np.ones(2),
        "noise_w": np.ones(3),
        "csi_error": np.full((3, 2), 0.1),
        "users_xy": np.zeros((3, 2)),
        "nodes_xy": np.zeros((2, 2)),
    }
    made = []
    for save in (np.savez, np.savez_compressed):
        for arrays in (
            {"h": h},
            {"h": h.astype(np.complex64), **more},
            {"h": h[None].real, "power_w": np.ones((1, 2))},
        ):
            file = io.BytesIO()
            save(file, **arrays)
            made.append(file.getvalue())
    return made


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, bytes cut, doubled, moved or replaced by what such files are made of."""
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(made) + 1))
        kind = rng.integers(6)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del made[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            piece = PIECES[rng.integers(len(PIECES))]
            made[at : at + len(piece)] = piece
        elif kind == 3:
            made[at:at] = made[: int(rng.integers(1, 60))]
        elif kind == 4:
            del made[at:]
        else:
            made[at : at + 4] = rng.bytes(4)
    return bytes(made)


def resealed(data: bytes, rng: np.random.Generator) -> bytes:
    """One member damaged, the zip around it sound: past the checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = list(members)[rng.integers(len(members))]
    head = damaged(members[name][:128], rng) if rng.random() < 0.8 else members[name][:128]
    members[name] = head + (members[name][128:] if rng.random() < 0.7 else damaged(members[name][128:], rng))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return file.getvalue()


def odd_arrays(rng: np.random.Generator) -> bytes:
    """A sound zip of arrays with wrong names, shapes, dtypes or numbers."""
    names = ["h", "h", "h", "power_w", "noise_w", "csi_error", "users_xy", "noise", "power", "H", "h.npy", ""]
    dtypes = ["c16", "c8", "f8", "f2", "i4", "u1", "?", "U3", "M8[s]", "S2", "f8,i4", "c16"]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in dict.fromkeys(names[i] for i in rng.integers(len(names), size=int(rng.integers(1, 6)))):
            shape = tuple(int(n) for n in rng.integers(0, 4, size=int(rng.integers(0, 5))))
            array = np.zeros(shape, np.dtype(dtypes[rng.integers(len(dtypes))]))
            if array.dtype.kind in "fc" and array.size:
                fill = [0.0, 1.0, -1.0, math.nan, math.inf, 1e300, 1e-300][rng.integers(7)]
                with np.errstate(all="ignore"):
                    array[...] = fill
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", data.getvalue())
    return file.getvalue()


def check_channels(path: Path, count: int, seed: int) -> None:
    rng, whole = np.random.default_rng(seed), channels()
    for number in range(count):
        file = whole[rng.integers(len(whole))]
        make = (lambda file, rng: odd_arrays(rng), resealed, resealed, damaged)[number % 4]
        path.write_bytes(make(file, rng))
        found = told = None
        try:
            found = load_channel(path)
        except ChannelFileError as error:
            told = error
        assert told is None or str(path) in str(told)
        if found is not None:
            power = 1.0 if found.power_w is None else found.power_w
            noise = 1.0 if found.noise_w is None else found.noise_w
            normalise(found.h, power, noise, csi_error=found.csi_error)


LINES = [
    "size_bytes = 1000000",
    "csi_error = 0.1",
    "holders = [0]",
    "waiting = [0, 1]",
    "users_xy = [[10.0, 20.0], [30.0, 40.0]]",
    "nodes_xy = [[100.0, 100.0]]",
    "[radio]",
    "num_nodes = 2",
    "num_antennas = 2",
    "num_users = 3",
    "num_subbands = 1",
    "area_m = 200.0",
    "carrier_hz = 3.5e9",
    "bandwidth_hz = 1e8",
    "node_power_dbm = 40.0",
    "noise_figure_db = 9.0",
    "node_height_m = 10.0",
    "user_height_m = 1.5",
    "min_distance_m = 10.0",
    "antenna_spacing = 0.5",
    'scenario = "umi"',
    'array = "ula"',
]


def scenario_text(rng: np.random.Generator) -> str:
    """Lines left out, moved, doubled, their values replaced; then at times a character."""
    lines = [
        line for line in LINES if rng.random() < 0.7 or line in ("num_users = 3", "num_nodes = 2", "[radio]")
    ]
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        kind = rng.integers(12)
        if kind <= 8:
            value = (
                NUMBERS[rng.integers(len(NUMBERS))] if rng.random() < 0.5 else f"{rng.lognormal(0, 8):.3g}"
            )
            lines[at] = f"{lines[at].partition('=')[0]} = {value}"
        elif kind == 9:
            lines.insert(int(rng.integers(len(lines))), lines.pop(at))
        elif kind == 10:
            lines.append(lines[at])
        else:
            place = int(rng.integers(len(lines[at]) + 1))
            lines[at] = lines[at][:place] + chr(int(rng.integers(1, 300))) + lines[at][place + 1 :]
    return "\n".join(lines)


def check_scenarios(path: Path, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        text = scenario_text(rng)
        path.write_text(text, encoding="utf-8")
        found = told = None
        try:
            found = load_scenario(path, None, 0, 0.0)
        except ValueError as error:
            told = error
        assert told is None or ours(told), text
        if found is not None:
            assert np.isfinite(found.h).all(), text
            normalise(found.h, found.power_w, found.noise_w, csi_error=found.csi_error)


def options(rng: np.random.Generator, files: list[str]) -> list[str]:
    """Options of the command with odd values, or without any."""
    names = [
        "--channel",
        "--csi-error",
        "--sdp",
        "--global",
        "--seed",
        "--json",
        "--no-sdp",
        "--nothing",
        "--",
    ]
    chosen = []
    for _ in range(int(rng.integers(0, 5))):
        name = names[rng.integers(len(names))]
        chosen.append(name)
        if name in ("--channel", "--csi-error", "--seed") and rng.random() < 0.9:
            values = [*NUMBERS, *files, "", "\ud800", "é", "-", "1e-5"]
            chosen.append(values[rng.integers(len(values))])
    if rng.random() < 0.5:
        chosen.insert(int(rng.integers(len(chosen) + 1)), files[rng.integers(len(files))])
    return chosen


def check_options(folder: Path, count: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the solving, whose input `check_scenarios` checks."""
    files = {
        "good.toml": b"\n".join(line.encode() for line in LINES),
        "bad.toml": b"x =",
        "good.npz": channels()[1],
    }
    files["bad.npz"] = channels()[0][:100]
    for name, data in files.items():
        (folder / name).write_bytes(data)
    rng, solved = (
        np.random.default_rng(seed),
        radio_scenario.Comparison(
            rows=(),
            upper_bound_db=0.0,
            beam_bound_db=None,
            matched_db=[],
            users=[],
            dropped=[],
            beam=np.zeros((1, 1)),
            seed=0,
        ),
    )
    monkeypatch.setattr(radio_scenario, "compare", lambda *_, **__: solved)
    paths = [str(folder / name) for name in (*files, "none.toml")] + [str(folder)]
    for _ in range(count):
        assert main(["radio", *options(rng, paths)]) in (0, 1, 2)


@pytest.mark.slow
def test_a_damaged_channel_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    check_channels(tmp_path / "channel.npz", 600, 0)


def test_a_damaged_scenario_is_an_error_of_ours(tmp_path: Path) -> None:
    check_scenarios(tmp_path / "scenario.toml", 80, 0)


def test_odd_options_are_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_options(tmp_path, 60, 0, monkeypatch)


@pytest.mark.slow
def test_thousands_of_damaged_inputs_raise_nothing_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_channels(tmp_path / "channel.npz", 3_400 * TIMES, 1)
    check_scenarios(tmp_path / "scenario.toml", 1_200 * TIMES, 1)
    check_options(tmp_path, 400 * TIMES, 1, monkeypatch)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"noise": 1.0}, "unknown array 'noise'; known are h, power_w, .*; did you mean noise_w"),
        ({"power": 1.0}, "unknown array 'power'; .*; did you mean power_w"),
        ({"H": 1.0}, "unknown array 'H'; .*; did you mean h"),
        (
            {"gain": 1.0},
            r"unknown array 'gain'; known are h, power_w, noise_w, csi_error, users_xy, nodes_xy$",
        ),
        ({"noise_w": np.ones(4)}, r"noise_w: expected \(..., users\) with 3 users, got \(4,\)"),
        ({"noise_w": np.array([1.0, 0.0, 1.0])}, r"noise_w: expected finite watts > 0.* at \(1,\)"),
        ({"power_w": -np.ones(2)}, r"power_w: expected finite watts >= 0"),
        ({"csi_error": np.ones(2)}, r"csi_error: expected \(..., 3\) joint or \(..., 3, 2\) per link"),
        ({"power_w": np.ones((5, 2))}, "power_w and noise_w have more axes than h"),
    ],
)
def test_what_a_channel_file_may_not_hold_is_named(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = tmp_path / "channel.npz"
    np.savez(path, h=np.ones((3, 2, 2), complex), **arrays)

    with pytest.raises(ChannelFileError, match=said):
        load_channel(path)


def bomb(claim: Callable[[zipfile.ZipInfo], None] | None, header: bytes) -> bytes:
    """A channel file whose member claims a shape, and its entry perhaps a size, that it has not."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("h.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        if claim is not None:
            claim(archive.infolist()[0])
    return file.getvalue()


@pytest.mark.parametrize("claim", [None, lambda info: setattr(info, "file_size", 1 << 40)])
def test_no_size_in_a_channel_file_is_believed(
    tmp_path: Path, claim: Callable[[zipfile.ZipInfo], None] | None
) -> None:
    path = tmp_path / "channel.npz"
    shape = b"{'descr': '<c16', 'fortran_order': False, 'shape': (1000000, 100000, 100), }\n"
    path.write_bytes(bomb(claim, shape))

    with pytest.raises(ChannelFileError, match=r"not a plain \.npz"):
        load_channel(path)


def test_a_saved_channel_is_read_back(tmp_path: Path) -> None:
    h = np.ones((2, 3, 2, 2), complex)
    kept = ChannelFile(h=h, power_w=np.ones((2, 2)), csi_error=np.full((2, 3, 2), 0.1))

    save_channel(tmp_path / "channel.npz", kept)
    found = load_channel(tmp_path / "channel.npz")

    for name in ("h", "power_w", "csi_error"):
        assert (getattr(found, name) == getattr(kept, name)).all()
    assert found.noise_w is None
