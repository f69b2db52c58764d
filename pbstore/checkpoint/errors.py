"""The errors of reading and converting checkpoints: they stand in the tree of `pbstore.errors`."""

from pbstore.errors import CheckpointError, NotWeightsError

__all__ = ["CheckpointError", "NotWeightsError"]
