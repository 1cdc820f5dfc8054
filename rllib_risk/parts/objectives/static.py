"""Static CVaR: the return so far is an input, and its shortfall gives the reward.

Letters: ``B`` episodes, ``E`` environments, ``T`` steps, ``N`` agents, ``D``
observation size, ``S`` state size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import ConfigError
from rllib_risk.data import episodes as columns
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.shortfall import returns_so_far, shortfall_rewards
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.objectives.base import (
    LevelOptions,
    Objective,
    refuse_double_level,
    refuse_imitation,
    refuse_second_risk,
)
from rllib_risk.parts.objectives.reading import is_value_based, robustly

# Range of the input over all thresholds. If a step's reward changes the input only a
# little, networks take long to distinguish thresholds (docs/risk.md).
_INPUT_RANGE = 4.0


class Static(Objective, nn.Module):
    """Static CVaR: ``CVaR_alpha(R)`` of the whole episode's return.

    Bauerle and Ott (2011); see :mod:`rllib_risk.ops.shortfall`. Agents, mixer and
    critics read ``(x_t - b) / scale`` in addition to observation and state. ``x_t`` is
    the return so far and ``scale`` a quarter of the range of thresholds. All thresholds
    ``b`` are learned at once. Each episode is played with a threshold drawn from the
    range of returns. The learner may use another threshold for the same episode,
    because neither transitions nor rewards depend on ``b``. An evaluation chooses the
    threshold that is best for ``alpha``.

    Attributes:
        known: Lowest return, highest return and chosen threshold, float32 ``[3]``; NaN
            until known. It is a buffer, so it is sent to env runners with the weights.
    """

    known: Tensor

    @dataclass(frozen=True)
    class Options(LevelOptions):
        threshold_range: list | None = option(
            None,
            "Range [low, high] of the thresholds b of objective static, in units of"
            " return; null: from the lowest to the highest return seen.",
            fixed=True,
        )
        threshold_candidates: int = option(
            15,
            "Number of thresholds that an evaluation compares, evenly spaced over the"
            " range.",
            low=2,
        )
        threshold_episodes: int = option(
            32,
            "Number of episodes that an evaluation plays with each threshold.",
            low=1,
            unit="episodes",
        )

    options: Options
    sees_return: ClassVar[bool] = True

    def __init__(self, options: Any = None) -> None:
        """Initializes the objective.

        Args:
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(options)
        self.register_buffer("known", torch.full((3,), math.nan))

    @classmethod
    def risk(cls, config: Any) -> str:
        """See :meth:`Objective.risk`."""
        return (
            f"static; CVaR at level {config.alpha} of the whole episode's return"
            f"{robustly(config)}"
        )

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if isinstance(config.alpha, list):
            yield (
                f"alpha: objective {config.objective!r} learns all risk levels at once,"
                " and alpha is only the level of evaluations, so it cannot be a"
                " schedule. Set a number."
            )
        limits = config.threshold_range
        if limits is not None and not _is_interval(limits):
            yield (
                "threshold_range: must be two ascending numbers [low, high], not"
                f" {limits!r}."
            )
        yield from refuse_second_risk(config)
        yield from refuse_imitation(config)
        yield from refuse_double_level(config)
        if is_value_based(config) and robustly(config) and config.v_min != 0.0:
            yield (
                f"v_min: with objective {config.objective!r}, values are shortfalls of"
                " the return, so the value of a fail state depends on the return so"
                " far. Set v_min: 0 (no more reward after the fail state)."
            )

    # Inputs of the networks and the learner.

    def sizes(self, sizes: TeamSizes) -> TeamSizes:
        """See :meth:`Objective.sizes`. Adds one input to observation and state."""
        return dataclasses.replace(
            sizes,
            obs_size=sizes.obs_size + 1,
            state_size=sizes.state_size + (sizes.state_size > 0),
        )

    def gamma(self, gamma: float) -> float:
        """See :meth:`Objective.gamma`. Shortfall rewards are not discounted."""
        return 1.0

    def transform(
        self,
        batch: Batch,
        samples: Mapping[str, Any],
        gamma: float,
        uniform: Tensor | None,
    ) -> Batch:
        """Adds the return so far to a batch and replaces its rewards by shortfalls.

        Args:
            batch: The batch from the replay.
            samples: The collated arrays of the batch.
            gamma: Discount of the return.
            uniform: Numbers in [0, 1) that give new thresholds, ``[B]``. None: use the
                thresholds with which the episodes were played.

        Returns:
            The batch with the return so far in observations and states. The reward of a
            step is its change of the shortfall. A time limit counts as a termination.
        """
        played = columns.THRESHOLDS, columns.EARNED
        chosen, earned = (
            torch.as_tensor(samples[key]) if key in samples else None for key in played
        )
        if uniform is not None:
            chosen = self.draw(uniform.double())
        thresholds = cast("Tensor", chosen).to(batch.obs.device).unsqueeze(-1)
        if earned is not None:
            earned = earned.to(batch.obs.device)
        ends = torch.from_numpy(columns.last_steps(samples)).to(batch.terminateds)
        returns = returns_so_far(batch.rewards.squeeze(-1), gamma, batch.first, earned)
        shown = self.shown(returns - thresholds).to(batch.obs)
        rewards = shortfall_rewards(returns, thresholds).to(batch.rewards)
        state = batch.state
        if state.shape[-1]:
            state = torch.cat([state, shown.unsqueeze(-1)], dim=-1)
        beside = shown[..., None, None].expand(*batch.obs.shape[:-1], 1)
        return dataclasses.replace(
            batch,
            obs=torch.cat([batch.obs, beside], dim=-1),
            state=state,
            rewards=rewards.unsqueeze(-1),
            terminateds=ends.unsqueeze(-1),
        )

    def shown(self, distance: Any) -> Any:
        """Scales the distance ``x_t - b`` of return and threshold to the input.

        Args:
            distance: The distance, an array or tensor.
        """
        low, high = self.limits
        return distance * (_INPUT_RANGE / (high - low) if high > low else 1.0)

    # Thresholds.

    @property
    def limits(self) -> tuple[float, float]:
        """Range of thresholds; (0, 0) before the first return."""
        if self.options.threshold_range is not None:
            low, high = self.options.threshold_range
            return float(low), float(high)
        low, high = self.known[:2].tolist()
        return (0.0, 0.0) if math.isnan(low) else (low, high)

    @property
    def threshold(self) -> float | None:
        """The chosen threshold; None before the first evaluation."""
        chosen = self.known[2].item()
        return None if math.isnan(chosen) else chosen

    def chosen_threshold(self) -> float:
        """Returns the chosen threshold.

        Raises:
            ConfigError: If none was chosen.
        """
        threshold = self.threshold
        if threshold is None:
            low, high = self.limits
            raise ConfigError(
                "objective: this team of objective 'static' has no threshold, because"
                " its run was never evaluated. Give one with --static-threshold"
                f" NUMBER; the team has learned those from {low:g} to {high:g}. Or let"
                " episodes choose one: rllib evaluate CHECKPOINT --env NAME --alpha"
                " LEVEL prints the best one for a level, and in Python"
                " evaluate_episodes() sets it."
            )
        return threshold

    def choose(self, threshold: float) -> None:
        """Sets the threshold of greedy episodes.

        Args:
            threshold: ``b``.
        """
        self.known[2] = threshold

    def observe(self, returns: Iterable[float]) -> None:
        """Extends the range of thresholds to new returns of episodes.

        Args:
            returns: Returns, with the configuration's discount.
        """
        seen = torch.tensor(list(returns), dtype=torch.float32)
        if len(seen):
            low, high = self.known[:2].tolist()
            least, greatest = seen.min().item(), seen.max().item()
            self.known[0] = least if math.isnan(low) else min(low, least)
            self.known[1] = greatest if math.isnan(high) else max(high, greatest)

    def candidates(self) -> np.ndarray:
        """Returns the thresholds that an evaluation compares, float64 ``[C]``."""
        return np.linspace(*self.limits, self.options.threshold_candidates)

    def draw(self, uniform: Any) -> Any:
        """Draws thresholds of episodes uniformly from the range.

        Args:
            uniform: Random numbers in [0, 1), an array or tensor.
        """
        low, high = self.limits
        return low + (high - low) * uniform

    def state(self) -> list[float | None]:
        """Returns :attr:`known` for JSON, with None for NaN."""
        return [None if math.isnan(n) else n for n in self.known.tolist()]

    def load(self, state: list[float | None]) -> None:
        """Restores the result of :meth:`state`.

        Args:
            state: State from a checkpoint.
        """
        numbers = [math.nan if number is None else number for number in state]
        self.known.copy_(torch.tensor(numbers))


class RunningReturns:
    """Discounted returns so far of running episodes.

    Attributes:
        values: Return so far of each environment's episode, float64 ``[E]``.
    """

    def __init__(self, gamma: float, num_envs: int) -> None:
        """Initializes the returns at the start of ``E`` episodes.

        Args:
            gamma: Discount of the return.
            num_envs: ``E``.
        """
        self.values = np.zeros(num_envs)
        self._weights = np.ones(num_envs)
        self._gamma = gamma

    def begin(self, slots: np.ndarray) -> None:
        """Starts new episodes.

        Args:
            slots: Indices of their environments.
        """
        self.values[slots], self._weights[slots] = 0.0, 1.0

    def earn(self, rewards: np.ndarray) -> None:
        """Adds the rewards of one step. Idle environments may have any reward.

        Args:
            rewards: Team rewards, ``[E]``.
        """
        self.values += self._weights * rewards
        self._weights *= self._gamma


class ReturnWatch:
    """Tracks the return so far of running episodes and adds it to observations."""

    def __init__(
        self,
        objective: Static,
        gamma: float,
        num_envs: int,
        thresholds: np.ndarray | None = None,
    ) -> None:
        """Initializes the tracker at the start of ``E`` episodes.

        Args:
            objective: The objective.
            gamma: Discount of the return.
            num_envs: ``E``.
            thresholds: Thresholds of the episodes, by their index. None: the chosen
                threshold for all episodes.

        Raises:
            ConfigError: If the chosen threshold is needed, and none was chosen.
        """
        self._objective = objective
        self._of_episode = thresholds
        self._returns = RunningReturns(gamma, num_envs)
        first = objective.chosen_threshold() if thresholds is None else 0.0
        self._thresholds = np.full(num_envs, first)

    def begin(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        """Starts new episodes.

        Args:
            slots: Indices of their environments.
            episodes: Indices of the episodes.
        """
        self._returns.begin(slots)
        if self._of_episode is not None:
            self._thresholds[slots] = self._of_episode[episodes]

    def earn(self, rewards: np.ndarray) -> None:
        """Adds the rewards of one step; see :meth:`RunningReturns.earn`."""
        self._returns.earn(rewards)

    def beside(self, obs: np.ndarray) -> np.ndarray:
        """Appends the return so far to observations.

        Args:
            obs: Observations, float32 ``[E, N, D]``.

        Returns:
            Extended observations, float32 ``[E, N, D + 1]``.
        """
        shown = self._objective.shown(self._returns.values - self._thresholds)
        beside = np.broadcast_to(shown[:, None, None], (*obs.shape[:2], 1))
        return np.concatenate([obs, beside], axis=-1, dtype=np.float32)


def _is_interval(limits: list) -> bool:
    numbers = [n for n in limits if isinstance(n, (int, float)) and math.isfinite(n)]
    return len(limits) == len(numbers) == 2 and numbers[0] < numbers[1]
