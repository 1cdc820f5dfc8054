"""Mixers. To write one of your own, subclass :class:`Mixer`."""

from rllib_risk.parts.mixers.additive import NoMixer, SumMixer
from rllib_risk.parts.mixers.base import Mixer, MixerInputs
from rllib_risk.parts.mixers.duplex import DuplexMixer
from rllib_risk.parts.mixers.monotonic import MonotonicMixer

__all__ = [
    "DuplexMixer",
    "Mixer",
    "MixerInputs",
    "MonotonicMixer",
    "NoMixer",
    "SumMixer",
]
