"""Text is text: whatever models, files and tensors are called, no verb's output is steered by it."""

import ast
import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from demo import console
from demo.cli import main
from demo.console import ENDLESS, SHORTEST, PlainConsole, Sheet, shortened, visible
from demo.jobs.report import RunReport
from demo.jobs.train import training_table
from demo.show.explanation import print_reasons
from demo.show.run_tables import print_report
from demo.zoo.cli import zoo_table
from demo.zoo.model import ZooModel
from demo.zoo.progress import Bars
from pbstore import open_store
from policy.learn.explain import CopyReason
from tests.pbstore.folders import safetensors_bytes
from tests.thoroughness import TIMES

HOSTILE = (
    "x[/b]y",
    "[bold red]danger[/]",
    "\x1b[2J\x1b]0;title\x07",
    "a\nb\r\tc",
    "\x9b31m",
    "\u202egnp.exe",
    ":smile:",
    "é日本\u200b",
    "\ud800",
    "[link=http://x]y[/link]",
    "\\[x]",
    "%s{}{0}",
)
names = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=3).map("".join),
    st.text(min_size=1, max_size=30),
)


def assert_tame(printed: str) -> None:
    """Nothing but printable characters and line ends."""
    assert [one for one in printed if one != "\n" and not one.isprintable()] == []


@given(text=st.text() | names)
def test_what_is_visible_is_printable_and_loses_nothing(text: str) -> None:
    shown = visible(text)

    assert shown.isprintable() or not shown
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text
    elif "\\" not in text and text.isascii():
        assert shown.encode().decode("unicode_escape") == text


@given(text=st.text(max_size=80) | names, width=st.integers(3, 60))
def test_a_shortened_text_fits_and_keeps_its_ends(text: str, width: int) -> None:
    shown = visible(text)
    short = shortened(shown, width)

    assert cell_len(short) <= max(width, 1)
    if cell_len(shown) <= width:
        assert short == shown
    else:
        head, _, tail = short.partition("…")
        assert shown.startswith(head)
        assert shown.endswith(tail)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(names, st.integers(0, 10**18), names, st.floats(allow_nan=False)), max_size=5),
    title=names,
    width=st.integers(20, 200),
)
def test_tables_never_cut_numbers_and_fit_where_they_can(
    rows: list[tuple[str, int, str, float]], title: str, width: int
) -> None:
    screen = StringIO()
    terminal = PlainConsole(screen)
    terminal.width = width
    sheet = Sheet("name", "#bytes", "from", "#share", title=visible(title))
    for row in rows:
        sheet.row(*row)
    sheet.print(terminal)
    lines = screen.getvalue().splitlines()

    assert_tame(screen.getvalue())
    for _, size, _, share in rows:
        assert any(f" {size} " in line and f" {share} " in line for line in lines)
    numbers = [max(map(len, ["bytes", "share"][:1] + [str(row[1]) for row in rows]))]
    numbers.append(max(map(len, ["share"] + [str(row[3]) for row in rows])))
    if width >= sum(numbers) + 2 * SHORTEST + 13:
        body = lines[len(lines) - len(rows) - 4 :]
        assert max(map(cell_len, body)) <= width


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(names, st.integers()), min_size=1, max_size=5))
def test_in_a_pipe_nothing_is_cut(rows: list[tuple[str, int]]) -> None:
    pipe = StringIO()
    sheet = Sheet("name", "#size")
    for name, size in rows:
        sheet.row(name * 20, size)
    sheet.print(PlainConsole(pipe))

    assert PlainConsole(pipe).width == ENDLESS
    assert all(visible(name * 20) in pipe.getvalue() for name, _ in rows)
    assert_tame(pipe.getvalue())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("label", ["\x1b[2J\x1b]0;t\x07", "x[/b]y", "\udcff"])
def test_every_verb_of_the_store_prints_names_as_text(
    label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_every_verb(list(HOSTILE), label, tmp_path, capsys, monkeypatch)


@pytest.mark.slow
@settings(max_examples=6 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=st.lists(names, min_size=1, max_size=4, unique=True), label=st.sampled_from(HOSTILE) | names)
def test_every_verb_of_the_store_prints_any_names_as_text(
    tensors: list[str],
    label: str,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_every_verb(tensors, label, tmp_path_factory.mktemp("names"), capsys, monkeypatch)


def run_every_verb(
    tensors: list[str],
    label: str,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PBCAST_STORE", str(root / "store"))
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(40, 40)).astype(np.float32) for name in tensors}
    for number, folder in enumerate(("base", "child")):
        changed = {name: array + np.float32(number * 1e-4) for name, array in arrays.items()}
        (root / folder).mkdir()
        (root / folder / "model.safetensors").write_bytes(safetensors_bytes(changed))
        readable = "".join(c for c in label if c not in "/\\" and c >= " " and c != "\x7f" and c < "\ud800")
        (root / folder / f"f{readable}.txt").write_text("x")
    verbs = (
        ["add", root / "base", "--name", "org/base"],
        ["add", root / "child", "--name", "org/child", "--base", "org/base"],
        ["plan", root / "child"],
        ["ls"],
        ["show", "org/child"],
        ["savings", "--by", "model"],
        ["savings", "--by", "family"],
        ["explain", "org/child"],
        ["checkout", "org/child", root / "out"],
        ["verify"],
        ["heat", "org/child"],
        ["cool", "org/child"],
        ["balance", "--dry-run"],
        ["pin", "org/child", "--off"],
        ["evict", "--free", "1", "--dry-run"],
        ["rm", "org/base", "--yes"],
        ["trash"],
        ["restore", "org/base"],
        ["gc", "--yes"],
        ["repair"],
        ["show", label],
        ["add", root / label.replace("\0", ""), "--name", "org/x"],
        ["checkout", "org/child", root / "out", "--no-such-option", label],
    )
    for verb in verbs:
        for words in (verb, [*verb, "--json"]):
            main(["store", *map(str, words)])
            printed = capsys.readouterr()
            assert_tame(printed.out)
            assert_tame(printed.err.replace("\u2500", ""))
    main(["store", "explain", "org/child"])
    told = capsys.readouterr().out
    assert all(visible(name) in told for name in tensors)
    with open_store(root / "store") as store:
        pack = next((root / "store" / "packs").glob("*.pack"))
        for item in store.disk.locations():
            with pack.open("r+b") as file:
                file.seek(item.record.payload_offset)
                file.write(b"\xff\x00\xff\x00")
    assert main(["store", "verify"]) == 3
    assert_tame("".join(capsys.readouterr()))


@pytest.mark.parametrize("name", HOSTILE)
def test_the_other_verbs_print_names_as_text(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ZooModel(
        name=name, folder=tmp_path, base=None, kind=name, task="", raw_bytes=1, license="", origin=""
    )
    zoo_table([model]).print()
    training_table("learned", [{"seed": 1, "validation": 0.5, "cpu_s": 3, "weights": name}]).print()
    numbers = {
        "node": 0,
        "block": 0,
        "size_bytes": 1,
        "asked_chance": 0.5,
        "saves_next_s": 0.1,
        "saves_s": 0.1,
    }
    rates = {"saves_s_per_gb": 1.0, "price_s_per_gb": 1.0}
    flags: dict[str, Any] = {
        "held": True,
        "kept": False,
        "other_holders": (),
        "models": (name,),
        "name": name,
    }
    print_reasons([CopyReason(**numbers, **rates, **flags)], 0, np.array([1.0]))
    with Bars() as bars, bars.task(name):
        bars.line(name)
    printed = capsys.readouterr()

    assert_tame(printed.out)
    assert_tame(printed.err)
    assert printed.out.count(visible(name)) >= 4


def test_a_run_prints_names_as_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.demo.test_report import report as make

    plain: RunReport = make.__wrapped__() if hasattr(make, "__wrapped__") else make.__pytest_wrapped__.obj()
    told = replace(
        plain,
        zoo=tuple(replace(row, model=name) for row in plain.zoo[:1] for name in HOSTILE),
        deliveries=tuple(
            replace(row, model=name, sample_output=name) for row in plain.deliveries[:1] for name in HOSTILE
        ),
    )
    print_report(told, tmp_path)
    printed = capsys.readouterr().out

    assert_tame(printed)
    assert all(visible(name) in printed for name in HOSTILE)


def test_a_stream_without_the_characters_gets_them_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.say("日本 [x]")

    assert raw.getvalue() == b"\\u65e5\\u672c [x]\n"


def calls_of_print(path: Path) -> list[int]:
    tree = ast.parse(path.read_text())
    names = ("print", "Console", "Table", "Text")
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


def test_text_goes_out_in_one_place() -> None:
    demo = Path(console.__file__).parent
    found = {
        str(path.relative_to(demo)): lines
        for path in sorted(demo.rglob("*.py"))
        if path.name != "console.py" and "experiments" not in path.parts and (lines := calls_of_print(path))
    }

    assert set(found) <= {"zoo/cli.py"}, found  # a caption of its own words


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"name": "\x9b\u202e日本"})
    printed = capsys.readouterr().out

    assert printed.isascii()
    assert json.loads(printed) == {"name": "\x9b\u202e日本"}
    assert not re.search(r"[^\n -~]", printed)
