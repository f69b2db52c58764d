"""Formats on the wire, as pure functions: no files, no sockets, no clock."""
