"""The network of one agent (or of all agents, if they share parameters).

Letters: ``R`` rows (episodes times agents), ``I`` input size, ``H`` number of features,
``C`` size of the state that lasts between steps, ``A`` actions, ``M`` atoms, ``K`` risk
levels.
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
    """One step of acting, on tensors or on arrays.

    Attributes:
        encode: From inputs ``[R, I]`` and state ``[R, C]`` to the next state.
        encode_history: The same of the history encoder, or None.
        levels: From both states ``[R, C]`` to level logits ``[R, K]``, or None.
    """

    encode: Step
    encode_history: Step | None = None
    levels: Step | None = None


class AgentNetwork(nn.Module):
    """Encoder, a head to ``M`` return atoms per action, and perhaps a level predictor.

    Attributes:
        encoder: From inputs to features.
        head: From features to atoms.
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
            encoder: From inputs to features.
            head: From features to atoms.
            predictor: The risk level predictor, or None.
        """
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.predictor = predictor

    def one_step(self, xp: Namespace) -> AgentStep:
        """One step of acting, up to the head.

        Args:
            xp: Operations on tensors, or on arrays; see
                :mod:`rllib_risk.networks.arrays`.
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
        """One step of acting, up to the head.

        Args:
            inputs: ``[R, I]``.
            state: ``[R, C]``.
            *past: With a predictor the history encoder's inputs ``[R, I]`` and state
                ``[R, C]``.

        Returns:
            The next state ``[R, C]``, the features first; with a predictor also the
            next history state ``[R, C]`` and the level logits ``[R, K]``.
        """
        step = self.one_step(TORCH)
        state = step.encode(inputs, state)
        if step.encode_history is None or step.levels is None:
            return (state,)
        history = step.encode_history(*past)
        return state, history, step.levels(state, history)

    def level_logits(self, features: Tensor, history_features: Tensor) -> Tensor:
        """Logits of the risk levels; there must be a predictor.

        Args:
            features: ``[..., H]``.
            history_features: ``[..., H]``.

        Returns:
            ``[..., K]``.
        """
        predictor = cast("RiskLevelPredictor", self.predictor)
        return predictor(features, history_features, cast("LinearHead", self.head))

    def predictor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the risk level predictor; none if there is no predictor."""
        return [] if self.predictor is None else list(self.predictor.parameters())

    def atoms(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Return atoms of every action.

        Args:
            features: ``[..., H]``.
            fractions: ``[..., M]`` where quantiles are sampled.

        Returns:
            ``[..., A, M]``, in no order.
        """
        return self.head(self.encoder.readout(features), fractions)

    def atoms_of(
        self, features: Tensor, actions: Tensor, fractions: Tensor | None = None
    ) -> Tensor:
        """Return atoms of one action per row.

        Args:
            features: ``[..., H]``.
            actions: int64 ``[...]``.
            fractions: ``[..., M]`` where quantiles are sampled.

        Returns:
            ``[..., M]``.
        """
        read = self.encoder.readout(features)
        return self.head.of_actions(read, actions, fractions)
