"""Rates of requests that follow the clock: one registered kind per module."""
