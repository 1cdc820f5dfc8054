"""Objectives: what a team maximizes, and which risk it controls."""
