"""Running scenarios."""
