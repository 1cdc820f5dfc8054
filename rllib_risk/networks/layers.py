"""Layers that several networks share."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedMLPs(nn.Module):
    """MLPs of the same shape and input, computed as one batch.

    The result is the same as that of ``count`` separate :func:`mlp` networks with the
    same initialisation. Computed one by one, the thirty small networks of ten heads
    take several times as long.
    """

    def __init__(self, count: int, *sizes: int) -> None:
        """Initializes the networks.

        Args:
            count: Number of networks.
            *sizes: Sizes of the input, of every hidden layer, and of the output.
        """
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            bound = inputs**-0.5  # nn.Linear's bound for weights and biases
            for parameters, size in ((self.weights, inputs), (self.biases, 1)):
                values = torch.empty(count, size, outputs).uniform_(-bound, bound)
                parameters.append(nn.Parameter(values))

    def forward(self, inputs: Tensor) -> Tensor:
        """Computes the output of every network.

        Args:
            inputs: Common input, ``[B, T, .]``.

        Returns:
            Outputs ``[count, B, T, .]``.
        """
        hidden = inputs.flatten(0, -2).expand(len(self.weights[0]), -1, -1)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if k:
                hidden = hidden.relu()
            hidden = torch.baddbmm(bias, hidden, weight)  # [count, B * T, .]
        return hidden.unflatten(1, inputs.shape[:-1])


def mlp(*sizes: int) -> nn.Sequential:
    """Builds linear layers of the given sizes with ReLU between them."""
    layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
    for size, following in pairwise(sizes[1:]):
        layers += [nn.ReLU(), nn.Linear(size, following)]
    return nn.Sequential(*layers)
