"""The index of a store, in SQLite: the only room with statements of it."""
