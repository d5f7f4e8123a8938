"""Arrival processes: one registered kind per module."""
