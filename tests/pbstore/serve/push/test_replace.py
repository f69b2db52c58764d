"""A model that takes the place of another: whatever dies, one of them has the name."""

from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.serve.push.replace import Replacements
from tests.pbstore.folders import base_tensors, folder_content, write_model


class DeathError(Exception):
    pass


STEPS = ("add", "manifest", "remove", "put_manifest")


def content(store: DiskBlockStore, name: str, folder: Path) -> dict[str, bytes]:
    store.checkout(name, folder)
    return folder_content(folder)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("call", [1, 2])
def test_after_a_death_at_any_step_the_name_has_one_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, call: int, after: bool
) -> None:
    old = write_model(tmp_path / "old", base_tensors(0, rows=20))
    new = write_model(tmp_path / "new", base_tensors(1, rows=20))
    notes = tmp_path / "notes"
    notes.mkdir()
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(old, "org/model")
        models, real, calls = Replacements(store, notes), getattr(store, step), [0]

        def dying(*args: object, **more: object) -> object:
            calls[0] += 1
            result = real(*args, **more) if calls[0] < call or after else None
            if calls[0] >= call:
                raise DeathError
            return result

        with monkeypatch.context() as patched:
            patched.setattr(store, step, dying)
            try:
                models.add(new, "org/model")
                died = False
            except DeathError:
                died = True
        again = Replacements(store, notes)
        found = content(store, "org/model", tmp_path / "first")
        assert found in (folder_content(old), folder_content(new))
        assert died or found == folder_content(new)
        assert (list(notes.iterdir()), store.models()) == ([], ("org/model",))
        again.add(new, "org/model")
        assert content(store, "org/model", tmp_path / "second") == folder_content(new)
        assert store.models() == ("org/model",)
