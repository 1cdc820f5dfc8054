"""Base class of encoders, which map an agent's inputs to features step by step.

Letters: ``R`` rows (episodes times agents), ``T`` steps, ``I`` input size, ``H`` number
of features, ``C`` size of the hidden state.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rllib_risk.config.part import Part
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step


class Encoder(Part, nn.Module):
    """Maps an agent's inputs to features.

    A custom encoder sets :attr:`feature_size` and defines :meth:`forward`. It also
    defines :meth:`one_step` if acting should be fast. The *hidden state* is one row of
    numbers that is kept between steps. It begins with the features of the step and is
    zero before the first step.

    Attributes:
        feature_size: ``H``.
        memory_size: Size of the hidden state without the features.
        has_memory: Whether features depend on earlier steps.
    """

    feature_size: int
    memory_size: int = 0
    has_memory: bool = True

    def __init__(self, sizes: TeamSizes, input_size: int, options: Any = None) -> None:
        """Initializes the encoder.

        Args:
            sizes: Sizes of the team and its observations. An input begins with the
                observation (``sizes.obs_size`` numbers). The agent's last action and
                its id follow, one-hot, unless the configuration leaves them out.
            input_size: ``I``.
            options: See :class:`~rllib_risk.config.part.Part`.
        """
        super().__init__(options)

    @property
    def state_size(self) -> int:
        """Size of the hidden state, ``C``."""
        return self.feature_size + self.memory_size

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encodes a sequence of steps.

        Args:
            inputs: Inputs ``[R, T, I]``.
            state: Hidden state before the first step, ``[R, C]``. None: zeros.

        Returns:
            Features ``[R, T, H]`` and the hidden state after the last step ``[R, C]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def one_step(self, xp: Namespace) -> Step:
        """Builds the acting step; see :mod:`rllib_risk.networks.arrays`.

        Args:
            xp: Array namespace, :data:`.arrays.TORCH` or :data:`.arrays.NUMPY`.

        Returns:
            A function from inputs ``[R, I]`` and hidden state ``[R, C]`` to the next
            hidden state ``[R, C]``.
        """

        def step(inputs: Tensor, state: Tensor) -> Tensor:
            return self(inputs.unsqueeze(1), state)[1]

        return xp.without_own_step(self, step)

    def features_of(self, state: Rows) -> Rows:
        """Returns the features that a hidden state contains.

        Args:
            state: Hidden states ``[..., C]``.

        Returns:
            Features ``[..., H]``.
        """
        # Skip the slice if it is not needed: with few rows every call counts.
        return state[..., : self.feature_size] if self.memory_size else state

    def readout(self, features: Rows, xp: Namespace = TORCH) -> Rows:
        """Maps features to the input of the head; the identity by default.

        Args:
            features: Features ``[..., H]``.
            xp: Array namespace, :data:`.arrays.TORCH` or :data:`.arrays.NUMPY`.

        Returns:
            Inputs of the head ``[..., H]``.
        """
        return features
