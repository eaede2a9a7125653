"""The configuration: files, YAML, schema."""
