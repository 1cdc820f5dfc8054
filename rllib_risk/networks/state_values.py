"""State-value critics and the normaliser of their targets.

Letters: ``B`` episodes, ``R`` rows of an episode, ``I`` input size, ``G`` values (1, or
``N`` agents).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.encoders import StandardEncoder
from rllib_risk.ops.targets import masked_mean
from rllib_risk.ops.value_norm import mean_and_deviation, update_moments


class StateCritic(nn.Module):
    """State-value critic of Yu et al., 2022 (MAPPO), without layer normalisation.

    The body is the agents' standard encoder: linear layer, ReLU, then a GRU over time
    (or a second linear layer with ReLU). A linear layer to one value follows.

    Attributes:
        bodies: Encoders: one shared by all values, or one per value.
        heads: Last layers: one shared by all values, or one per value.
    """

    def __init__(
        self,
        sizes: TeamSizes,
        input_size: int,
        hidden_size: int,
        *,
        recurrent: bool,
        copies: int,
    ) -> None:
        """Initializes the critic.

        Args:
            sizes: Sizes of the team and its observations.
            input_size: ``I``.
            hidden_size: Width of the hidden layers.
            recurrent: Whether to use a GRU.
            copies: Number of networks: 1 if all values share parameters, else ``G``.
        """
        super().__init__()
        options = StandardEncoder.Options(hidden_size=hidden_size, recurrent=recurrent)
        self.bodies = nn.ModuleList(
            StandardEncoder(sizes, input_size, options) for _ in range(copies)
        )
        self.heads = nn.ModuleList(nn.Linear(hidden_size, 1) for _ in range(copies))

    def forward(self, inputs: Tensor) -> Tensor:
        """Computes the values of whole episodes, from a zero hidden state.

        Args:
            inputs: Inputs ``[B, R, G, I]``.

        Returns:
            Values ``[B, R, G]``.
        """
        size = (inputs.shape[0], inputs.shape[2])
        if len(self.bodies) == 1:
            rows = inputs.transpose(1, 2).flatten(0, 1)  # [B * G, R, I]
            values = self._values(0, rows)
            return values.unflatten(0, size).transpose(1, 2)
        each = [self._values(g, inputs[:, :, g]) for g in range(size[1])]
        return torch.stack(each, dim=2)

    def _values(self, which: int, rows: Tensor) -> Tensor:
        """Computes values ``[*, R]`` from inputs ``[*, R, I]`` with one network."""
        features, _ = self.bodies[which](rows, None)
        return self.heads[which](features).squeeze(-1)


class ValueNormalizer(nn.Module):
    """Running mean and standard deviation of returns; see :mod:`..ops.value_norm`.

    Before the first update they are 0 and 0.1, as in the code of Yu et al. (2022).
    """

    def __init__(self) -> None:
        """Initializes the normaliser."""
        super().__init__()
        # A parameter without gradient, because checkpoints store only parameters.
        zeros = torch.zeros(3, dtype=torch.float64)
        self.moments = nn.Parameter(zeros, requires_grad=False)

    @torch.no_grad()
    def update(
        self,
        returns: Tensor,
        mask: Tensor,
        decay: float,
        mean: Callable[[Tensor, Tensor], Tensor] = masked_mean,
    ) -> None:
        """Updates the moments with one batch of returns.

        Args:
            returns: Returns, ``[B, T, G]``.
            mask: 1 on real steps, ``[B, T, 1]``.
            decay: Decay of the running moments in [0, 1).
            mean: See :func:`update_moments`.
        """
        self.moments.copy_(update_moments(self.moments, returns, mask, decay, mean))

    def statistics(self) -> tuple[float, float]:
        """Running mean and standard deviation of the returns."""
        mean, deviation = mean_and_deviation(self.moments)
        return mean.item(), deviation.item()

    def normalize(self, returns: Tensor) -> Tensor:
        """Normalises returns, of any shape, to the scale of the critic."""
        mean, deviation = self.statistics()
        return (returns - mean) / deviation

    def denormalize(self, values: Tensor) -> Tensor:
        """Converts values of the critic, of any shape, to the scale of returns."""
        mean, deviation = self.statistics()
        return values * deviation + mean


def orthogonal_init(module: nn.Module, gain: float) -> None:
    """Sets orthogonal weights and zero biases, as in the code of Yu et al. (2022).

    Args:
        module: Module to initialise. Only its linear and recurrent layers change.
        gain: Gain of the linear layers. Recurrent layers have gain 1.
    """
    for layer in module.modules():
        if not isinstance(layer, (nn.Linear, nn.RNNBase)):
            continue
        factor = gain if isinstance(layer, nn.Linear) else 1.0
        for parameter in layer.parameters(recurse=False):
            if parameter.dim() > 1:
                nn.init.orthogonal_(parameter, factor)
            else:
                nn.init.zeros_(parameter)
