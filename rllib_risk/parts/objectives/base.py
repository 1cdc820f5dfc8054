"""What an objective is, and the four that stand in a table of ``docs/risk.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rllib_risk.config.options import option
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.base import Part
from rllib_risk.parts.objectives.reading import (
    fits_distributions,
    is_value_based,
    measure_at,
    robustly,
    uses_alpha,
)
from rllib_risk.parts.slots import VALUE_PARTS


@dataclass(frozen=True)
class LevelOptions:
    """The level of everything that has one level for the whole team."""

    alpha: float | list = option(
        1.0,
        "Level: of objective nested and static, and of cvar and var with risk_mode:"
        " static. A number, or (but for objective: static) points [[env_steps, value],"
        " ...]; 1 is the mean.",
        low=0.0,
        low_open=True,
        high=1.0,
    )


class Objective(Part):
    """What a team maximizes.

    Attributes:
        has_level: Whether ``alpha`` is its level.
        sees_return: Whether agents, mixer and critics see the return so far. It is then
            a :class:`~rllib_risk.parts.objectives.static.Static`.
        of_values: Whether it is for algorithms that learn values by a Bellman target.
        implies: Keys that it sets, each with the value that it replaces: the value that
            means "no choice".
    """

    has_level: ClassVar[bool] = False
    sees_return: ClassVar[bool] = False
    of_values: ClassVar[bool] = False
    implies: ClassVar[Mapping[str, tuple[Any, Any]]] = {}

    @classmethod
    def risk(cls, config: Any) -> str:
        """Which risk a team controls, in one line for users.

        Args:
            config: The configuration, with all its keys as attributes.
        """
        raise NotImplementedError(f"{cls.__name__} must define risk().")

    def sizes(self, sizes: TeamSizes) -> TeamSizes:
        """What networks see, where that differs from what the environment shows.

        Args:
            sizes: What the environment fixes.
        """
        return sizes

    def gamma(self, gamma: float) -> float:
        """The learner's discount.

        Args:
            gamma: The configuration's.
        """
        return gamma


class Composed(Objective):
    """What ``risk_measure``, ``loss`` and ``target`` amount to; the default.

    Nothing is added to a composition or checked.
    """

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        if not is_value_based(config):
            return f"none; {Mean.risk(config)}"
        if config.loss == "bc":
            return "none; the dataset's actions are imitated, whatever they earned"
        if config.target == "cvar":
            return Nested.risk(config)
        if measure_at(config) is None:
            return f"none; {Mean.risk(config)}"
        if fits_distributions(config):
            return Markov.risk(config)
        return (
            f"none; {Mean.risk(config)}: {measure_at(config)} is a readout of"
            f" atoms that loss: {config.loss} fits to mean returns"
        )


class Mean(Objective):
    """``E[R]``, the mean of the episode's return."""

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        return f"the team maximizes the mean return{robustly(config)}"

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from refuse_second_risk(config)
        yield from refuse_imitation(config)


class Markov(Objective):
    """Every step is greedy for a risk measure of the learned return to go.

    No measure of the episode's return is maximized: Lim and Malik, "Distributional
    Reinforcement Learning for Risk-Sensitive Policies" (NeurIPS 2022).
    """

    of_values: ClassVar[bool] = True

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        return (
            f"markov; every step is greedy for {measure_at(config)} of the learned"
            " return to go, which is no measure of the whole episode's return"
        )

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if not fits_distributions(config):
            yield (
                "objective: 'markov' is greedy for a measure of the distribution of"
                f" returns, and loss {config.loss!r} fits no distribution to the team's"
                " returns; set loss: quantile."
            )
        if measure_at(config) is None:
            yield (
                "objective: 'markov' needs a risk measure, and here the greedy action"
                f" is the best mean (risk_measure: {config.risk_measure}, alpha:"
                f" {config.alpha}); set risk_measure: cvar and alpha below 1, or"
                " objective: mean."
            )


class Nested(Objective):
    """CVaR of one step's outcome, taken again at every step.

    ``Q(s, a) = CVaR_alpha[r + gamma max_a' Q(s', a')]`` over reward and next state
    jointly; see :class:`~rllib_risk.parts.targets.cvar.NestedCvar`.
    """

    Options = LevelOptions
    has_level: ClassVar[bool] = True
    of_values: ClassVar[bool] = True
    implies: ClassVar[Mapping[str, tuple[Any, Any]]] = {"target": ("plain", "cvar")}

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        return f"nested; CVaR at level {config.alpha} of a step, taken at every step"

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.target not in ("plain", "cvar"):
            yield (
                "objective: 'nested' is a target of its own (cvar), and target:"
                f" {config.target!r} is another one; leave target out. Nested CVaR is"
                " robust to every kernel whose density is at most 1/alpha times the"
                " sampled one."
            )
        if config.td_lambda != 0.0:
            yield (
                "td_lambda: objective 'nested' takes the risk of one step at a time;"
                " set td_lambda: 0."
            )
        yield from refuse_imitation(config)
        yield from refuse_double_level(config)


def refuse_imitation(config: Any) -> Iterator[str]:
    """Refuses a loss that reads no rewards.

    Args:
        config: The configuration.

    Yields:
        The reason.
    """
    if not is_value_based(config):
        return
    if not VALUE_PARTS.slots["loss"].part(config.loss).uses_targets:
        yield (
            f"objective: {config.objective!r} is about rewards, and loss"
            f" {config.loss!r} reads none; leave objective out, or set loss: td."
        )


def refuse_double_level(config: Any) -> Iterator[str]:
    """Refuses ``alpha`` as the level of two things.

    Args:
        config: The configuration.

    Yields:
        The reason.
    """
    if is_value_based(config) and uses_alpha(config):
        yield (
            f"risk_measure: {config.risk_measure!r} would read alpha too, which is the"
            f" level of objective: {config.objective}; set risk_measure: mean."
        )


def refuse_second_risk(config: Any) -> Iterator[str]:
    """Refuses parts that control another risk than the objective does.

    Args:
        config: The configuration.

    Yields:
        The reasons.
    """
    if not is_value_based(config):
        return
    if config.target == "cvar":
        yield (
            f"target: 'cvar' is that of objective: nested, not of {config.objective};"
            " leave target out."
        )
    if fits_distributions(config) and measure_at(config) is not None:
        yield (
            f"risk_measure: with loss {config.loss!r} agents that are greedy for"
            f" {measure_at(config)} follow objective: markov, not"
            f" {config.objective}; set risk_measure: mean."
        )
