"""A store as a folder that can be read: each model a folder, each file read from the store's blocks."""

from pbstore.mount.fuse import mount
from pbstore.mount.tree import OpenFile, StoreTree

__all__ = ["OpenFile", "StoreTree", "mount"]
