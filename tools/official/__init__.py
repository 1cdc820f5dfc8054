"""Comparisons with released codes; see ``tools/compare_official.py``."""
