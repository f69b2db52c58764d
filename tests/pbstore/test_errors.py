"""Errors are told: exported, drawn in one tree, whole between processes, and only our own in one line."""

import builtins
import inspect
import json
import pickle
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import numpy as np
import pytest

import pbstore
from demo import blame
from demo.cli import main
from pbstore import errors
from pbstore.errors import PBStoreError

SAMPLES = {"str": "a" * 12, "int": 5, "float": 1.5}


for _module in walk_packages(pbstore.__path__, "pbstore."):  # or their errors are not known here
    import_module(_module.name)


def all_errors(kind: type = PBStoreError) -> Iterator[type]:
    yield kind
    for sub in kind.__subclasses__():
        if sub.__module__.startswith("pbstore"):
            yield from all_errors(sub)


def errors_of_the_store() -> Iterator[type]:
    """All but those of a server's rooms, which stand in the room that raises them."""
    yield from (kind for kind in all_errors() if not kind.__module__.startswith("pbstore.serve."))


def drawn_tree() -> dict[str, str | None]:
    """Error -> parent, as the docstring of `pbstore.errors` draws it."""
    parents: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.search(r"\w+Error\b", line)
        if found is None or not re.match(r"^[\s│├└─]*\w+Error\s", line):
            continue
        while above and above[-1][0] >= found.start():
            above.pop()
        parents[found.group()] = above[-1][1] if above else None
        above.append((found.start(), found.group()))
    return parents


def test_the_drawn_tree_is_the_true_one() -> None:
    true = {
        kind.__name__: kind.__base__.__name__
        for kind in errors_of_the_store()
        if not kind.__name__.startswith("_")
    }

    assert drawn_tree() == {**true, "PBStoreError": None}


def test_every_error_is_exported() -> None:
    names = {kind.__name__ for kind in errors_of_the_store() if not kind.__name__.startswith("_")}

    assert names <= set(pbstore.__all__)
    assert all(getattr(pbstore, name) is not None for name in pbstore.__all__)


def public_docs() -> Iterator[tuple[str, str]]:
    for name in pbstore.__all__:
        found = getattr(pbstore, name)
        yield name, inspect.getdoc(found) or ""
        for member in dir(found) if inspect.isclass(found) else ():
            if not member.startswith("_"):
                yield f"{name}.{member}", inspect.getdoc(getattr(found, member)) or ""


def test_errors_that_public_methods_tell_of_are_exported() -> None:
    told = {(error, where) for where, doc in public_docs() for error in re.findall(r"\b[A-Z]\w*Error\b", doc)}

    assert len(told) > 20
    assert [pair for pair in told if pair[0] not in pbstore.__all__ and not hasattr(builtins, pair[0])] == []


@pytest.mark.parametrize("kind", [k for k in all_errors() if k is not PBStoreError], ids=lambda k: k.__name__)
def test_an_error_survives_pickling(kind: type[Exception]) -> None:
    given = list(inspect.signature(kind.__init__).parameters.values())[1:]
    values = [SAMPLES.get(getattr(item.annotation, "__name__", ""), "text") for item in given]
    if any(item.kind is item.VAR_POSITIONAL for item in given):
        values = ["text"]
    error = kind(*values)
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), again.args, str(again), vars(again)) == (kind, error.args, str(error), vars(error))


def shape_bug() -> None:
    np.zeros(3) + np.zeros(4)


def library_bug() -> None:
    json.loads("{")


def own_refusal() -> None:
    raise ValueError("width must be > 0, got -1")


def foreign_raise() -> None:
    exec(compile("raise ValueError('from elsewhere')", "elsewhere.py", "exec"), {"__name__": "elsewhere"})


def reraised() -> None:
    try:
        own_refusal()
    finally:
        pass


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (shape_bug, False),
        (library_bug, False),
        (foreign_raise, False),
        (own_refusal, True),
        (reraised, True),
        (lambda: Path("/no/such/file").read_bytes(), True),
        (lambda: {}["bug"], False),
    ],
)
def test_only_our_own_value_errors_are_the_users(
    call: Callable[[], object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blame, "OWN_PACKAGES", (*blame.OWN_PACKAGES, __name__.partition(".")[0]))
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()

    assert blame.is_expected(caught.value) is expected


def test_a_bug_shows_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.cli.store_list.existing", lambda _: shape_bug())
    with pytest.raises(ValueError, match="broadcast"):
        main(["store", "ls", "--store", str(tmp_path)])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["store", "show", "org/none", "--store", "{store}"], 1),
        (["store", "ls", "--store", "{store}/nowhere"], 1),
        (["store", "ls", "--no-such-option"], 2),
        (["store", "add"], 2),
        (["nothing"], 2),
        (["evaluate", "--scenario", "no-such-scenario"], 1),
    ],
)
def test_an_error_with_json_is_one_document(
    words: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pbstore.open_store(tmp_path / "store"):
        pass
    filled = [word.format(store=tmp_path / "store") for word in words]
    assert main([*filled, "--json"]) == code
    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]

    assert error["exit_code"] == code
    assert set(error) == {"type", "message", "exit_code"}
    assert error["message"] in printed.err
    assert len(printed.err.splitlines()) == 1
