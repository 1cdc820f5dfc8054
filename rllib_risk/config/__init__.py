"""Strict configuration: declarations, YAML loading, search spaces. No Ray, no torch."""
