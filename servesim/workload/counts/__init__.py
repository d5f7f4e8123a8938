"""Laws of small whole numbers (requests of a burst, turns of a session): one registered kind per module."""
