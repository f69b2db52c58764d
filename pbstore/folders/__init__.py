"""Folders outside of a store: read as they were at one time, written back, and kept apart from stores."""
