"""Sweeps killed at random moments."""
