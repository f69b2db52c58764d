"""Faults as a script: what breaks when, and when it comes back. See `README.md`."""
