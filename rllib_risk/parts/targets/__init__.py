"""Bellman targets: what the values should be."""
