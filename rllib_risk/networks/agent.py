"""The network of one agent (or of all agents, if they share parameters).

Letters: ``R`` rows (episodes times agents), ``I`` input size, ``H`` number of features,
``C`` size of the hidden state, ``A`` actions, ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step, step_of
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.heads import LinearHead, UtilityHead
from rllib_risk.networks.level_predictor import RiskLevelPredictor


@dataclass
class AgentStep:
    """The functions of one acting step, for tensors or for arrays.

    Attributes:
        encode: Maps inputs ``[R, I]`` and hidden state ``[R, C]`` to the next hidden
            state.
        encode_history: Same function of the history encoder; None without a predictor.
        levels: Maps both hidden states ``[R, C]`` to level logits ``[R, K]``; None
            without a predictor.
    """

    encode: Step
    encode_history: Step | None = None
    levels: Step | None = None


class AgentNetwork(nn.Module):
    """An encoder, a head with ``M`` return atoms per action, and a level predictor.

    Attributes:
        encoder: Maps inputs to features.
        head: Maps features to atoms.
        predictor: The risk level predictor, or None.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: UtilityHead,
        predictor: RiskLevelPredictor | None = None,
    ) -> None:
        """Initializes the network.

        Args:
            encoder: Maps inputs to features.
            head: Maps features to atoms.
            predictor: The risk level predictor, or None.
        """
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.predictor = predictor

    def one_step(self, xp: Namespace) -> AgentStep:
        """Builds the functions of one acting step, without the head.

        Args:
            xp: Array namespace; see :mod:`rllib_risk.networks.arrays`.
        """
        encoder, predictor = self.encoder, self.predictor
        step = AgentStep(step_of(encoder, Encoder, xp))
        if predictor is None:
            return step
        compare = predictor.comparison(xp, cast("LinearHead", self.head))
        features_of = encoder.features_of

        def levels(state: Rows, history: Rows) -> Rows:
            return compare(features_of(state), features_of(history))

        step.encode_history = step_of(predictor.history, Encoder, xp)
        step.levels = levels
        return step

    def step(self, inputs: Tensor, state: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Computes one acting step, without the head.

        Args:
            inputs: Inputs of the agents, ``[R, I]``.
            state: Hidden state, ``[R, C]``.
            *past: With a predictor, the history encoder's inputs ``[R, I]`` and hidden
                state ``[R, C]``.

        Returns:
            The next hidden state ``[R, C]``, which begins with the features. With a
            predictor also the next hidden state of the history encoder ``[R, C]`` and
            the level logits ``[R, K]``.
        """
        step = self.one_step(TORCH)
        state = step.encode(inputs, state)
        if step.encode_history is None or step.levels is None:
            return (state,)
        history = step.encode_history(*past)
        return state, history, step.levels(state, history)

    def level_logits(self, features: Tensor, history_features: Tensor) -> Tensor:
        """Computes the logits of the risk levels; needs a predictor.

        Args:
            features: Features of the encoder, ``[..., H]``.
            history_features: Features of the history encoder, ``[..., H]``.

        Returns:
            Logits ``[..., K]``.
        """
        predictor = cast("RiskLevelPredictor", self.predictor)
        return predictor(features, history_features, cast("LinearHead", self.head))

    def predictor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the risk level predictor; empty if there is no predictor."""
        return [] if self.predictor is None else list(self.predictor.parameters())

    def atoms(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Computes the return atoms of every action.

        Args:
            features: Features ``[..., H]``.
            fractions: Quantile fractions ``[..., M]``, if quantiles are sampled.

        Returns:
            Unsorted atoms ``[..., A, M]``.
        """
        return self.head(self.encoder.readout(features), fractions)

    def atoms_of(
        self, features: Tensor, actions: Tensor, fractions: Tensor | None = None
    ) -> Tensor:
        """Computes the return atoms of one action per row.

        Args:
            features: Features ``[..., H]``.
            actions: Actions, int64 ``[...]``.
            fractions: Quantile fractions ``[..., M]``, if quantiles are sampled.

        Returns:
            Unsorted atoms ``[..., M]``.
        """
        read = self.encoder.readout(features)
        return self.head.of_actions(read, actions, fractions)
