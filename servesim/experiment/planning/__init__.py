"""Choosing a configuration: candidates, bounds, sequential decisions, search. See docs/plan.md."""
