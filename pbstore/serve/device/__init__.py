"""A cache of blocks on a device, between its clients and the edge node that they ask."""

from pbstore.serve.device.app import create_device_app
from pbstore.serve.device.cache import BlockCache

__all__ = ["BlockCache", "create_device_app"]
