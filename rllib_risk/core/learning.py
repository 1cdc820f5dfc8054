"""The part of an algorithm that learns in one process or in several."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.tune import PlacementGroupFactory

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.learners import LearnerGroup, learner_bundle


class LearningAlgorithm(Algorithm):
    """The part of an algorithm that learns from batches on all of its learners."""

    config: TeamConfig
    _learners: LearnerGroup | None = None

    def set_up_learners(self) -> None:
        """Creates the group of learners if ``num_learners`` is above 1."""
        if self.config.num_learners > 1:
            self._learners = LearnerGroup(self.team_policy, self.config)

    def begin_learners(self) -> None:
        """Starts the learners if they do not run yet, without waiting for them."""
        if self._learners is not None:
            self._learners.begin()

    def learn_on(self, method: str, batch: Any, *args: Any) -> dict[str, float]:
        """Learns from a batch on all learners.

        Args:
            method: Name of a method of the policy that can learn from a part of a
                batch; see :attr:`.TeamPolicy.share`.
            batch: First argument of the method.
            *args: Other arguments of the method.

        Returns:
            Result of the method for the whole batch.
        """
        if self._learners is None:
            learned: dict[str, float] = getattr(self.team_policy, method)(batch, *args)
            return learned
        return self._learners.learn(method, batch, *args, env_steps=self.env_steps)

    @classmethod
    def default_resource_request(
        cls, config: AlgorithmConfig | dict[str, Any]
    ) -> PlacementGroupFactory:
        """Resources that Tune reserves for a trial; RLlib leaves the learners out.

        Args:
            config: The configuration.

        Returns:
            RLlib's bundles, and one for each learner except the trial's own process.
        """
        request = super().default_resource_request(config)
        full = cls.get_default_config().update_from_dict(config)
        more = [learner_bundle(full) for _ in range(full.num_learners - 1)]
        if not more:
            return request
        bundles = [*request.bundles, *more]
        return PlacementGroupFactory(bundles, strategy=request.strategy)

    def cleanup(self) -> None:
        """See RLlib. Ends the learners too."""
        if self._learners is not None:
            self._learners.stop()
        super().cleanup()
