"""Pure decisions: no clock, no SimPy."""
