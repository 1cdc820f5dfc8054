"""Creates the encoders and heads that a configuration names.

Letters: ``A`` actions, ``H`` number of features, ``M`` atoms, ``C`` size of the hidden
state.
"""

from __future__ import annotations

import torch

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.arrays import TORCH, step_of
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.heads import UtilityHead
from rllib_risk.parts.base import Choice


def make_encoder(choice: Choice, sizes: TeamSizes, input_size: int) -> Encoder:
    """Creates an encoder.

    Args:
        choice: The encoder and its options.
        sizes: Sizes of the team and its observations.
        input_size: Size of an agent's input.

    Returns:
        The encoder.

    Raises:
        ValueError: If a custom encoder does not take the arguments, or returns wrong
            shapes.
    """
    encoder: Encoder = choice.make(sizes=sizes, input_size=input_size)
    if not choice.is_own:
        return encoder
    size = getattr(encoder, "feature_size", None)
    if not isinstance(size, int) or size < 1:
        raise ValueError(
            f"encoder: {choice.name!r} must set self.feature_size, the number of its"
            " features, in __init__."
        )
    inputs, state = torch.zeros(2, 3, input_size), torch.zeros(2, encoder.state_size)
    with torch.no_grad():
        features, last = encoder(inputs, None)
        following = step_of(encoder, Encoder, TORCH)(inputs[:, 0], state)
    choice.check_shape(features, (2, 3, size))
    choice.check_shape(last, (2, encoder.state_size), of="the state of forward")
    choice.check_shape(following, (2, encoder.state_size), of="one_step")
    return encoder


def make_head(
    choice: Choice, feature_size: int, num_actions: int, num_atoms: int
) -> UtilityHead:
    """Creates a head.

    Args:
        choice: The head and its options.
        feature_size: ``H``.
        num_actions: ``A``.
        num_atoms: ``M``.

    Returns:
        The head.

    Raises:
        ValueError: If a custom head does not take the arguments, or returns a wrong
            shape.
    """
    head: UtilityHead = choice.make(
        feature_size=feature_size, num_actions=num_actions, num_atoms=num_atoms
    )
    if choice.is_own:
        fractions = torch.zeros(2, 3, num_atoms) if head.samples else None
        with torch.no_grad():
            atoms = head(torch.zeros(2, 3, feature_size), fractions)
        choice.check_shape(atoms, (2, 3, num_actions, num_atoms))
    return head
