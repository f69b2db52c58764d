"""Traces from files: every row is accounted for, and nothing in a file is believed."""

import gzip
import struct
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from policy.config import PRESETS
from policy.errors import TraceError
from policy.scenario import Scenario
from policy.world.replay import Replayed, replay, window
from policy.world.request_files import FIELDS, FileFormat, read_requests
from tests.fakes import fixed_catalog

CONFIG = replace(PRESETS["findings"], num_users=4, slot_s=10.0)
ROWS = [(0.0, "ann", "model-0"), (3.0, "bob", "1"), (31.0, "ann", "model-1")]


def _replay(
    path: Path, how: FileFormat | None = None, *, rank: bool = False, max_cells: int = 10**6
) -> Replayed:
    return replay(
        path,
        CONFIG,
        fixed_catalog(),
        np.random.default_rng(0),
        how=how,
        objects="rank" if rank else "models",
        max_cells=max_cells,
    )


def _csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_users_by_name_models_by_name_or_number(tmp_path: Path) -> None:
    text = "time_s,user,model,x_m,y_m\n0,ann,model-1,5,6\n3,ann,0,,\n31,bob,1,,\n"
    made = _replay(_csv(tmp_path / "t.csv", text))

    assert made.trace.requests[:, 0].tolist() == [1, 0, -1, -1]  # ann's second request waits a slot
    assert made.trace.requests[:, 1].tolist() == [-1, -1, -1, 1]
    assert made.trace.user_xy[0, 0].tolist() == [5.0, 6.0]
    assert (made.requests, made.kept, made.delayed, made.dropped, made.foreign) == (3, 3, 1, 0, 0)
    Scenario(CONFIG, fixed_catalog()).world_of(made.trace)


def test_cells_are_served_by_users_who_stay_there(tmp_path: Path) -> None:
    trace = _replay(_csv(tmp_path / "t.csv", "time_s,cell,model\n0,3,0\n1,3,1\n2,0,1\n")).trace

    for cell, models in ((3, {0, 1}), (0, {1})):
        users = np.flatnonzero((trace.cells() == cell).all(axis=0))
        assert set(trace.requests[0, users].tolist()) - {-1} == models


@pytest.mark.parametrize("start_s", [0, 1.7e9])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso", "zoned"])
def test_the_trace_starts_with_the_first_request_in_any_unit(
    tmp_path: Path, unit: str, start_s: float
) -> None:
    def text(time_s: float) -> str:
        moment = datetime.fromtimestamp(start_s + time_s, tz=UTC)
        if unit == "iso":
            return moment.replace(tzinfo=None).isoformat()
        if unit == "zoned":
            return moment.isoformat()
        return str(int((start_s + time_s) * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]))

    path = _csv(tmp_path / "t.csv", "ts,who,what\n" + "".join(f"{text(t)},{u},{m}\n" for t, u, m in ROWS))
    columns = {"time": "ts", "user": "who", "model": "what"}
    how = FileFormat(time_unit="iso" if unit == "zoned" else unit, columns=columns)  # type: ignore[arg-type]

    assert _replay(path, how).trace.requests[:, :2].tolist() == [[0, 1], [-1, -1], [-1, -1], [1, -1]]


def test_all_kinds_of_files_say_the_same(tmp_path: Path) -> None:
    text = "time_s,user,model\n" + "".join(f"{t},{u},{m}\n" for t, u, m in ROWS)
    plain = _csv(tmp_path / "t.csv", text)
    names = ("time_s", "user", "model")
    parquet.write_table(
        pa.table(dict(zip(names, zip(*ROWS, strict=True), strict=True))), tmp_path / "t.parquet"
    )
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "t.csv.zst").write_bytes(zstandard.compress(text.encode()))
    (tmp_path / "crlf.csv").write_bytes(text.replace("\n", "\r\n").encode())
    _csv(tmp_path / "spaces.csv", text.replace(",", ", "))
    bare = _csv(tmp_path / "bare.csv", "".join(f"x,{m},{t},{u}\n" for t, u, m in ROWS))
    numbered = FileFormat(columns={"time": "2", "user": "3", "model": "1"})

    digests = {_replay(path).trace.digest for path in tmp_path.iterdir() if path != bare}
    assert digests == {_replay(plain).trace.digest} == {_replay(bare, numbered).trace.digest}


@pytest.mark.parametrize("packed", [False, True])
def test_a_public_trace_is_ranked_and_what_stands_for_no_model_is_counted(
    tmp_path: Path, packed: bool
) -> None:
    items = [7, 7, 2**63, 2**63, 2**63, 5, 7, 2**63]
    made = b"".join(struct.pack("<IQIq", 1000 + i, item, 10, -2) for i, item in enumerate(items))
    path = tmp_path / ("w.oracleGeneral.zst" if packed else "w.oracleGeneral.bin")
    path.write_bytes(zstandard.compress(made) if packed else made)
    found = _replay(path, rank=True)

    assert (found.requests, found.foreign) == (8, 1)
    assert found.kept + found.dropped + found.foreign == found.requests
    assert set(found.trace.requests.ravel().tolist()) <= {-1, 0, 1}
    path.write_bytes((zstandard.compress if packed else bytes)(made[:-1]))
    with pytest.raises(TraceError, match="ends within a record of 24 bytes"):
        _replay(path, rank=True)


@given(
    times=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    draw=st.randoms(use_true_random=False),
)
def test_every_request_is_kept_or_counted(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], draw: "np.random.Generator"
) -> None:
    rows = [(time_s, draw.choice("abcd"), draw.choice((0, 1))) for time_s in times]  # type: ignore[call-overload]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text("time_s,user,model\n" + "".join(f"{t},{u},{m}\n" for t, u, m in rows))
    made = _replay(path)

    assert made.requests == len(rows) == made.kept + made.dropped
    assert (made.trace.requests >= 0).sum() == made.kept
    assert made.trace.num_slots == (max(times) - min(times)) // 10 + 1
    slots = {(u, (t - min(times)) // 10) for t, u, _ in rows}
    assert made.kept - made.delayed <= len(slots)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time_s,user,model\n", "no requests"),
        ("", "no requests"),
        ("time_s,model\n1,0\n,0\n", "row 2: no time in column 'time_s'"),
        ("time,user,model\n1,a,0\n", "row 1: no time in column 'time_s'; the row has time, user, model"),
        ("time_s,user,model\nsoon,a,0\n", "row 1: time must be a number of s, got 'soon'"),
        ("time_s,user,model\n2024-01-01,a,0\n", "ISO 8601 is `iso`"),
        ("time_s,user,model\nnan,a,0\n", "must be finite"),
        ("time_s,user,model\n1e400,a,0\n", "must be finite"),
        ("time_s,user,model,x_m,y_m\n1,a,0,1,\n", "two or none"),
        ("time_s,user,model\n0,a,gpt\n", "row 1 asks for model 'gpt', which is not on offer"),
        ("time_s,user,model\n0,a,7\n", "not on offer"),
        ("time_s,user,model\n0,a,0\n1,a,0\n2,a,gpt\n", "row 3 asks for model 'gpt'"),  # would be dropped
        ("time_s,cell,model\n0,9,0\n", "row 1: cell 9 is not one of 4 nodes"),
        ("time_s,cell,model\n0,³,0\n", "cell ³ is not one of"),
        ("time_s,user,model\n" + "".join(f"0,u{i},0\n" for i in range(5)), "names 5 users"),
        ("time_s,user,model\n0,a,0\n1.7e12,b,0\n", "is its time in another unit"),
        ("time_s,user,model\n" + "9" * 1_100_000, "a line of 1,048,576 characters"),
    ],
)
def test_bad_files_get_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        _replay(_csv(tmp_path / "t.csv", text))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such trace file"):
        _replay(tmp_path / "none.csv")
    for name, says in (("t.parquet", "not a Parquet file"), ("t.csv", "not a CSV file")):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(TraceError, match=says):
            _replay(tmp_path / name)
    whole = b"time_s,user,model\n" + b"".join(b"%d,a,0\n" % t for t in range(5000))
    for name, packed in (("cut.csv.gz", gzip.compress(whole)), ("cut.csv.zst", zstandard.compress(whole))):
        (tmp_path / name).write_bytes(packed[: len(packed) // 2])
        with pytest.raises(TraceError, match=f"{name} cannot be read"):
            _replay(tmp_path / name)
    with pytest.raises(TraceError, match="more than 2 rows"):
        read_requests(_csv(tmp_path / "long.csv", "time_s,user,model\n" + "0,a,0\n" * 3), max_rows=2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"time_unit": "min"}, "time_unit must be one of s, ms, us, ns, iso"),
        ({"columns": {"when": "ts"}}, f"there are {', '.join(FIELDS)}"),
        ({"columns": {"time": "0", "model": "item"}}, "all be names or all be numbers"),
    ],
)
def test_a_format_that_does_not_exist_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FileFormat(**settings)  # type: ignore[arg-type]


def test_worlds_are_stretches_of_the_trace(tmp_path: Path) -> None:
    text = "time_s,user,model\n" + "".join(f"{10 * t},a,{t % 2}\n" for t in range(7))
    trace = _replay(_csv(tmp_path / "t.csv", text)).trace

    assert window(trace, 1, 3).requests[:, 0].tolist() == [1, 0, 1]
    with pytest.raises(TraceError, match="7 slots, which are 2 worlds of 3; world 2 was asked for"):
        window(trace, 2, 3)


@pytest.mark.slow
def test_no_damaged_request_file_raises_a_foreign_exception(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = "time_s,user,model,x_m,y_m\n" + "".join(f"{t},{u},{m},1,2\n" for t, u, m in ROWS)
    parquet.write_table(
        pa.table({"time_s": [0.0, 1.0], "user": ["a", "b"], "model": ["0", "1"]}), tmp_path / "p"
    )
    bodies = {
        "t.csv": text.encode(),
        "t.csv.gz": gzip.compress(text.encode()),
        "t.csv.zst": zstandard.compress(text.encode()),
        "t.parquet": (tmp_path / "p").read_bytes(),
        "t.oracleGeneral.bin": struct.pack("<IQIq", 5, 1, 1, -2) * 3,
    }
    refused = 0
    for turn in range(13_000):
        name = list(bodies)[turn % len(bodies)]
        damaged = bytearray(bodies[name])
        for _ in range(rng.integers(1, 6)):
            kind, at = rng.integers(4), int(rng.integers(len(damaged))) if damaged else 0
            if kind == 0 and damaged:
                damaged[at] = int(rng.integers(256))
            elif kind == 1:
                del damaged[at : at + int(rng.integers(1, 40))]
            elif kind == 2:
                damaged[at:at] = rng.bytes(int(rng.integers(1, 20)))
            else:
                damaged[at:at] = rng.choice(
                    [b"1e999", b"nan", b"\x00", b'"', b"\n,,\n", b"-1", b"99999999999999999999"]
                )
        path = tmp_path / name
        path.write_bytes(damaged)
        with suppress(TraceError):
            _replay(path, rank=bool(turn % 2), max_cells=4_000)
            refused -= 1
        refused += 1
    assert 2_000 < refused < 13_000
