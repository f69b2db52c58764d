"""`pbcast store push|pull|sync` to and from an object store, `pbcast origin`, and `pbcast doctor`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.cli import main
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.serve.origin.endpoints import fake_bucket
from tests.pbstore.serve.origin.kit import keys_of

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with --json and gives the document; a base and its child are in the store."""
    monkeypatch.setenv("PBCAST_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PBCAST_ORIGIN", f"file://{tmp_path}/origin")
    base = base_tensors()
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "child", tuned(base, ("layer.weight",)))

    def command(*words: object, code: int = 0) -> Any:  # noqa: ANN401
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    for name in ("base", "child"):
        command("store", "add", tmp_path / name, "--name", f"org/{name}")
    return command


def test_models_go_to_an_object_store_and_come_back(run: Run, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/origin"
    planned = run("store", "push", "org/child", "--to", url, "--dry-run")
    assert keys_of(tmp_path / "origin") == set()
    pushed = run("store", "push", "org/child", "--to", url)
    assert pushed["blocks"] == planned["blocks"] > 3
    assert run("store", "push", "org/child", "--to", url)["blocks"] == 0
    assert [one["name"] for one in run("store", "sync", "--to", url)["models"]] == ["org/base", "org/child"]
    assert [one["name"] for one in run("origin", "ls")["models"]] == ["org/base", "org/child"]

    other = ["--store", tmp_path / "other"]
    assert run("store", "pull", "org/child", "--from", url, *other)["blocks"] == pushed["blocks"]
    run("store", "sync", "--from", url, *other)
    for name in ("base", "child"):
        run("store", "checkout", f"org/{name}", tmp_path / "out" / name, *other)
        assert folder_content(tmp_path / "out" / name) == folder_content(tmp_path / name)
    run("store", "pull", "org/none", "--from", url, *other, code=1)


def test_an_origin_is_verified_removed_from_restored_and_collected(run: Run, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/origin"
    assert "no origin at" in run("origin", "ls", code=1)["error"]["message"]
    run("store", "sync", "--to", url)
    well = run("origin", "verify")
    assert (well["models"], well["damaged"]) == (2, [])
    assert "org/child" in run("origin", "rm", "org/child", code=1)["error"]["message"]  # nobody said yes
    run("origin", "rm", "org/child", "--yes")
    run("origin", "restore", "org/child")
    run("origin", "rm", "org/child", "--yes")

    soon = ["origin", "gc", "--grace-days", 0, "--trash-days", 0]
    planned = run(*soon, "--dry-run")
    run(*soon, code=1)  # nobody said yes
    assert run(*soon, "--yes") == planned | {"dry_run": False}
    assert planned["deleted_bytes"] > 0
    assert [one["removed"] for one in run("origin", "ls")["models"]] == [False, True]

    for pack in (tmp_path / "origin" / "packs").iterdir():
        data = pack.read_bytes()
        pack.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert len(run("origin", "verify", code=3)["damaged"]) == 1


def test_doctor_names_what_fails_and_says_so_by_its_exit_code(run: Run, tmp_path: Path) -> None:
    well = run("doctor", "--origin", f"file://{tmp_path}/origin")
    assert well["ok"]
    names = {finding["name"] for finding in well["findings"]}
    assert {"python", "machine", "disk", "numpy", "obstore", "origin ranges"} <= names
    assert keys_of(tmp_path / "origin") == set()
    with fake_bucket("answers ranges with 200") as url:
        report = run("doctor", "--origin", url, code=1)
    failed = [row["name"] for row in report["findings"] if row["needed"] and not row["ok"]]
    assert failed == ["origin ranges"]
    assert "expected an origin" in run("doctor", "--origin", "http://x", code=1)["error"]["message"]


def test_doctor_finds_what_is_not_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from demo.cli import doctor

    asked = ["nosuchpackage>=1", "numpy>=1000", 'nosuchextra>=2; extra == "s3"', 'other; extra == "dev"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: asked)
    report = run("doctor", code=1)
    failed = {f["name"]: f["needed"] for f in report["findings"] if not f["ok"]}
    assert failed == {"nosuchpackage": True, "numpy": True, "nosuchextra": False}
