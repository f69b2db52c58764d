"""Schemes meet worlds: the contract of a scheme, migration, rollout, observations, environments."""
