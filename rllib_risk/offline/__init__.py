"""Offline learning: logs of what a team did, and how they are written and read."""
