import numpy as np
import pytest

from demo.console import PlainConsole
from demo.show.explanation import print_reasons, state_of
from policy.learn.explain import CopyReason


def _row(**changes: object) -> CopyReason:
    plain: dict[str, object] = {
        "node": 0,
        "block": 0,
        "name": "layer0",
        "size_bytes": 35_000_000,
        "held": True,
        "kept": False,
        "other_holders": (2,),
        "asked_chance": 0.5,
        "models": ("a", "b"),
        "saves_next_s": 0.25,
        "saves_s": 0.5,
        "saves_s_per_gb": 14.0,
        "price_s_per_gb": 2.0,
    }
    return CopyReason(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 100])
def test_equal_blocks_share_a_line(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = PlainConsole()
    console.width = width
    monkeypatch.setattr("demo.show.explanation.screen", lambda: console)
    rows = [_row(), _row(block=1, name="layer1"), _row(block=2, name="head", held=False), _row(node=1)]

    print_reasons(rows, 3, np.array([100e6, 50e6]))

    told = capsys.readouterr().out
    assert "slot 3" in told
    assert "node 0: 70 of 100 MB used; room here is worth 2.0 s a GB" in told
    assert "node 1: 35 of 50 MB used" in told
    assert "layer0 +1" in told
    assert "layer1" not in told
    assert "left out" in told
    assert ("a +1" in told) == (width == 100)


def test_it_says_so_where_slots_overlap(capsys: pytest.CaptureFixture[str]) -> None:
    print_reasons([_row()], 3, np.array([100e6]), overlap=True)

    assert "by the learned clock" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("held", "kept", "state"),
    [(True, True, "kept"), (True, False, "new"), (False, True, "dropped"), (False, False, "left out")],
)
def test_every_state_has_a_word(held: bool, kept: bool, state: str) -> None:
    assert state_of(_row(held=held, kept=kept)) == state
