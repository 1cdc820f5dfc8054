"""Bellman targets of the values."""
