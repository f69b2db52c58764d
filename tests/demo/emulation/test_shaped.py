"""A live edge on shaped links: the same deliveries as on plain ones, at the rates that were computed with."""

import threading
from pathlib import Path

import pytest

from demo.emulation.log import read_log
from demo.emulation.log.events import Broadcast, Delivered
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from tests.demo.emulation.conftest import small_run
from tests.demo.emulation.links.test_links import interfaces, needs_namespaces


@needs_namespaces
@pytest.mark.slow
def test_a_live_edge_on_shaped_links_delivers_everything_at_the_radio_s_rate(
    family: Path, tmp_path: Path
) -> None:
    before, threads = interfaces(), threading.active_count()
    run, pace = small_run(family, slots=2), 0.05
    config = EmulateConfig(run=run, runtime="processes", links="shaped", pace=pace, loss=0.02, clients=0)
    report = emulate(config, tmp_path / "shaped", progress=False)

    events = [line.event for line in read_log(tmp_path / "shaped" / LOG_NAME)]
    delivered = [event for event in events if isinstance(event, Delivered)]
    casts = [event for event in events if isinstance(event, Broadcast)]
    assert report.good
    assert delivered
    assert all(event.sha256_ok and event.unicast_weight_bytes == 0 for event in delivered)
    assert not any(event.missed for event in casts)
    for event in casts:
        assert event.ended_s - event.started_s > 8 * event.payload_bytes / (pace * event.rate_bit_s)
    assert interfaces() == before
    assert threading.active_count() <= threads + 1  # the pool of an HTTP client may still end


def test_shaped_links_need_processes_and_a_pace() -> None:
    for wrong in ({"pace": 1.0}, {"runtime": "processes"}):
        with pytest.raises(ValueError, match="shaped links need"):
            EmulateConfig(links="shaped", **wrong)  # type: ignore[arg-type]
