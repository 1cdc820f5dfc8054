"""Restoring lost env runners of an algorithm."""

from __future__ import annotations

from collections import Counter

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.envs import env_name


class RunnerReplacingAlgorithm(Algorithm):
    """The part of an algorithm that restores lost env runners, or stops the run."""

    config: TeamConfig
    # How often each runner was restored since it last finished its episodes.
    _replaced: Counter[tuple[bool, int]]

    def replace_lost_runners(self, group: EnvRunnerGroup) -> list[int]:
        """Restores lost env runners, in addition to RLlib's own attempts.

        Args:
            group: The env runners of training or of evaluations.

        Returns:
            Indices of the restored runners.
        """
        restored = self.restore_env_runners(group)
        if restored:
            self._call(
                "on_env_runners_recreated",
                env_runner_group=group,
                env_runner_indices=restored,
                is_evaluation=group is self.eval_env_runner_group,
            )
        return restored

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """See RLlib. Counts the restored runners.

        Args:
            env_runner_group: The env runners of training or of evaluations.

        Returns:
            Indices of the restored runners.
        """
        restored = super().restore_env_runners(env_runner_group)
        for index in restored:
            self._replaced[self._key_of(env_runner_group, index)] += 1
        return restored

    def runner_answered(self, group: EnvRunnerGroup, index: int) -> None:
        """Resets the count of a runner that has finished its episodes.

        Args:
            group: The env runners of training or of evaluations.
            index: Index of the runner.
        """
        self._replaced.pop(self._key_of(group, index), None)

    def runner_lost(self, group: EnvRunnerGroup, index: int, cause: str) -> None:
        """Stops the run if a runner is lost too often.

        Args:
            group: The env runners of training or of evaluations.
            index: Index of the runner.
            cause: Ray's description of the cause.

        Raises:
            RuntimeError: If the runner was lost ``max_env_restarts`` times in a row.
        """
        lost = self._replaced[self._key_of(group, index)] + 1
        if lost >= self.config.max_env_restarts:
            raise RuntimeError(
                f"Env runner {index} was lost {lost} times in a row before it finished"
                f" a round with env '{env_name(self.config)}'. The environment may end"
                " the process (os._exit, a crash of native code) or raise"
                f" KeyboardInterrupt, or memory ran out. Ray says: {cause}"
            )

    def _key_of(self, group: EnvRunnerGroup, index: int) -> tuple[bool, int]:
        return group is self.eval_env_runner_group, index
