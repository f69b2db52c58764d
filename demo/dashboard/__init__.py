"""A page to look at a run while it goes on or afterwards: on the loopback, read from its log alone."""

from demo.dashboard.app import create_app
from demo.dashboard.feed import LogFeed
from demo.dashboard.live import LiveRun

__all__ = ["LiveRun", "LogFeed", "create_app"]
