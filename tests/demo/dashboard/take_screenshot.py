"""Takes the README's picture of the dashboard anew, from the log of a run.

`pbcast run --size small --scheme rendezvous --out out/shown`, then
`python tests/demo/dashboard/take_screenshot.py out/shown 4.4`: the folder, and what time to show.
"""

import sys
from contextlib import closing
from pathlib import Path

from playwright.sync_api import sync_playwright

from demo.dashboard import LogFeed, create_app
from pbstore.serve.run import serving

PICTURE = Path(__file__).parents[3] / "demo" / "docs" / "pages" / "pictures" / "dashboard.png"
SHOWN_S = 0.35
"""How long copies and broadcasts stay on the map before the time that is shown, s."""


def main(folder: Path, at_s: float) -> None:
    """Take it."""
    with (
        sync_playwright() as tools,
        closing(LogFeed(folder / "events.jsonl")) as feed,
        serving(create_app(feed)) as url,
    ):
        browser = tools.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 826}, color_scheme="light")
        page.goto(url)
        page.wait_for_timeout(4000)
        for at in (at_s - SHOWN_S, at_s):
            page.evaluate(f"pbcast.clock.playing = false; pbcast.clock.seek({at}, pbcast.history.endS)")
            page.wait_for_timeout(1000)
        page.screenshot(path=str(PICTURE))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
