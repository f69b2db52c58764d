"""The page in a real browser: it shows what the log says, through restarts, floods and hostile names."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from demo.dashboard import LogFeed, create_app
from demo.emulation.log import fold, read_log
from pbstore.serve.run import serving
from tests.demo.dashboard.logs import SAMPLE, write_log, write_slowly
from tests.ports import free_ports

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (`make setup`)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("needs chromium (Debian: apt-get install chromium)", allow_module_level=True)

LINES = SAMPLE.read_text().splitlines(keepends=True)
A_MINUTE = 10_000
"""Lines of a flood in a minute."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page, and all that it should not have said or asked."""

    def __init__(self, browser: Any, url: str, width: int = 1400) -> None:  # noqa: ANN401
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.faults: list[str] = []
        self.page.on("console", lambda one: self._note(one.type in ("error", "warning"), one.text))
        self.page.on("pageerror", lambda error: self._note(True, str(error)))
        self.page.on("request", lambda asked: self._note(not asked.url.startswith(url), f"asks {asked.url}"))
        self.page.goto(url)

    def _note(self, wrong: bool, text: str) -> None:
        if wrong:
            self.faults.append(text)

    def wait(self, script: str, seconds: float = 15.0) -> None:
        """Until it is true; `wait_for_function` would need what the page's policy forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(script):
            assert time.monotonic() < end, f"waited in vain for {script}; {self.faults}"
            self.page.wait_for_timeout(50)

    def get(self, script: str) -> Any:  # noqa: ANN401
        return self.page.evaluate(script)


@contextmanager
def server(path: Path, port: int = 0) -> Iterator[str]:
    with closing(LogFeed(path)) as feed, serving(create_app(feed), port=port) as url:
        yield url


@contextmanager
def shown(browser: Any, path: Path, width: int = 1400) -> Iterator[Watched]:  # noqa: ANN401
    with server(path) as url:
        watched = Watched(browser, url, width)
        yield watched
        watched.page.close()


def test_the_page_says_what_the_log_says(browser: Any) -> None:  # noqa: ANN401
    with shown(browser, SAMPLE) as watched:
        watched.wait(f"pbcast.history.count === {len(LINES)}")
        for at in (17.36, 4.1, 12.0, 0.5, 9.9):  # back and forth
            watched.get(f"pbcast.clock.playing = false; pbcast.clock.seek({at}, pbcast.history.endS)")
            watched.wait(f"pbcast.history.count === pbcast.history.upTo({at})")
            state = fold(read_log(SAMPLE), until_s=at)
            held = watched.get(
                "[...pbcast.history.state.nodes].map(([n, one]) => [n, [...one.held].sort((a, b) => a - b)])"
            )
            totals = watched.get("pbcast.history.state.totals")
            waiting = watched.get("[...pbcast.history.state.devices.values()].map((one) => one.waiting)")
            assert dict(held) == {number: sorted(node.held) for number, node in state.nodes.items()}
            assert totals["broadcastBytes"] == state.totals.broadcast_bytes
            assert totals["originBytes"] == state.totals.origin_bytes
            assert totals["backhaulBytes"] == state.totals.backhaul_bytes
            assert totals["requests"] == state.totals.requests
            assert waiting == [[list(one) for one in device.waiting] for device in state.devices.values()]
        watched.get("pbcast.clock.goLive()")
        watched.wait("document.querySelectorAll('#deliveries tr').length === 4")
        assert watched.page.locator("#deliveries").inner_text().count("✓ equal") == 4
        watched.page.fill("#unit", "97")
        assert "came to node" in watched.page.locator("#why").inner_text()
        assert watched.faults == []


def test_keys_play_step_and_seek(browser: Any) -> None:  # noqa: ANN401
    with shown(browser, SAMPLE) as watched:
        watched.wait(f"pbcast.history.count === {len(LINES)}")
        watched.page.keyboard.press(" ")
        watched.page.keyboard.press("ArrowLeft")
        watched.wait(f"pbcast.history.count === {len(LINES) - 1}")
        watched.page.keyboard.press("Shift+ArrowLeft")
        watched.wait("pbcast.history.lines[pbcast.history.count - 1].kind === 'slotbegan'")
        watched.page.keyboard.press("Home")
        watched.wait("pbcast.history.count <= 1")
        watched.page.keyboard.press("+")
        watched.page.keyboard.press("+")
        assert watched.get("pbcast.clock.speed") == 5
        watched.page.keyboard.press(" ")
        watched.wait("pbcast.history.count > 20")
        watched.page.keyboard.press("l")
        watched.wait(f"pbcast.history.count === {len(LINES)}")
        assert watched.faults == []


@pytest.mark.parametrize("width", [400, 768, 1400])
def test_nothing_is_wider_than_the_screen(browser: Any, width: int) -> None:  # noqa: ANN401
    with shown(browser, SAMPLE, width) as watched:
        watched.wait("document.querySelectorAll('#deliveries tr').length === 4")
        assert watched.get("document.documentElement.scrollWidth") <= width


def test_names_and_answers_are_text(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    write_log(tmp_path / "events.jsonl", 400)
    with shown(browser, tmp_path / "events.jsonl") as watched:
        watched.wait("document.querySelectorAll('#deliveries tr').length > 10")
        watched.page.fill("#unit", "2")
        assert "onerror" in watched.page.locator("#deliveries").inner_text()
        assert watched.get(
            "window.hacked === undefined && document.querySelectorAll('main img').length === 0"
        )
        assert watched.faults == []


def test_the_page_outlives_its_server(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path, (port,) = tmp_path / "events.jsonl", free_ports(1)
    path.write_text("".join(LINES[:200]))
    with server(path, port) as url:
        watched = Watched(browser, url)
        watched.wait("pbcast.history.count === 200")
    watched.wait("document.querySelector('#status').className === 'away'")
    with path.open("a") as file:
        file.writelines(LINES[200:])
    watched.faults.clear()  # that nobody answers is told by the browser itself
    with server(path, port):
        watched.wait(f"pbcast.history.count === {len(LINES)}", 20)
        assert watched.get("pbcast.history.lines.every((line, at) => line.seq === at)")
        watched.faults.clear()
        watched.wait("document.querySelector('#status').className === 'connected'")
        other = tmp_path / "other.jsonl"
        other.write_text("".join(LINES[:50]))
        other.replace(path)  # another run
        watched.wait("pbcast.history.count === 50")
        assert watched.faults == []
    watched.page.close()


def test_a_flood_does_not_make_it_lag(browser: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = tmp_path / "events.jsonl"
    before, more = A_MINUTE, 800
    writer = threading.Thread(target=write_slowly, args=(path, before, more, 60 / A_MINUTE))
    writer.start()
    try:
        with shown(browser, path) as watched:
            watched.wait(f"pbcast.history.count >= {before}", 30)
            watched.get(
                "window.gaps = []; let last = performance.now();"
                "const tick = (now) => { gaps.push(now - last); last = now; requestAnimationFrame(tick); };"
                "requestAnimationFrame(tick); 0"
            )
            writer.join()
            done = time.monotonic()
            watched.wait(f"pbcast.history.count === {before + more + 1}", 10)
            lag_s = time.monotonic() - done
            gaps = sorted(watched.get("gaps"))
            assert watched.faults == []
    finally:
        writer.join()
    assert lag_s < 2.0
    assert gaps[len(gaps) // 2] < 100
    assert gaps[-1] < 1500
