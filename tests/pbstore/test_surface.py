"""What a store shows, and that nothing of it is written outside of a transaction."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pbstore
from pbstore import DiskBlockStore, MemoryBlockStore, open_store
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.models import Models
from tests.pbstore.folders import base_tensors, write_model

ROOT = Path(pbstore.__file__).parent
MOST_NAMES = 31
MOST_LINES = 400
BODY_LINES = 20
"""Nine of ten functions are shorter."""


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_a_store_shows_few_names(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        assert len(public(store)) <= MOST_NAMES, sorted(public(store))
        missing = public(MemoryBlockStore()) - public(store)
        assert not missing  # one can stand for the other


def test_each_public_verb_of_a_store_says_what_it_does() -> None:
    for name in public(DiskBlockStore):
        assert inspect.getdoc(getattr(DiskBlockStore, name)), name


def test_nothing_can_be_written_before_or_after_a_transaction(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        with store.disk.writing() as tx:
            block_id = store.put(b"some bytes")
        steps = public(Transaction) - {"connection", "close"}
        assert not steps & public(Models)  # there is no way around
        location = store.disk.locate(block_id)
        over = (
            lambda: tx.move(location),
            lambda: tx.append_record(store.export_block(block_id)),
            lambda: tx.place_manifest(tmp_path / "manifest", b""),
            lambda: tx.remove_manifest(tmp_path / "manifest"),
            tx.start_new_pack,
            tx.cut_tails,
            tx.commit_so_far,
            tx.undo_so_far,
            lambda: tx.drop(location),
            lambda: tx.replace_form(location, store.export_block(block_id)),
            tx.check_index,
        )
        for write in over:
            with pytest.raises(RuntimeError, match="is over"):
                write()
        assert bytes(store.get(block_id)) == b"some bytes"


def test_calls_inside_a_transaction_join_it(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store, store.disk.writing() as outer:
        with store.disk.writing() as inner:
            assert inner is outer
            assert not inner.is_outermost
        assert outer.is_outermost


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text()


FACE = "disk/store.py"
"""It names what verbs give without importing verbs: opening a store takes a third of the time that they take.
import-linter counts these imports, too: all are of floors below."""


def test_no_floor_of_the_disk_looks_up_in_secret() -> None:
    """Imports for types only count as well."""
    types_only = {name for name, text in sources() if name.startswith("disk") and "TYPE_CHECKING" in text}
    assert types_only == {FACE}
    assert "exclude_type_checking_imports" not in (ROOT.parent / "pyproject.toml").read_text()


def test_opening_a_store_and_looking_at_its_models_imports_no_numpy(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        store.add(write_model(tmp_path / "model", base_tensors(rows=9)), "org/m")
    code = (
        "import sys; from pbstore import open_store; store = open_store(sys.argv[1]);"
        "store.manifest(*store.models()); store.savings();"
        "store.close(); sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "store"]).returncode == 0


def test_files_and_functions_stay_short() -> None:
    long = {name: text.count("\n") for name, text in sources() if text.count("\n") > MOST_LINES}
    assert not long
    lengths = sorted(length for _, text in sources() for length in bodies(text))
    assert lengths[int(0.9 * len(lengths))] < BODY_LINES


def bodies(text: str) -> Iterator[int]:
    """Lines of each function's body, without its docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_only_the_index_speaks_sql() -> None:
    elsewhere = [
        name
        for name, text in sources()
        if name.startswith("disk") and not name.startswith("disk/index/")
        if re.search(r"\.execute(many|script)?\(|\b(SELECT|INSERT|UPDATE|DELETE|PRAGMA) [a-zA-Z(*]", text)
    ]
    assert not elsewhere
