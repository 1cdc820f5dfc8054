"""Errors of exported teams."""

from __future__ import annotations


class ArtefactError(RuntimeError):
    """An artefact that cannot be loaded; the message says why."""


class InputError(ValueError):
    """An observation, mask or return that the team cannot act on."""
