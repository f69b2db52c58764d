"""What is left with many nodes: who is told more, beside those who are not."""

import json
from pathlib import Path

import pytest

from demo.experiments import many_nodes_left
from demo.experiments.many_nodes_left import REFERENCE, SCHEMES, TOLD, main, summary

NAMES = (*SCHEMES, *TOLD)


def test_how_much_less_is_of_the_same_worlds() -> None:
    told = summary([[2.0, 2.0, 1.0, 1.0, 1.0, 1.0], [4.0, 4.0, 4.0, 2.0, 3.0, 0.0]])

    assert told[REFERENCE] == {"delay_s": 3.0, "less": 0.0, "ci95": [0.0, 0.0]}
    assert told["pooled"]["less"] == pytest.approx(1 - 2.5 / 3)
    assert told["learned"]["less"] == pytest.approx(0.5)
    assert told["learned"]["ci95"] == pytest.approx([0.5, 0.5])


def test_the_table_has_a_row_for_each_number_of_nodes_and_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_nodes_left, "play", lambda job: (job[0], [1.0 + job[1] % 3] * len(NAMES)))
    assert main(["--nodes", "16,9", "--worlds", "3", "--out", str(tmp_path)]) == 0

    told = json.loads((tmp_path / "many-nodes-left.json").read_text())
    assert list(told["results"]) == ["16", "9"]
    assert set(told["results"]["9"]) == set(NAMES)
    text = (tmp_path / "many-nodes-left.md").read_text()
    assert "many_nodes_left --nodes 16,9 --worlds 3 --first-world 410000" in text
    assert "| 9 | 2.000 | 0.0 % (0.0 to 0.0) |" in text


@pytest.mark.parametrize("nodes", ["5", "nine", "9,"])
def test_other_numbers_of_nodes_are_refused(nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--nodes", nodes])
    assert "--nodes must be some of [4, 9, 16, 36, 64]" in capsys.readouterr().err
