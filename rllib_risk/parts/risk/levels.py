"""Sources of the risk level: static, or predicted per agent and step.

Letters: ``A`` actions, ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_RATE, MAX_WIDTH
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.level_predictor import RiskLevelPredictor
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.parts.base import Part
from rllib_risk.parts.objectives.base import LevelOptions
from rllib_risk.parts.slots import VALUE_PARTS


class RiskLevel(Part):
    """Base class of sources of the risk level.

    Attributes:
        levels: The possible risk levels, in (0, 1].
        predicted: Whether a level is predicted per agent and step.
        straight_through: Whether the level predictor gets gradients through the risk
            measure.
        history_lag: Number of steps by which the inputs of the history encoder lag.
    """

    levels: tuple[float | Fraction, ...] = (1.0,)
    predicted: bool = False
    straight_through: bool = False
    history_lag: int = 0

    def at(self, env_steps: int) -> float | None:
        """Returns the level after some env steps; None if it is not scheduled.

        Args:
            env_steps: Env steps sampled so far.
        """
        return None

    def make_predictor(
        self, history: Encoder, num_outputs: int, num_agents: int
    ) -> RiskLevelPredictor:
        """Creates the level predictor; only for predicted levels.

        Args:
            history: A new encoder, for the history.
            num_outputs: ``A * M``, number of outputs of the head.
            num_agents: Number of agents.
        """
        raise NotImplementedError(f"{type(self).__name__} predicts no risk level.")


class StaticLevel(RiskLevel):
    """One risk level for the whole team, constant or scheduled over env steps."""

    Options = LevelOptions
    options: LevelOptions

    def __init__(self, options: LevelOptions | None = None) -> None:
        """Initializes the level with the first value of the schedule."""
        super().__init__(options)
        alpha = self.options.alpha
        self.levels = (alpha[0][1] if isinstance(alpha, list) else alpha,)

    def at(self, env_steps: int) -> float:
        """See :meth:`RiskLevel.at`."""
        return schedule_value(self.options.alpha, env_steps)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        chosen = VALUE_PARTS.chosen(config).items()
        others = (part for key, part in chosen if key != "risk_mode")
        if config.alpha == 1.0 or any(part.has_key("alpha") for part in others):
            return
        if not VALUE_PARTS.part("risk_measure", config).uses_level:
            yield (
                "alpha: has no effect with risk_measure:"
                f" {config.risk_measure} and objective: {config.objective}. It is the"
                " risk level of cvar and var, and of objectives nested and static. Set"
                " one of these, or leave alpha out."
            )


class PredictedLevel(RiskLevel):
    """A risk level predicted per agent and step: RMIX (Qiu et al., NeurIPS 2021), 4.1.

    See :class:`~rllib_risk.networks.level_predictor.RiskLevelPredictor`.
    """

    predicted = True

    @dataclass(frozen=True)
    class Options:
        risk_levels: int = option(
            10,
            "Number K of predicted risk levels: 1/K, 2/K, ..., 1.",
            low=1,
            high=MAX_WIDTH,
            fixed=True,
        )
        risk_grad: Literal["straight_through", "frozen"] = option(
            "straight_through",
            "Gradient of the level predictor: a straight-through estimate"
            " (straight_through), or none, as in the released code (frozen).",
        )
        risk_embed_dim: int | None = option(
            None,
            "Size of the level predictor's embedding; null: number of agents.",
            low=1,
            high=MAX_WIDTH,
            fixed=True,
        )
        risk_logit_scale: float | None = option(
            None,
            "Factor on the level predictor's logits; null: 1/sqrt(hidden_size).",
            low=0.0,
            low_open=True,
        )
        risk_tie_femb: bool = option(
            False,
            "Whether both sides of the level predictor share one embedding.",
            fixed=True,
        )
        risk_history_lag: int = option(
            1,
            "Number of steps by which the level predictor's history lags.",
            low=0,
            high=1,
            unit="steps",
        )
        risk_history_trains: bool = option(
            True, "Whether gradients train the level predictor's history encoder."
        )
        risk_lr: float | None = option(
            None,
            "Learning rate of the level predictor; null: lr.",
            low=0.0,
            low_open=True,
            high=MAX_RATE,
        )

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        """Initializes the levels."""
        super().__init__(options)
        k = self.options.risk_levels
        self.levels = tuple(Fraction(i, k) for i in range(1, k + 1))
        self.straight_through = self.options.risk_grad == "straight_through"
        self.history_lag = self.options.risk_history_lag

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if not VALUE_PARTS.part("risk_measure", config).uses_level:
            yield (
                f"risk_mode: {config.risk_mode!r} predicts the level of cvar or var,"
                f" and {config.risk_measure!r} has none. Set risk_measure: cvar, or"
                " risk_mode: static."
            )
        if VALUE_PARTS.part("quantiles", config).samples:
            yield (
                f"risk_mode: {config.risk_mode!r} needs fixed atoms. Set quantiles:"
                " fixed, or risk_mode: static."
            )

    def make_predictor(
        self, history: Encoder, num_outputs: int, num_agents: int
    ) -> RiskLevelPredictor:
        """See :meth:`RiskLevel.make_predictor`."""
        o = self.options
        return RiskLevelPredictor(
            history,
            num_outputs,
            o.risk_levels,
            o.risk_embed_dim or num_agents,
            scale=o.risk_logit_scale or history.feature_size**-0.5,
            tie_embeddings=o.risk_tie_femb,
            history_trains=o.risk_history_trains,
        )
