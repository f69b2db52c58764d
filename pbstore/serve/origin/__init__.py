"""Models on an object store: immutable, create-only objects, and nothing else."""
