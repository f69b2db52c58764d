"""Many worlds at once in torch: the fast twin of `slot.tables`, `place.greedy` and the slot costs."""

from policy.batched.env import VectorEnv
from policy.batched.placing import drop_to_fit, fill_scores, greedy_masks
from policy.batched.tables import BatchedRadio, batched_tables, update_table
from policy.batched.worlds import WorldBatch, batch_worlds

__all__ = [
    "BatchedRadio",
    "VectorEnv",
    "WorldBatch",
    "batch_worlds",
    "batched_tables",
    "drop_to_fit",
    "fill_scores",
    "greedy_masks",
    "update_table",
]
