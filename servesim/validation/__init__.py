"""Measured against simulated: replays of real runs, their errors, and the book of all of them (docs/validation.md)."""
