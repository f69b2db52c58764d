"""Blocks on the disk: read, written in one transaction, counted anew, recovered."""
