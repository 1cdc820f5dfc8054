"""Evaluations of an algorithm: greedy episodes and their statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm

from rllib_risk.core import ray_internals
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.envs import team_spaces_of
from rllib_risk.core.play import play_and_render
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.core.runners import play_everywhere
from rllib_risk.core.thresholds import choose_threshold
from rllib_risk.data.episodes import Episode
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.joined_envs import VARIANT
from rllib_risk.ops.statistics import cvar_of_returns, return_statistics

# Counter of the episodes that were lost so far, in training and in evaluations.
NUM_CRASHES = "num_env_crashes_lifetime"


class EvaluatingAlgorithm(Algorithm):
    """The part of an algorithm that evaluates it."""

    config: TeamConfig

    def _carry_evaluation(self, results: dict[str, Any]) -> None:
        """Repeats the last evaluation in results without an evaluation.

        Schedulers and searchers of Tune need their metric in every result.
        ``evaluation/age_iterations`` is the age of the evaluation in results.
        """
        fresh = results.get("evaluation")
        if fresh:
            self._last_evaluation, self._evaluation_age = dict(fresh), 0
        elif self._last_evaluation:
            self._evaluation_age += 1
        else:
            return
        results["evaluation"] = {
            **self._last_evaluation,
            "age_iterations": self._evaluation_age,
        }

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Plays ``evaluation_duration`` greedy episodes, with the same seeds each time.

        Args:
            parallel_train_future: RLlib's argument; not used.

        Returns:
            Statistics of exactly these episodes; see :meth:`evaluate_episodes`.
        """
        self._call("on_evaluate_start", metrics_logger=self.metrics)
        result = self.evaluate_episodes(self.config.evaluation_duration)
        result.pop("returns")
        # Tools made for RLlib read these keys.
        result["env_runners"] = {
            "episode_return_mean": result["return_mean"],
            "episode_len_mean": result["episode_len_mean"],
            "num_episodes": result["episodes"],
        }
        self._call(
            "on_evaluate_end", metrics_logger=self.metrics, evaluation_metrics=result
        )
        rate = result["success_rate"]
        self._success_rate = None if math.isnan(rate) else rate
        return result

    def evaluate_episodes(
        self,
        num_episodes: int,
        seed: int | None = None,
        frames: list[np.ndarray] | None = None,
        alpha: float | None = None,
    ) -> dict[str, Any]:
        """Plays greedy episodes and computes their statistics.

        Args:
            num_episodes: Number of episodes.
            seed: Seed of the evaluation. Default: the configuration's. The seeds of the
                environments are never those of training.
            frames: List that receives rendered frames of the first episode.
            alpha: Risk level of objective ``static``. Default: the configuration's.

        Returns:
            ``episodes``, ``return_mean``, ``return_median``, ``return_min``,
            ``return_cvar_10`` and similar keys; ``success_rate``, NaN if the
            environment does not report success; ``risk_level_mean`` and one level per
            agent; the mean of every other number that the environment reports; and
            ``returns``; ``num_env_crashes``, the number of episodes that crashed and
            were played again with another seed. With objective ``static`` also the
            level ``alpha``, the ``threshold`` chosen for it, and the CVaR of these
            episodes at that level, ``return_cvar_alpha``.
        """
        self.require_env()
        self._begin_to("evaluating")
        seed = self.config.seed if seed is None else seed
        chosen = choose_threshold(self, seed, alpha)
        if frames is not None:  # first, because rendering may fail
            frames += self.render_episode(seed)
        thresholds = None if chosen is None else [chosen.threshold]
        counters = ray_internals.counters(self)
        before = counters[NUM_CRASHES]
        episodes = self.play_greedily(num_episodes, seed, thresholds)
        crashes = counters[NUM_CRASHES] - before
        result = summarise(episodes, self.team_spec().agents, crashes)
        if chosen is not None:
            result["alpha"] = chosen.alpha
            result["threshold"] = chosen.threshold
            cvar = cvar_of_returns(result["returns"], chosen.alpha)
            result["return_cvar_alpha"] = cvar
        return result

    def play_greedily(
        self, num_episodes: int, seed: int, thresholds: list[float] | None = None
    ) -> list[Episode]:
        """Plays greedy episodes in the environments of evaluations.

        Args:
            num_episodes: Number of episodes.
            seed: Seed of the evaluation.
            thresholds: See :meth:`.TeamRolloutWorker.evaluate_episodes`.

        Returns:
            Exactly ``num_episodes`` episodes.
        """
        group = self.eval_env_runner_group or self.env_runner_group
        if group is not self.env_runner_group:
            # Schedules, such as that of a risk level, depend on the env steps.
            alone = group.num_remote_env_runners() == 0
            with ray_internals.starting_no_ray(alone):
                group.sync_weights(
                    from_worker_or_learner_group=self.env_runner,
                    global_vars={"timestep": self.env_steps},
                )
        if (
            self.config.evaluation_num_env_runners == 0
            or group is self.env_runner_group
        ):
            runner: TeamRolloutWorker = group.local_env_runner
            episodes = runner.evaluate_episodes(range(num_episodes), seed, thresholds)
            self.count_report(runner.take_report())
            return episodes
        return play_everywhere(self, group, num_episodes, seed, thresholds)

    def require_env(self) -> None:
        """Checks that the run has an environment.

        Raises:
            EnvConfigError: If the run learned from a dataset alone.
        """
        if self.config.env is None:
            raise EnvConfigError(
                "env: this run learned from a dataset and knows no environment to play"
                " in. Name one with rllib evaluate --env NAME, estimate the return with"
                " rllib evaluate --dataset DATA, or train with an env, which is then"
                " used for evaluations alone."
            )

    def render_episode(self, seed: int) -> list[np.ndarray]:
        """Plays one greedy episode in an environment that renders.

        Args:
            seed: Seed of the evaluation, whose first episode is played.

        Returns:
            uint8 frames ``[height, width, 3]``.
        """
        player = PolicyPlayer(self.team_policy, 1)
        return play_and_render(player, self.evaluation_config, seed)

    def team_spec(self) -> TeamSpec:
        """Returns agents and sizes of the team; the run must have an env."""
        runner = (self.eval_env_runner_group or self.env_runner_group).local_env_runner
        if runner.env is None:
            runner = self.env_runner
        if runner.env is None:
            return team_spaces_of(self.config).spec_team
        return runner.env.spec_team


def summarise(
    episodes: Sequence[Episode], agents: Sequence[str], crashes: int
) -> dict[str, Any]:
    """Computes the statistics of evaluation episodes.

    Args:
        episodes: Finished episodes.
        agents: Names of the agents.
        crashes: Number of episodes that crashed and were played again.

    Returns:
        See :meth:`TeamAlgorithm.evaluate_episodes`.
    """
    returns = [e.episode_return for e in episodes]
    success = [e.metrics["is_success"] for e in episodes if "is_success" in e.metrics]
    whole = success if len(success) == len(episodes) else None
    lengths = [len(e) for e in episodes]
    result: dict[str, Any] = dict(return_statistics(returns, whole, lengths))
    levels = np.concatenate([e.risk_levels for e in episodes])  # [steps, N]
    result["risk_level_mean"] = float(levels.mean(dtype=np.float64))
    for name, level in zip(agents, levels.mean(axis=0, dtype=np.float64), strict=True):
        result[f"risk_level_{name}"] = float(level)
    names = set.intersection(*(set(e.metrics) for e in episodes))
    # Success has its own rate. The mean of variants' indices has no meaning.
    names -= {"is_success", VARIANT}
    for name in sorted(names):
        result[name] = float(np.mean([e.metrics[name] for e in episodes]))
    result["num_env_crashes"] = crashes
    result["returns"] = returns
    return result
