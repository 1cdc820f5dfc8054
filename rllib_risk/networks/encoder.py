"""What an encoder is: from an agent's inputs, step by step, to features.

Letters: ``R`` rows (episodes times agents), ``T`` steps, ``I`` input size, ``H`` number
of features, ``C`` size of the state that lasts between steps.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rllib_risk.config.part import Part
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step


class Encoder(Part, nn.Module):
    """What an agent makes of its observations.

    An encoder of your own sets :attr:`feature_size` and defines :meth:`forward`, and
    :meth:`one_step` if acting is to be fast. What lasts between steps is one row of
    numbers, the *state*. It begins with the features of the step and is zero before
    the first one.

    Attributes:
        feature_size: ``H``.
        memory_size: Numbers of the state beside the features.
        has_memory: Whether features depend on earlier steps.
    """

    feature_size: int
    memory_size: int = 0
    has_memory: bool = True

    def __init__(self, sizes: TeamSizes, input_size: int, options: Any = None) -> None:
        """Initializes the encoder.

        Args:
            sizes: What the environment fixes. An input begins with the observation,
                ``sizes.obs_size`` numbers; then come the agent's last action and its
                id, one-hot, unless the configuration leaves them out.
            input_size: ``I``.
            options: See :class:`~rllib_risk.config.part.Part`.
        """
        super().__init__(options)

    @property
    def state_size(self) -> int:
        """``C``."""
        return self.feature_size + self.memory_size

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encodes a stretch of time.

        Args:
            inputs: ``[R, T, I]``.
            state: ``[R, C]`` before the first step, or None for zeros.

        Returns:
            Features ``[R, T, H]`` and the state after the last step ``[R, C]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def one_step(self, xp: Namespace) -> Step:
        """One step of acting; see :mod:`rllib_risk.networks.arrays`.

        Args:
            xp: Operations on tensors, or on arrays.

        Returns:
            From inputs ``[R, I]`` and a state ``[R, C]`` to the next state ``[R, C]``.
        """

        def step(inputs: Tensor, state: Tensor) -> Tensor:
            return self(inputs.unsqueeze(1), state)[1]

        return xp.without_own_step(self, step)

    def features_of(self, state: Rows) -> Rows:
        """The features of the step that led to a state.

        Args:
            state: ``[..., C]``.

        Returns:
            ``[..., H]``.
        """
        # Without further memory the slice is spared: with few rows every call counts.
        return state[..., : self.feature_size] if self.memory_size else state

    def readout(self, features: Rows, xp: Namespace = TORCH) -> Rows:
        """What last layers read of the features.

        Args:
            features: ``[..., H]``.
            xp: Operations on tensors, or on arrays.

        Returns:
            ``[..., H]``.
        """
        return features
