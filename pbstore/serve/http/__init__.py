"""Routes and middleware of the server, each file one protocol; what they share is in `context`."""
