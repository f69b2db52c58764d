"""Pictures, and the numbers beside them."""
