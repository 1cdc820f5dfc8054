"""Losses: how utilities and mixer learn."""
