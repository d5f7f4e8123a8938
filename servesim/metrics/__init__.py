"""What is recorded of a run, and every number that is computed from it."""
