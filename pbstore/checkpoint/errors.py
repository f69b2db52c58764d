"""The error of reading and converting checkpoints: it stands in the tree of `pbstore.errors`."""

from pbstore.errors import CheckpointError

__all__ = ["CheckpointError"]
