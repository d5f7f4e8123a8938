"""Laws of token lengths: one registered kind per module."""
