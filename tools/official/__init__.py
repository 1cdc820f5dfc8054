"""Comparisons with papers' released code; see ``tools/compare_official.py``."""
