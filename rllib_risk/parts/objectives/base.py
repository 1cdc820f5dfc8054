"""Base class of objectives, and the objectives composed, mean, markov and nested.

``docs/risk.md`` compares the objectives.
"""

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
    """The key of the team's static risk level."""

    alpha: float | list = option(
        1.0,
        "Risk level of objectives nested and static, and of risk measures cvar and var"
        " with risk_mode: static. A number, or (except with objective: static) points"
        " [[env_steps, value], ...]. 1: the mean.",
        low=0.0,
        low_open=True,
        high=1.0,
    )


class Objective(Part):
    """The objective that a team maximizes.

    Attributes:
        sees_return: Whether agents, mixer and critics read the return so far. The
            objective is then a :class:`~rllib_risk.parts.objectives.static.Static`.
        of_values: Whether the objective needs an algorithm that learns values from
            Bellman targets.
    """

    sees_return: ClassVar[bool] = False
    of_values: ClassVar[bool] = False

    @classmethod
    def implied(cls, config: Any) -> Mapping[str, tuple[Any, Any]]:
        """Returns the keys that the objective sets. By default there are none.

        Args:
            config: The configuration, with all its keys as attributes.

        Returns:
            key -> (the value that means "no choice" and is replaced, the new value).
        """
        return {}

    @classmethod
    def risk(cls, config: Any) -> str:
        """Describes in one line which risk a team controls, for users.

        By default it is the name of the objective.

        Args:
            config: The configuration, with all its keys as attributes.
        """
        return f"{config.objective}"

    def sizes(self, sizes: TeamSizes) -> TeamSizes:
        """Returns the input sizes of the networks.

        Args:
            sizes: Sizes of the team and the environment's observations.
        """
        return sizes

    def gamma(self, gamma: float) -> float:
        """Returns the learner's discount.

        Args:
            gamma: Discount in the configuration.
        """
        return gamma


class Composed(Objective):
    """The objective that results from ``risk_measure``, ``loss`` and ``target``.

    It is the default. It changes nothing in a composition and checks nothing.
    """

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        if not is_value_based(config):
            return f"none; {Mean.risk(config)}"
        if not VALUE_PARTS.part("loss", config).uses_targets:
            return "none; the policy imitates the dataset's actions and ignores rewards"
        if VALUE_PARTS.part("target", config).nested:
            return Nested.risk(config)
        if measure_at(config) is None:
            return f"none; {Mean.risk(config)}"
        if fits_distributions(config):
            return Markov.risk(config)
        return (
            f"none; {Mean.risk(config)}: {measure_at(config)} is computed from atoms"
            f" that loss: {config.loss} fits to mean returns"
        )


class Mean(Objective):
    """The mean of the episode's return, ``E[R]``."""

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

    This does not maximize a risk measure of the episode's return: Lim and Malik,
    "Distributional Reinforcement Learning for Risk-Sensitive Policies" (NeurIPS 2022).
    """

    of_values: ClassVar[bool] = True

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        return (
            f"markov; every step is greedy for {measure_at(config)} of the learned"
            " return to go, which is not a risk measure of the episode's return"
        )

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from refuse_nested_target(config)
        if not fits_distributions(config):
            yield (
                f"objective: {config.objective!r} is greedy for a risk measure of the"
                f" return distribution, and loss {config.loss!r} fits no distribution"
                " of the team's returns. Set loss: quantile."
            )
        if measure_at(config) is None:
            yield (
                f"objective: {config.objective!r} needs a risk measure, but here the"
                " greedy action has the best mean (risk_measure:"
                f" {config.risk_measure}, alpha: {config.alpha}). Set risk_measure:"
                " cvar and alpha below 1, or objective: mean."
            )


class Nested(Objective):
    """Nested CVaR: CVaR of one step's outcome, applied at every step.

    ``Q(s, a) = CVaR_alpha[r + gamma max_a' Q(s', a')]`` over reward and next state
    jointly. A loss that fits distributions learns it from atoms
    (:class:`~rllib_risk.parts.targets.cvar_atoms.NestedCvarOfAtoms`), another one by a
    dual variable (:class:`~rllib_risk.parts.targets.cvar.NestedCvar`).
    """

    Options = LevelOptions
    of_values: ClassVar[bool] = True

    @classmethod
    def implied(cls, config: Any) -> Mapping[str, tuple[Any, Any]]:
        """See :meth:`Objective.implied`."""
        if not is_value_based(config):
            return {}
        atoms = fits_distributions(config)
        usual = VALUE_PARTS.slots["target"].default
        keys: dict[str, tuple[Any, Any]]
        keys = {"target": (usual, "cvar_atoms" if atoms else "cvar")}
        if atoms:
            keys["risk_measure"] = ("mean", "cvar")
        if config.default_of("td_lambda") != 0.0:
            keys["td_lambda"] = (config.default_of("td_lambda"), 0.0)
        return keys

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        return f"nested; CVaR at level {config.alpha} of a step, applied at every step"

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        # The default target is no choice; it is replaced.
        usual = VALUE_PARTS.slots["target"].default
        if config.target != usual and not VALUE_PARTS.part("target", config).nested:
            sets = cls.implied(config)["target"][1]
            yield (
                f"objective: {config.objective!r} sets target: {sets}, but the"
                f" configuration has target: {config.target!r}. Leave target out."
                " Nested CVaR is robust to every kernel whose density is at most"
                " 1/alpha times the sampled one."
            )
        if config.td_lambda != 0.0:
            yield (
                f"td_lambda: objective {config.objective!r} applies CVaR to one step at"
                " a time. Set td_lambda: 0."
            )
        yield from refuse_imitation(config)
        if not fits_distributions(config):
            yield from refuse_double_level(config)


def refuse_imitation(config: Any) -> Iterator[str]:
    """Yields an error if the loss does not use rewards.

    Args:
        config: The configuration.

    Yields:
        The message.
    """
    if not is_value_based(config):
        return
    if not VALUE_PARTS.part("loss", config).uses_targets:
        yield (
            f"objective: {config.objective!r} depends on rewards, but loss"
            f" {config.loss!r} does not use them. Leave objective out, or set loss: td."
        )


def refuse_double_level(config: Any) -> Iterator[str]:
    """Yields an error if objective and risk measure would both use ``alpha``.

    Args:
        config: The configuration.

    Yields:
        The message.
    """
    if is_value_based(config) and uses_alpha(config):
        yield (
            f"risk_measure: {config.risk_measure!r} would also use alpha, which is the"
            f" risk level of objective: {config.objective}. Set risk_measure: mean."
        )


def refuse_nested_target(config: Any) -> Iterator[str]:
    """Yields an error if the target is that of another objective, ``nested``.

    Args:
        config: Configuration of a value-based algorithm.

    Yields:
        The message.
    """
    if VALUE_PARTS.part("target", config).nested:
        yield (
            f"target: {config.target!r} belongs to objective: nested, not to objective:"
            f" {config.objective}. Leave target out."
        )


def refuse_second_risk(config: Any) -> Iterator[str]:
    """Yields an error for each part that controls another risk than the objective.

    Args:
        config: The configuration.

    Yields:
        The messages.
    """
    if not is_value_based(config):
        return
    yield from refuse_nested_target(config)
    if fits_distributions(config) and measure_at(config) is not None:
        yield (
            f"risk_measure: with loss {config.loss!r}, agents that are greedy for"
            f" {measure_at(config)} follow objective: markov, not objective:"
            f" {config.objective}. Set risk_measure: mean."
        )
