"""Files of checkpoints as bytes: where their tensors lie, and what only looks like a checkpoint."""
