"""Small programs that show how `policy` is used; each is run by a test."""
