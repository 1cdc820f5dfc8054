"""Errors of exported teams."""

from __future__ import annotations


class ArtefactError(RuntimeError):
    """An artefact cannot be loaded; the message says why."""


class InputError(ValueError):
    """An observation, mask or return is missing or wrong."""
