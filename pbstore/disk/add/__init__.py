"""Adding a model: read, find bases, encode, keep, and take it back if it is refused."""
