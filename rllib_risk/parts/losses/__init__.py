"""Losses of the agents' utilities and the mixer."""
