"""What a command does: runs that take minutes, are told of on stderr, and go on after a stop."""
