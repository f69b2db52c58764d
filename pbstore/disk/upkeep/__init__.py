"""Keeping a store: room, forms, checks and repair, and what is told of it."""
