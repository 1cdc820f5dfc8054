"""What a joint critic is: an unrestricted value of the joint action.

A monotone or additive team value cannot fit every payoff. QTRAN and WQMIX therefore
learn a second value without that restriction, take their targets from it, and fit the
restricted one to it.

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

if TYPE_CHECKING:
    from rllib_risk.parts.view import View


class JointCritic(Part, nn.Module):
    """Value of the joint action, not restricted to what agents can maximize alone.

    Attributes:
        needs_state: Whether an environment without a state must be refused.
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
            sizes: What the environment fixes.
            feature_size: ``H``.
            make_encoder: A new encoder of the agents' inputs, as theirs are.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(options)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See Part."""
        name = f"joint_critic: {config.joint_critic!r}"
        if config.mixer == "none":
            yield (
                f"{name} teaches one value of the team, and mixer 'none' has one per"
                " agent; choose another mixer."
            )
        if not config.double_q:
            yield (
                f"{name} is evaluated at the online network's greedy actions; set"
                " double_q: true."
            )

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """What the critic reads of whole episodes, for any joint actions.

        Args:
            inputs: The agents' inputs, ``[B, T, N, I]``.
            features: The agents' own features of them, ``[B, T, N, H]``.

        Returns:
            ``[B, T, N, F]``, of any size ``F``.
        """
        raise NotImplementedError

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """The value of a joint action at every step.

        Args:
            encoded: From :meth:`encode`, ``[B, T, N, F]``.
            actions: int64 ``[B, T, N]``.
            state: ``[B, T, S]``.

        Returns:
            ``[B, T, 1]``.
        """
        raise NotImplementedError

    def next_values(self, view: View) -> Tensor:
        """What targets take for the value of what followed each step.

        Asked of the target network's critic, without gradients. By default its value of
        the greedy joint action there.

        Args:
            view: The batch.

        Returns:
            ``[B, T, 1]``.
        """
        return view.target_network.joint_values_of(
            view.encoded.following, view.next_greedy, view.next_state
        )


class NoCritic(JointCritic):
    """None: targets come from the mixed value."""

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See Part."""
        yield from ()


def make_joint_critic(
    choice: Choice,
    sizes: TeamSizes,
    input_size: int,
    feature_size: int,
    make_encoder: Callable[[], Encoder],
) -> JointCritic | None:
    """The joint critic that a configuration names.

    Args:
        choice: The critic and its options.
        sizes: What the environment fixes.
        input_size: ``I``.
        feature_size: ``H``.
        make_encoder: A new encoder of the agents' inputs.

    Returns:
        The critic, or None.

    Raises:
        ValueError: If it needs a state that is not there, or a critic of the user's own
            does not take the arguments or give the shape that it must.
    """
    if choice.part is NoCritic:
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
