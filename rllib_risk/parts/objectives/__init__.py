"""Objectives: what a team maximizes, and so which risk it controls."""
