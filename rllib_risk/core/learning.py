"""The part of an algorithm that learns on one process, or on several."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.tune import PlacementGroupFactory

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.learners import LearnerGroup, learner_bundle


class LearningAlgorithm(Algorithm):
    """The part of an algorithm that makes gradient steps on all of its learners."""

    config: TeamConfig
    _learners: LearnerGroup | None = None

    def set_up_learners(self) -> None:
        """Prepares for several learners, if there are to be several."""
        if self.config.num_learners > 1:
            self._learners = LearnerGroup(self.team_policy, self.config)

    def begin_learners(self) -> None:
        """Starts the processes that are missing, and does not wait for them."""
        if self._learners is not None:
            self._learners.begin()

    def learn_on(self, method: str, batch: Any, *args: Any) -> dict[str, float]:
        """Learns from a batch, on all learners that there are.

        Args:
            method: Name of a method of the policy that works with a part of a batch;
                see :attr:`.TeamPolicy.share`.
            batch: Its first argument.
            *args: Its other arguments.

        Returns:
            What the method returns, of the whole batch.
        """
        if self._learners is None:
            learned: dict[str, float] = getattr(self.team_policy, method)(batch, *args)
            return learned
        return self._learners.learn(method, batch, *args, env_steps=self.env_steps)

    @classmethod
    def default_resource_request(
        cls, config: AlgorithmConfig | dict[str, Any]
    ) -> PlacementGroupFactory:
        """What Tune reserves for a trial; see RLlib, which leaves the learners out.

        Args:
            config: The configuration.

        Returns:
            RLlib's bundles, and one for each learner beside the trial's own process.
        """
        request = super().default_resource_request(config)
        full = cls.get_default_config().update_from_dict(config)
        more = [learner_bundle(full) for _ in range(full.num_learners - 1)]
        if not more:
            return request
        bundles = [*request.bundles, *more]
        return PlacementGroupFactory(bundles, strategy=request.strategy)

    def cleanup(self) -> None:
        """See RLlib; ends the learners too."""
        if self._learners is not None:
            self._learners.stop()
        super().cleanup()
