"""Mixers. Custom mixers are subclasses of :class:`Mixer`."""

from rllib_risk.parts.mixers.additive import NoMixer, SumMixer
from rllib_risk.parts.mixers.base import Mixer, MixerInputs
from rllib_risk.parts.mixers.duplex import DuplexMixer
from rllib_risk.parts.mixers.monotonic import (
    MonotonicMixer,
    MonotonicQuantileMixer,
)
from rllib_risk.parts.mixers.weighted import WeightedMixer

__all__ = [
    "DuplexMixer",
    "Mixer",
    "MixerInputs",
    "MonotonicMixer",
    "MonotonicQuantileMixer",
    "NoMixer",
    "SumMixer",
    "WeightedMixer",
]
