"""A report survives its file, and its pictures show every scheme."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from demo.console import PlainConsole
from demo.jobs.config import scheme_names
from demo.jobs.report import CatalogReport, DeliveryReport, RunReport, SchemeReport, ZooReport
from demo.show.run_figures import draw_figures
from demo.show.run_tables import reading_lines, run_load_lines, run_load_table
from policy.config import ScenarioConfig
from policy.evaluation import Load
from policy.schemes import find_scheme


@pytest.fixture
def report() -> RunReport:
    measured = SchemeReport(
        mean_delay_s=0.5,
        p95_delay_s=0.9,
        airtime_s=12.0,
        migrated_bytes=3,
        cloud_bytes=4,
        cache_update_bytes=5,
        hit_ratio=0.5,
        worst_gap=0.01,
        load=Load(
            band=0.4,
            backhaul=0.1,
            cloud=0.2,
            busiest_link=1.2,
            band_backlog_s=0.0,
            link_backlog_s=7.5,
            update_cut_bytes=2e6,
        ),
    )
    return RunReport(
        seed=7,
        settings={
            "nodes": 4,
            "users": 12,
            "capacity_share": 0.2,
            "slots": 24,
            "scenario": ScenarioConfig().to_dict(),
        },
        catalog=CatalogReport(
            models=2,
            blocks=10,
            raw_bytes=2_000_000,
            file_dedup_bytes=1_900_000,
            block_dedup_bytes=1_000_000,
            disk_bytes=800_000,
        ),
        bounds={"unlimited_s": 0.4},
        schemes={"whole-model": measured, "learned": measured, "learned+no-comp": measured},
        deliveries=(
            DeliveryReport(
                model="org/a",
                user=1,
                slot=0,
                delay_s=0.4,
                bytes_sent=9,
                sha256_ok=True,
                inference_equal=True,
                sample_output="sport",
            ),
        ),
        zoo=(
            ZooReport(
                model="org/a", base=None, kind="base", raw_bytes=9, metric="accuracy", value=0.9, majority=0.2
            ),
        ),
    )


def test_a_report_survives_its_file(report: RunReport, tmp_path: Path) -> None:
    assert RunReport.read(report.write(tmp_path)) == report
    assert RunReport.read(tmp_path) == report
    assert json.loads((tmp_path / "report.json").read_text())["versions"]["python"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 1}'])
def test_a_file_that_is_no_report_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=r"is no report of a run"):
        RunReport.read(tmp_path)


def test_the_pictures_are_drawn(report: RunReport, tmp_path: Path) -> None:
    for path in draw_figures(report, tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_fields_of_the_file_are_fixed(report: RunReport) -> None:
    fields = {"seed", "versions", "settings", "catalogue", "schemes", "bounds", "deliveries", "zoo"}
    assert set(report.to_dict()) == fields


def test_a_lever_that_shows_nothing_is_told_with_what_is_left_to_gain(report: RunReport) -> None:
    bound, lever = [line for line in reading_lines(report) if "%" in line][1:3]

    assert "0.400 s" in bound
    assert "20% below learned" in bound
    assert lever.startswith("CoMP: +0.0%")
    assert "nobody can take more than 20% off that row" in lever
    assert "nobody" not in "".join(reading_lines(replace(report, bounds={})))


@pytest.mark.parametrize("name", scheme_names())
def test_run_and_evaluate_call_a_scheme_the_same(name: str) -> None:
    assert find_scheme(name).name == name


def test_load_stands_beside_the_schemes_and_too_much_is_a_warning(report: RunReport, tmp_path: Path) -> None:
    again = RunReport.read(report.write(tmp_path))
    (line,) = run_load_lines(again)

    assert again.schemes == report.schemes
    assert "120%" in line
    assert "delays the slots after" in line
    screen = StringIO()
    run_load_table(again).print(PlainConsole(screen))
    assert "7.5" in screen.getvalue()
