"""Between a scenario's pool and the command that starts the same engine: flags both ways, Kubernetes values."""
