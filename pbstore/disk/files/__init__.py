"""Files of a store: names, packs, locks, room on the disk. Nothing here knows a table."""
