"""A page to look at a run while it goes on or afterwards: on the loopback, read from its log alone."""

from demo.dashboard.app import create_app
from demo.dashboard.feed import LogFeed
from demo.dashboard.live import Chosen, LiveRun

__all__ = ["Chosen", "LiveRun", "LogFeed", "create_app"]
