"""Which waiting requests a request-level server computes together, and when."""
