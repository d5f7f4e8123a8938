"""The YAML: schema, loading, resolution."""
