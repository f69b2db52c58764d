"""The page of a run: whole in itself, true to its report and log, with pictures for screen and paper."""

import csv
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from demo.cli import main
from demo.emulation.log import read_log
from demo.emulation.log.events import Broadcast, Transferred
from demo.jobs.report import RunReport
from demo.show.report import write_report
from demo.show.report_page import Part, figure, page, table
from demo.show.run_figures import draw_delays, interval
from demo.show.timeline import busiest_slot, spans_of
from tests.demo.dashboard.logs import HOSTILE, SAMPLE
from tests.demo.test_report import report as report  # the fixture

POINTS_AN_INCH = 72


class Loads(HTMLParser):
    """What a page would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form"):
            self.found.append(tag)
        for name, value in attrs:
            local = (value or "").startswith("#")
            if name in ("src", "href", "xlink:href", "srcset", "action") and not local:
                self.found.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.found.append(f"{tag} {name}")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    shutil.copy(SAMPLE, folder / "events.jsonl")
    write_report(folder)
    return folder


def test_a_page_loads_nothing(live: Path) -> None:
    text = (live / "report.html").read_text()
    assert Loads(text).found == []
    assert "url(" not in re.sub(r"url\(#\w+\)", "", text)
    assert "default-src 'none'" in text


def test_a_live_edge_is_told_with_its_hashes_and_a_slot(live: Path) -> None:
    text = (live / "report.html").read_text()
    for words in ("Timeline of one slot", "15e11a88d791b391", "192.4", "this page was made at commit"):
        assert words in text
    assert text.count("<svg") == 1


def test_names_are_text() -> None:
    text = page(HOSTILE, [Part(title=HOSTILE, body=table([HOSTILE], [[HOSTILE], ["\x1b[2J"]]))])
    assert Loads(text).found == []
    assert "\x1b" not in text


def test_the_timeline_has_every_copy_and_broadcast_of_its_slot() -> None:
    lines = list(read_log(SAMPLE))
    slot = busiest_slot(lines)
    spans = spans_of(lines, slot)
    own = [line.event for line in lines if getattr(line.event, "slot", None) == slot]
    casts = [event for event in own if isinstance(event, Broadcast)]
    copies = [event for event in own if isinstance(event, Transferred) and not event.why_not]
    assert sum(span.lane == "band" for span in spans) == len(casts)
    assert sum("to node" in span.lane for span in spans) == len(copies)
    assert min(span.start_s for span in spans) == 0.0
    assert all(span.start_s <= span.end_s for span in spans)


def width_in(pdf: Path) -> float:
    found = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", pdf.read_bytes())
    assert found is not None
    return float(found.group(1)) / POINTS_AN_INCH


def test_a_run_is_told_with_pictures_as_wide_as_they_are_printed(report: RunReport, tmp_path: Path) -> None:
    report.write(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text()
    assert Loads(text).found == []
    assert "2 models take 40% of their bytes." in text
    for name in ("delay_by_scheme", "savings"):
        assert width_in(tmp_path / f"figures/{name}-column.pdf") == pytest.approx(3.5, abs=0.02)
        assert width_in(tmp_path / f"figures/{name}-page.pdf") == pytest.approx(7.16, abs=0.02)
        assert b"/FontType 3" not in (tmp_path / f"figures/{name}-page.pdf").read_bytes()
        assert (tmp_path / f"figures/{name}.csv").exists()
    rows = list(csv.DictReader((tmp_path / "figures/delay_by_scheme.csv").read_text().splitlines()))
    assert [row["scheme"] for row in rows][: len(report.schemes)] == list(report.schemes)


def test_the_same_numbers_give_the_same_picture(report: RunReport, tmp_path: Path) -> None:
    drawn = [figure(lambda path: draw_delays(report, path), tmp_path / at, "delay", "") for at in "ab"]
    assert drawn[0].replace("a/delay", "b/delay") == drawn[1]
    for end in (".svg", "-column.pdf"):
        assert (tmp_path / f"a/delay{end}").read_bytes() == (tmp_path / f"b/delay{end}").read_bytes()


def test_the_interval_of_a_mean_is_student_s(report: RunReport) -> None:
    row = report.schemes["learned"]
    assert interval(row) == (0.5, 0.5)
    low, high = interval(replace(row, world_delays_s=(0.4, 0.5, 0.6)))
    assert (low, high) == pytest.approx((0.5 - 4.302653 * 0.1 / 3**0.5, 0.5 + 4.302653 * 0.1 / 3**0.5))


def test_the_bound_stands_in_the_picture_and_its_numbers(report: RunReport, tmp_path: Path) -> None:
    draw_delays(replace(report, bounds={"unlimited_s": 0.3}), tmp_path / "delay.svg")
    assert "no scheme can do better: 0.30 s" in (tmp_path / "delay.svg").read_text()
    rows = list(csv.DictReader((tmp_path / "delay.csv").read_text().splitlines()))
    assert rows[-1]["mean_delay_s"] == "0.3"
    assert len(rows) == len(report.schemes) + 1


@pytest.mark.parametrize("wrong", ["nothing", "empty", "torn"])
def test_what_is_no_run_is_told_in_a_line(
    tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / wrong
    if wrong != "nothing":
        folder.mkdir()
    if wrong == "torn":
        (folder / "emulate.json").write_text("{")
    assert main(["report", str(folder)]) == 1
    assert str(folder) in capsys.readouterr().err
