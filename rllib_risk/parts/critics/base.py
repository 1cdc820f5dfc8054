"""Base class of joint critics: unrestricted values of the joint action.

A monotonic or additive team value cannot fit every payoff. QTRAN and WQMIX therefore
learn a second value without that restriction. They take their targets from it, and fit
the restricted value to it.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``I`` input size,
``H`` number of features, ``S`` state size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.networks.encoder import Encoder
from rllib_risk.parts.base import Choice, Part
from rllib_risk.parts.slots import VALUE_PARTS

if TYPE_CHECKING:
    from rllib_risk.parts.view import View


class JointCritic(Part, nn.Module):
    """Unrestricted value of the joint action.

    Attributes:
        needs_state: Whether the critic needs a global state.
    """

    needs_state = False

    def __init__(
        self,
        sizes: TeamSizes,
        feature_size: int,
        make_encoder: Callable[[], Encoder],
        options: Any = None,
    ) -> None:
        """Initializes the critic.

        Args:
            sizes: Sizes of the team and its observations.
            feature_size: ``H``.
            make_encoder: Creates an encoder of the agents' inputs, of the agents' kind.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(options)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        name = f"joint_critic: {config.joint_critic!r}"
        if VALUE_PARTS.part("mixer", config).form == "none":
            yield (
                f"{name} trains one value of the team, but mixer {config.mixer!r} has"
                " one value per agent. Choose another mixer."
            )
        if not config.double_q:
            yield (
                f"{name} is evaluated at the online network's greedy actions. Set"
                " double_q: true."
            )

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Encodes whole episodes, independently of the joint action.

        Args:
            inputs: The agents' inputs, ``[B, T, N, I]``.
            features: The agents' features of these inputs, ``[B, T, N, H]``.

        Returns:
            Encodings ``[B, T, N, F]``, of any size ``F``.
        """
        raise NotImplementedError

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """Computes the value of a joint action at every step.

        Args:
            encoded: Result of :meth:`encode`, ``[B, T, N, F]``.
            actions: Joint actions, int64 ``[B, T, N]``.
            state: Global states, ``[B, T, S]``.

        Returns:
            Values ``[B, T, 1]``.
        """
        raise NotImplementedError

    def next_values(self, view: View) -> Tensor:
        """Computes the next values that targets bootstrap from.

        It is called for the target network's critic, without gradients. By default it
        returns the critic's value of the next greedy joint action.

        Args:
            view: The batch.

        Returns:
            Next values ``[B, T, 1]``.
        """
        return view.target_network.joint_values_of(
            view.encoded.following, view.next_greedy, view.next_state
        )


class NoCritic(JointCritic):
    """No joint critic: targets come from the mixed value."""

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from ()


def make_joint_critic(
    choice: Choice,
    sizes: TeamSizes,
    input_size: int,
    feature_size: int,
    make_encoder: Callable[[], Encoder],
) -> JointCritic | None:
    """Creates the joint critic that a configuration names.

    Args:
        choice: The critic and its options.
        sizes: Sizes of the team and its observations.
        input_size: ``I``.
        feature_size: ``H``.
        make_encoder: Creates an encoder of the agents' inputs.

    Returns:
        The critic, or None.

    Raises:
        ValueError: If the critic needs a global state and there is none, or a custom
            critic does not take the arguments or returns a wrong shape.
    """
    if issubclass(choice.part, NoCritic):
        return None
    if choice.part.needs_state and sizes.state_size == 0:
        raise NeedsStateError("joint_critic", choice.name)
    critic: JointCritic = choice.make(
        sizes=sizes, feature_size=feature_size, make_encoder=make_encoder
    )
    if choice.is_own:
        n = sizes.num_agents
        inputs, features = (torch.zeros(2, 3, n, s) for s in (input_size, feature_size))
        actions = torch.zeros(2, 3, n, dtype=torch.int64)
        with torch.no_grad():
            encoded = critic.encode(inputs, features)
            values = critic(encoded, actions, torch.zeros(2, 3, sizes.state_size))
        choice.check_shape(values, (2, 3, 1))
    return critic
