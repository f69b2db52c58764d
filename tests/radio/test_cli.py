"""`pbcast radio`."""

import json
from pathlib import Path

import numpy as np
import pytest

from demo.cli import main
from radio import load_channel

SMALL = """
size_bytes = 1000000
waiting = [0, 2]
holders = [1]
users_xy = [[10.0, 20.0], [30.0, 40.0], [90.0, 15.0]]
[radio]
num_nodes = 2
num_antennas = 2
area_m = 100.0
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SMALL)
    return path


def test_json_has_every_solver_and_a_saved_channel_gives_the_same_answer(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert main(["radio", str(scenario), "--json", "--seed", "3", "--out", str(out)]) == 0

    document = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in document["solvers"]]
    assert names[0] == "beam"
    assert "best-node" in names
    assert document["users"] == [0, 2]
    best = max(min(row["snr_db"]) for row in document["solvers"] if row["gap"] is not None)
    assert best <= document["upper_bound_db"] + 1e-6
    assert (out / "radio.png").stat().st_size > 10_000
    assert json.loads((out / "radio.json").read_text()) == document
    assert load_channel(out / "channel.npz").h.shape == (3, 2, 2)

    masks = tmp_path / "masks.toml"
    masks.write_text("waiting = [0, 2]\nholders = [1]\n")
    assert main(["radio", str(masks), "--channel", str(out / "channel.npz"), "--json", "--seed", "3"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["solvers"][0]["snr_db"] == pytest.approx(document["solvers"][0]["snr_db"])


def test_csi_error_shows_what_is_guaranteed(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["radio", str(scenario), "--csi-error", "0.05", "--json"]) == 0

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["solvers"]}
    robust, ignored = rows["robust beam"], rows["beam, error ignored"]
    assert robust["guaranteed_db"] >= (ignored["guaranteed_db"] or -300.0) - 0.01
    assert robust["guaranteed_db"] <= min(robust["snr_db"])


def test_the_table_is_printed(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["radio", str(scenario)]) == 0

    printed = capsys.readouterr().out
    assert "1 of 2 nodes" in printed
    assert "no beamformer of any rank" in printed


def test_the_best_beam_is_between_ours_and_its_bound(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["radio", str(scenario), "--global", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    weakest = {row["name"]: min(row["snr_db"], default=None) for row in document["solvers"]}
    assert weakest["beam"] - 1e-4 <= weakest["best beam"] <= document["beam_bound_db"]
    assert document["beam_bound_db"] <= document["upper_bound_db"] + 0.01

    assert main(["radio", str(scenario), "--global"]) == 0
    assert "no single beam gets it above" in capsys.readouterr().out

    assert main(["radio", str(scenario), "--global", "--csi-error", "0.1"]) == 1
    assert "leave out the CSI error" in capsys.readouterr().err

    many = tmp_path / "many.toml"
    many.write_text("[radio]\nnum_users = 40\n")
    assert main(["radio", str(many), "--global"]) == 1
    assert "at most 32 antennas that send and 32 users" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown colour"),
        ("[radio]\nnum_antena = 2", "table [radio]"),
        ("[radio]\nnum_nodes = 0", "num_nodes must be > 0"),
        ("holders = [7]", "holders: expected indices 0..3, got 7"),
        ("users_xy = [1, 2]", "users_xy must be a list of [x, y]"),
        ("not toml", "Expected"),
    ],
)
def test_a_bad_scenario_is_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)

    assert main(["radio", str(path)]) == 1

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_holder_is_never(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.toml"
    path.write_text("holders = []\n")

    assert main(["radio", str(path), "--json"]) == 0

    first = json.loads(capsys.readouterr().out)["solvers"][0]
    assert first["status"] == "no holder"
    assert first["airtime_s"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size_bytes = nan", "size_bytes must be a number >= 0, got nan"),
        ("csi_error = [0.1]", "csi_error must be a number >= 0, got [0.1]"),
        ("users_xy = [[nan, 2]]", "users_xy must be a list of [x, y] in m, got [[nan, 2]]"),
        ("users_xy = 3", "users_xy must be a list of [x, y] in m, got 3"),
        ("nodes_xy = [[1], [1, 2]]", "nodes_xy must be a list of [x, y] in m"),
        ("holders = [true]", "holders: expected indices 0..3, got True"),
        ("waiting = 3", "waiting: expected indices 0..11, got 3"),
        ("radio = 3", "radio must be a table, got 3"),
        ("[radio]\nfoo = 1", "table [radio]: unknown foo; known are num_nodes"),
        ("[radio]\nnum_users = 2.5", "num_users must be a whole number, got 2.5"),
        ("[radio]\nbandwidth_hz = 'wide'", "bandwidth_hz must be a finite number, got 'wide'"),
        ("[radio]\nnode_power_dbm = nan", "node_power_dbm must be a finite number, got nan"),
        ("[radio]\nnode_height_m = -3.0", "node_height_m must be > 0, got -3.0"),
        ("foo = 1", "unknown foo; known are csi_error"),
        ("holders = ", "is not valid TOML"),
    ],
)
def test_a_slip_in_the_scenario_file_is_told_in_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text)

    assert main(["radio", str(path)]) == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1


def test_nothing_is_claimed_where_nobody_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text("waiting = []")

    assert main(["radio", str(path)]) == 0
    assert "no beamformer" not in capsys.readouterr().out


def test_a_dead_user_is_named_and_the_others_have_their_beam(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    h = np.random.default_rng(0).standard_normal((3, 2, 2, 2)) @ [1, 1j]
    h[1] = 0
    np.savez(tmp_path / "channel.npz", h=h, power_w=1.0, noise_w=1.0)

    assert main(["radio", "--channel", str(tmp_path / "channel.npz"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["radio", "--channel", str(tmp_path / "channel.npz")]) == 0
    printed = " ".join(capsys.readouterr().out.split())

    beam = document["solvers"][0]
    assert document["dropped"] == [1]
    assert beam["status"] == "dead user"
    assert beam["snr_db"][1] is None
    assert min(beam["snr_db"][0], beam["snr_db"][2]) > -10
    assert "user 1 hears no node that sends" in printed
    assert "group without 1, mean delay" in printed or "groups without 1, mean delay" in printed
