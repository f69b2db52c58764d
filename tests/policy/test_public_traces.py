"""Public traces in the layouts that their makers document; tiny files written here, no data shipped."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard

from demo.cli import main
from demo.cli.evaluate import evaluate
from demo.jobs.evaluate import trace_source
from policy.config import PRESETS
from policy.errors import TraceError
from policy.world.public_traces import LAYOUTS, PUBLIC, PublicName
from policy.world.replay import Replayed, replay
from policy.world.request_files import FileFormat, read_requests
from tests.fakes import fixed_catalog

CONFIG = replace(PRESETS["findings"], num_users=4, slot_s=10.0)
AZURE = (
    "app,func,end_timestamp,duration\n"
    "a1,f1,105.5,5.5\n"  # starts at 100
    "a1,f2,112.0,1.0\n"
    "a2,f1,111.0,11.0\n"  # starts at 100, too: another f1
    "a1,f1,131.0,1.0\n"
)
BURSTGPT = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,s1,1.5,ChatGPT,472,18,490,Conversation log\n"
    "45,,0.2,GPT-4,1087,230,1317,API log\n"
    "45,s1,2.0,ChatGPT,417,276,693,Conversation log\n"
)
OLD_BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,1,2,3,API log\n"
)
TWITTER = (
    "0,nz:u:eeW5,20,300,17,get,0\n"
    "1,nz:u:abcd,20,300,18,set,3600\n"
    "2,nz:u:abcd,20,300,18,gets,0\n"
    "12,nz:u:eeW5,20,300,17,get,0\n"
)
TEXTS: dict[PublicName, str] = {"azure-functions-2021": AZURE, "burstgpt": BURSTGPT, "twitter-cache": TWITTER}


def _replay(path: Path, name: PublicName) -> Replayed:
    rng = np.random.default_rng(0)
    return replay(path, CONFIG, fixed_catalog(), rng, how=FileFormat(public=name), objects="rank")


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_an_invocation_starts_before_it_ends_and_functions_are_named_within_their_app(tmp_path: Path) -> None:
    rows = read_requests(_file(tmp_path, AZURE), FileFormat(public="azure-functions-2021"))

    assert [row.time_s for row in rows] == [100.0, 111.0, 100.0, 130.0]
    assert [row.model for row in rows] == ["a1/f1", "a1/f2", "a2/f1", "a1/f1"]
    assert {row.who for row in rows} == {None}


def test_sessions_stand_for_users_where_they_are_named(tmp_path: Path) -> None:
    rows = read_requests(_file(tmp_path, BURSTGPT), FileFormat(public="burstgpt"))
    old = read_requests(_file(tmp_path, OLD_BURSTGPT), FileFormat(public="burstgpt"))

    assert [(row.time_s, row.model, row.who) for row in rows] == [
        (5.0, "ChatGPT", "user s1"),
        (45.0, "GPT-4", None),
        (45.0, "ChatGPT", "user s1"),
    ]
    assert [(row.time_s, row.model, row.who) for row in old] == [(5.0, "ChatGPT", None)]


def test_only_reads_are_requests(tmp_path: Path) -> None:
    rows = read_requests(_file(tmp_path, TWITTER), FileFormat(public="twitter-cache"))

    assert [(row.row, row.model, row.who) for row in rows] == [
        (1, "nz:u:eeW5", "user 17"),
        (3, "nz:u:abcd", "user 18"),
        (4, "nz:u:eeW5", "user 17"),
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_layout_replays_packed_or_plain(tmp_path: Path, name: PublicName) -> None:
    plain = _replay(_file(tmp_path, TEXTS[name]), name)
    for ending, pack in ((".gz", gzip.compress), (".zst", zstandard.compress)):
        packed = tmp_path / f"trace.csv{ending}"
        packed.write_bytes(pack(TEXTS[name].encode()))
        assert _replay(packed, name).trace.digest == plain.trace.digest
    assert plain.kept + plain.dropped + plain.foreign == plain.requests > 0
    assert set(LAYOUTS) == set(PUBLIC) == set(TEXTS)


def test_more_users_than_seats_share_them_and_keep_theirs(tmp_path: Path) -> None:
    lines = [f"{10 * turn},key{user % 3},1,1,{user},get,0\n" for turn in range(3) for user in range(40)]
    whole = _replay(_file(tmp_path, "".join(lines)), "twitter-cache")
    first = _replay(_file(tmp_path, lines[7]), "twitter-cache")

    assert whole.requests == 120
    assert (whole.trace.requests >= 0).any(axis=0).all()  # all four seats are used
    assert (first.trace.requests >= 0).sum() == 1
    own = _file(tmp_path, "time_s,user,model\n" + "".join(f"0,{user},0\n" for user in range(40)))
    with pytest.raises(TraceError, match="names 40 users"):  # a file of one's own is not guessed at
        replay(own, CONFIG, fixed_catalog(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        (
            "azure-functions-2021",
            "app,func,end_timestamp\na,f,3\n",
            "row 1: .* column 'duration', this row",
        ),
        (
            "azure-functions-2021",
            AZURE + "a1,f1,soon,1\n",
            "row 5: end_timestamp must be a number",
        ),
        ("azure-functions-2021", AZURE + "a1,f1,inf,1\n", "row 5: time and places .* must be finite"),
        ("burstgpt", "Time,Model\n1,x\n", "'Timestamp', this row has Time, Model"),
        ("twitter-cache", "0,key,1,1,17\n", "'operation', this row has 5 columns"),
        ("twitter-cache", "0,,1,1,17,get,0\n", "row 1: no model"),
    ],
)
def test_another_layout_is_refused_in_one_line(
    tmp_path: Path, name: PublicName, text: str, error: str
) -> None:
    with pytest.raises(TraceError, match=error) as raised:
        _replay(_file(tmp_path, text), name)
    assert "\n" not in str(raised.value)


def test_a_layout_fixes_columns_and_unit() -> None:
    with pytest.raises(ValueError, match="fixed by burstgpt"):
        FileFormat(public="burstgpt", columns={"time": "Timestamp"})
    with pytest.raises(ValueError, match="public must be one of"):
        FileFormat(public="netflix")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_line_offers_every_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = trace_source(tmp_path / "x", "s", "", "models", "burstgpt")
    offered = evaluate.__annotations__["trace_format"].__args__[0].__args__
    text = "app,func,end_timestamp,duration\n"
    text += "".join(f"app{i % 3},f{i % 7},{5 * i + 1},0.5\n" for i in range(200))
    code = main(
        [
            *("evaluate", "--fresh", "--worlds", "2", "--bound-worlds", "0", "--schemes", "lru", "--json"),
            *("--trace", str(_file(tmp_path, text)), "--trace-format", "azure-functions-2021"),
        ]
    )

    assert (source.objects, source.how.public) == ("rank", "burstgpt")
    assert set(offered) == {"own", *PUBLIC}
    assert code == 0
    assert '"requests": 200' in capsys.readouterr().out
