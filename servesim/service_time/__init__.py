"""How long work takes: models of the duration of an engine iteration."""
