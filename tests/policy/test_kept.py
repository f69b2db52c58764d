"""A kept result never outlives what made it: the laws of its key, and of the files it is kept in."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import StaleResultsError
from policy.evaluation.closure import closure_of, forget, function_digest
from policy.kept import KeptRows, Unfinished, differences, key_of

FILES = {
    "own_maker.py": "from own_parts import rates\nimport own_parts.places as p\n\ndef make(scenario, seed):\n"
    "    from own_late import late\n    return rates.rate(seed) + p.place() + late()\n",
    "own_parts/__init__.py": "",
    "own_parts/rates.py": "from .deep import base\n\ndef rate(seed):\n    return base() * seed\n",
    "own_parts/deep.py": "def base():\n    return 2\n",
    "own_parts/places.py": "import numpy as np\n\ndef place():\n    return int(np.ones(1)[0])\n",
    "own_parts/unused.py": "def other():\n    return 9\n",
    "own_late.py": "def late():\n    return 0\n",
}
"""A maker of worlds: a package, relative, late and library imports, and a file that it does not use."""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def digest(module: str = "own_maker", name: str = "make") -> str | None:
    importlib.invalidate_caches()
    forget()
    return function_digest(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", [name for name in FILES if "unused" not in name])
def test_a_change_of_any_file_that_is_reached_changes_the_key(own: Path, name: str) -> None:
    before = digest()
    path = own / name
    path.write_text(path.read_text() + "\nCHANGED = 1\n")

    assert before is not None
    assert digest() not in (None, before)


def test_comments_layout_and_files_that_are_not_reached_do_not_change_the_key(own: Path) -> None:
    before = digest()
    (own / "own_parts/unused.py").write_text("def other():\n    return 10\n")
    (own / "own_late.py").write_text("# what comes late\ndef late():\n\n    return (0)\n")

    assert digest() == before


def test_a_module_that_moves_keeps_the_key(own: Path) -> None:
    before = digest()
    (own / "own_parts/deep.py").rename(own / "own_base.py")
    (own / "own_parts/rates.py").write_text(FILES["own_parts/rates.py"].replace(".deep", "own_base"))

    assert digest() == before


def test_importing_a_namesake_from_elsewhere_changes_the_key(own: Path) -> None:
    (own / "own_parts/rates.py").write_text(
        "from .deep import base\nfrom .flat import base as flat\n\ndef rate(s):\n    return base() * s\n"
    )
    (own / "own_parts/flat.py").write_text("def base():\n    return 3\n")
    before = digest()
    (own / "own_parts/rates.py").write_text(
        "from .flat import base\nfrom .deep import base as flat\n\ndef rate(s):\n    return base() * s\n"
    )

    assert digest() != before  # the same files are reached, and the same names are used


def test_libraries_count_by_version_and_are_not_followed(own: Path) -> None:
    made = closure_of(["own_maker"])

    assert made.libraries == ("numpy",)
    assert all(own in path.parents for path in made.files)


def test_what_carries_something_that_is_not_in_its_code_has_no_key(own: Path) -> None:
    make = importlib.import_module("own_maker").make

    def inner(scenario: object, seed: int) -> object:
        return make(scenario, seed)

    class Maker:
        def __call__(self, scenario: object, seed: int) -> object:
            return make(scenario, seed)

    nameless: list[Callable[..., Any]] = [
        inner,
        lambda s, n: make(s, n),
        partial(make, Maker()),
        Maker(),
        Maker().__call__,
    ]
    assert [function_digest(one) for one in nameless] == [None] * 5


def test_a_partial_with_plain_values_is_named_by_them_and_by_what_a_path_holds(own: Path) -> None:
    make = importlib.import_module("own_maker").make
    data = own / "trace.csv"
    data.write_text("1,2\n")

    def key(**values: object) -> str | None:
        return function_digest(partial(make, **values))

    keys = {key(), key(seed=1), key(seed=2), key(seed=(1, "a")), key(seed=data), key(seed=str(data))}
    assert len(keys) == 6
    assert None not in keys
    before = key(seed=data)
    data.write_text("1,3\n")
    assert key(seed=data) != before
    assert key(seed=own) is None  # a folder


def test_a_function_that_was_replaced_has_no_key(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("own_maker")
    old = module.make
    monkeypatch.setattr(module, "make", lambda scenario, seed: 0)

    assert function_digest(old) is None


PLAIN = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))


@given(made_by=st.dictionaries(st.text(max_size=5), PLAIN), key=st.text(max_size=5), value=PLAIN)
def test_the_key_tells_any_two_origins_apart(made_by: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401
    other = {**made_by, key: value}

    assert (key_of(made_by) == key_of(other)) == (made_by == other)
    assert bool(differences({"a": made_by}, {"a": other})) == (
        {k: made_by.get(k) for k in other} != {k: other.get(k) for k in other}
    )


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=3), PLAIN, max_size=3), max_size=5),
    cut=st.integers(0, 400),
)
def test_a_stop_in_the_middle_of_a_write_loses_that_row_alone(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], cut: int
) -> None:
    kept = KeptRows(tmp_path_factory.mktemp("rows"), "a/b", {"x": 1})
    sizes = [0]
    for row in rows:
        kept.append(row)
        sizes.append(kept.path.stat().st_size)
    if rows:
        kept.path.write_bytes(kept.path.read_bytes()[:cut])
    whole = sum(size <= cut + 1 for size in sizes[1:])  # the last line break may be missing
    kept.append({"last": True})

    assert list(kept) == [*rows[:whole], {"last": True}]


def test_a_document_of_another_origin_is_refused_and_says_which_field_differs(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    first = Unfinished(path, {"seeds": 1, "code": {"lru": "a", "lfu": "b"}})
    first.done["found"] = [1.5]
    first.save()
    before = path.read_bytes()

    assert Unfinished(path, {"code": {"lfu": "b", "lru": "a"}, "seeds": 1}).done["found"] == [1.5]
    with pytest.raises(
        StaleResultsError, match=r'made by other seeds \(1, not 2\), code.lru \("a", not "c"\)'
    ):
        Unfinished(path, {"seeds": 2, "code": {"lru": "c", "lfu": "b"}})
    for damaged in ("[1]", "{", "\xff"):
        path.write_text(damaged)
        with pytest.raises(StaleResultsError, match="no JSON document"):
            Unfinished(path, {})
    path.write_bytes(before)


def test_no_number_that_is_not_finite_is_written(tmp_path: Path) -> None:
    made = Unfinished(tmp_path / "a.json", {})
    made.done["cost_s"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        made.save()
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(ValueError, match="JSON"):
        KeptRows(tmp_path, "a", {}).append({"cost_s": float("inf")})
    assert json.loads(json.dumps(list(KeptRows(tmp_path, "a", {})))) == []
