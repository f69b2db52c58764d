"""Only who has the token of a run can ask its roles anything; programs that load models need none."""

import os
from pathlib import Path

import httpx
import pytest

from demo.emulation.roles.device import DeviceRole
from demo.emulation.wire import token
from demo.emulation.wire.ask import PREFIX, RefusedError, Wire
from demo.emulation.wire.band import MemoryBand
from demo.emulation.world import control_app
from pbstore.serve.run import serving


def test_a_question_without_the_token_reaches_no_verb() -> None:
    asked: list[object] = []
    with token.run_token() as right:
        app = control_app({"air": lambda one: asked.append(one) or {"done": True}})
        mine = Wire()
    stranger = Wire()  # of no run
    with serving(app) as url:
        with pytest.raises(RefusedError, match="needs the token of this run"):
            stranger.ask(url, "air")
        for wrong in (
            "",
            right,
            f"Bearer {right[:-1]}",
            f"Bearer {right}0",
            "Bearer",
            "Bearer \u00fc",
            f"Basic {right}",
        ):
            heads = {"authorization": wrong.encode()}
            told = httpx.post(f"{url}{PREFIX}/air", content=b"not even JSON", headers=heads, trust_env=False)
            assert (told.status_code, asked) == (401, [])
        assert mine.ask(url, "air", units=[1]) == {"done": True}
    assert asked == [{"units": [1]}]
    for wire in (mine, stranger):
        wire.close()


def test_a_role_of_no_run_answers_nobody() -> None:
    with serving(control_app({"ping": lambda _: {}})) as url:
        for heads in ({}, {"authorization": "Bearer"}, {"authorization": ""}):
            told = httpx.post(f"{url}{PREFIX}/ping", content=b"{}", headers=heads, trust_env=False)
            assert told.status_code == 401


def test_a_device_s_endpoint_is_open_to_programs_and_its_questions_are_not(tmp_path: Path) -> None:
    with token.run_token():
        role = DeviceRole(0, tmp_path, MemoryBand())
    with serving(role.app) as url:
        assert httpx.get(f"{url}/api/models", trust_env=False).status_code == 200
        for verb in ("prepare", "finish", "fault", "hello"):
            told = httpx.post(f"{url}{PREFIX}/{verb}", content=b"{}", trust_env=False)
            assert told.status_code == 401
    role.close()


def test_every_run_draws_its_own_unless_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = set()
    for _ in range(3):
        with token.run_token() as one:
            assert token.mine() == one
            assert len(one) == 64
            drawn.add(one)
        assert token.VARIABLE not in os.environ
    assert len(drawn) == 3
    monkeypatch.setenv(token.VARIABLE, "x" * 32)
    with token.run_token() as one:
        assert one == "x" * 32
    assert token.mine() == "x" * 32
    monkeypatch.setenv(token.VARIABLE, "short")
    with pytest.raises(token.TokenError, match="at least 16 letters, got 5"), token.run_token():
        pass
