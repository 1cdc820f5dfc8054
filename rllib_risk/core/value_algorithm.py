"""The training loop of value-based algorithms: TD steps, quantile steps, targets."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.config.schema import ConfigError
from rllib_risk.core import ray_internals, remarks
from rllib_risk.core import stopwatch as sw
from rllib_risk.core.algorithm import NUM_EPISODES, TeamAlgorithm
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.data_report import HOLDOUT, report, report_groups
from rllib_risk.core.off_policy.estimates import OFF_POLICY, Estimates
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.profile import NUM_UPDATES
from rllib_risk.core.thresholds import observe_dataset
from rllib_risk.core.value_config import ValueConfig
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.dataset_replay import DatasetReplay
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.parts.objectives.static import Static
from rllib_risk.parts.regression import Gate
from rllib_risk.parts.replay import Replay, sequence_settings
from rllib_risk.parts.slots import VALUE_PARTS

logger = logging.getLogger(__name__)

BYTES_PER_MB = 2**20
_NUM_QR_UPDATES = "num_qr_updates_lifetime"


class ValueAlgorithm(TeamAlgorithm):
    """Learns from replayed episodes; the target network follows, as in PyMARL."""

    config: ValueConfig
    config_class: ClassVar[type[TeamConfig]] = ValueConfig
    policy_class: ClassVar[type[TeamPolicy]] = ValuePolicy

    def setup(self, config: AlgorithmConfig) -> None:
        """See TeamAlgorithm. A dataset replaces the replay of sampled episodes."""
        remarks.tell(config, logger.warning)
        super().setup(config)
        config = self.config
        replay = self.replay
        if isinstance(replay, Replay) and type(replay).learned is not Replay.learned:
            self.team_policy.on_batch.append(replay.learned)
        if config.dataset is not None:
            dataset = config.check_dataset(self.env_runner.env)
            room = config.dataset_memory_mb * BYTES_PER_MB
            room_held_out = int(room * config.dataset_holdout)
            self.replay = DatasetReplay(
                dataset,
                room - room_held_out,
                config.seed,
                config.compact_replay,
                sequence_settings(config),
                config.split(dataset),
            )
            self._groups = report_groups(dataset, self.replay, room_held_out)
            if config.off_policy_interval:
                self.estimates = Estimates(self._groups[HOLDOUT], config.seed)
            held, size = len(self.replay), config.batch_size_episodes
            if config.sequence_length is None and held < size:
                raise ConfigError(
                    f"batch_size_episodes: {size} different episodes make a batch, and"
                    f" of the dataset {held} are held at once; set it to {held} or"
                    " less, raise dataset_memory_mb or dataset_top_share, or learn from"
                    " sequences (sequence_length)."
                )
            objective = self.team_policy.network.objective
            if isinstance(objective, Static):
                self.replay.return_discount = config.gamma
                observe_dataset(objective, dataset, config.gamma)

    def make_replay(self, config: AlgorithmConfig) -> EpisodeReplay:
        """See TeamAlgorithm. The replay is a part of the composition."""
        return VALUE_PARTS.make("replay", vars(config), seed=config.seed)

    @property
    def env_steps(self) -> int:
        """Env steps sampled so far; with a dataset, env steps learned from."""
        if self.config.dataset is None:
            return super().env_steps
        return ray_internals.num_trained_steps(self)

    def training_step(self) -> dict[str, Any]:
        """See TeamAlgorithm. With a dataset it makes a number of updates."""
        if self.config.dataset is None:
            return super().training_step()
        self._begin_to("learning")
        with ray_internals.timers(self)["learn"]:
            for left in reversed(range(self.config.updates_per_iteration)):
                self._publish_env_steps()
                self._update(stats=left == 0)
        return dict(self._learner_stats)

    def _learn(self) -> tuple[dict[str, float], int]:
        config = self.config
        policy: ValuePolicy = self.team_policy
        stats: dict[str, float] = {}
        updates = self.counters[NUM_UPDATES]
        size = config.batch_size_episodes
        if policy.dual is not None and updates % policy.dual_block == 0:
            for index in range(policy.dual_block):
                batch = self._draw(size)
                stats |= self.learn_on("learn_dual_on_batch", batch, index)
        batch = self._draw(size)
        stats |= self.before_learning(batch)
        gate = policy.learning.gate
        quantiles = self._quantile_step_is_due(gate)
        if not (quantiles and gate.options.qr_replaces_td):
            stats |= self.learn_on("learn_on_batch", batch)
        if quantiles:
            stats |= self.learn_on("learn_quantiles_on_batch", batch)
            self.counters[_NUM_QR_UPDATES] += 1
        self._move_target(policy)
        return stats, int(batch["mask"].sum())

    def _draw(self, size: int) -> Any:
        with self.stopwatch.part(sw.REPLAY):
            return self.replay.draw(size)

    def _move_target(self, policy: ValuePolicy) -> None:
        if not policy.learning.loss.uses_targets:
            return
        episodes = self.counters[NUM_EPISODES]
        rate = policy.learning.copies.rate(
            episodes - self._last.get("target_update", 0)
        )
        if rate is None:
            return
        policy.update_target(rate)
        if rate == 1.0:
            self._last["target_update"] = episodes

    def _quantile_step_is_due(self, gate: Gate) -> bool:
        """Whether this update includes quantile regression; RMIX, Algorithm 1."""
        if not gate.is_open(self.env_steps, self._success_rate):
            return False
        in_steps = gate.options.qr_interval_unit == "env_steps"
        now = self.env_steps if in_steps else self.counters[NUM_UPDATES]
        if now - self._last.get("quantile_step", 0) < gate.options.qr_interval:
            return False
        self._last["quantile_step"] = now
        return True

    def step(self) -> dict[str, Any]:
        """One iteration and its evaluation; see TeamAlgorithm."""
        results = super().step()
        results["td_lambda"] = schedule_value(self.config.td_lambda, self.env_steps)
        results[_NUM_QR_UPDATES] = self.counters[_NUM_QR_UPDATES]
        if isinstance(self.replay, DatasetReplay):
            results["dataset_passes"] = self.env_steps / self.replay.split.num_steps
            with self.stopwatch.part(sw.EVALUATION):
                results |= report(self.team_policy, self._groups)
        if self.estimates is not None:
            results[OFF_POLICY] = self._estimate(self.estimates)
        return results

    def _estimate(self, estimates: Estimates) -> dict[str, float]:
        """Makes an off-policy estimate if one is due; adds the age of the best one."""
        found = {}
        if (self.iteration + 1) % self.config.off_policy_interval == 0:
            self._begin_to("estimating the return from held-out episodes")
            with self.stopwatch.part(sw.EVALUATION):
                found = estimates.make(self.team_policy)
        return {**found, "estimates_since_best": estimates.since_best}

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """See TeamAlgorithm."""
        result = super().evaluate(parallel_train_future)
        gate = self.team_policy.learning.gate
        gated = self._success_rate is None and gate.needs_success
        if gated and ray_internals.log_once("rllib_risk_winrate_gate"):
            logger.warning(
                "qr_gate is %r, but env %r reports no is_success: quantile regression"
                " never starts. Set qr_gate: step.",
                self.config.qr_gate,
                self.config.env,
            )
        return result
