"""Saves and restores an algorithm; :mod:`.checkpoint` reads and writes the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm

from rllib_risk.core import checkpoint as ckpt
from rllib_risk.core import ray_internals, tune_internals
from rllib_risk.core.checkpoint_state import check_state
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.off_policy.estimates import OFF_POLICY, Estimates
from rllib_risk.core.record import from_record, to_record
from rllib_risk.core.thresholds import choose_threshold
from rllib_risk.parts.objectives.static import Static


class CheckpointingAlgorithm(Algorithm):
    """The part of an algorithm that writes and reads its checkpoints."""

    config: TeamConfig
    # Versions and commit of the code that wrote the restored checkpoint.
    restored_versions: dict[str, Any] | None = None
    # Off-policy estimates of a run that learns from a dataset; None: no estimates.
    estimates: Estimates | None = None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes everything that the run depends on; see :mod:`.checkpoint`.

        Args:
            checkpoint_dir: Existing folder.
        """
        objective = self.team_policy.network.objective
        more: dict[str, Any] = {}
        if isinstance(objective, Static):
            if objective.threshold is None and self.config.env is not None:
                choose_threshold(self, self.config.seed)
            more["objective"] = objective.state()
        if self.estimates is not None:
            more[OFF_POLICY] = self.estimates.state()
        ckpt.write_checkpoint(
            Path(checkpoint_dir),
            config=to_record(type(self).__name__, self.config),
            tensors=self._named_tensors(),
            optimizers=self.team_policy.optimizers,
            replay=self.replay.state_arrays(),
            state={
                "iteration": self.iteration,
                "counters": {k: v for k, v in self.counters.items() if _is_number(v)},
                "updates_owed": self._updates_owed,
                "last": self._last,
                "success_rate": self._success_rate,
                "last_evaluation": _plain(self._last_evaluation),
                "evaluation_age": self._evaluation_age,
                "learner_stats": self._learner_stats,
                "episode_history": [
                    [m.episode_length, m.episode_reward, dict(m.custom_metrics)]
                    for m in ray_internals.episode_history(self)
                ],
                **more,
            },
        )

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Restores exactly this checkpoint; there is no fallback to another one.

        Args:
            checkpoint_dir: Folder that :meth:`save_checkpoint` wrote to.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or does not fit.
        """
        self._restore(ckpt.verify_checkpoint(checkpoint_dir))

    def restore(self, checkpoint_path: Any) -> None:
        """Restores a checkpoint as Tune does; see RLlib.

        Args:
            checkpoint_path: A folder, or Tune's ``Checkpoint`` or saved result.

        Raises:
            CheckpointError: If the folder holds a pickle that Tune would load and run.
                See also :meth:`load_checkpoint`.
        """
        if tune_internals.holds_pickled_state(checkpoint_path):
            raise ckpt.CheckpointError(
                f"{checkpoint_path} holds a pickle, which would run code. It is no"
                " checkpoint of this package."
            )
        super().restore(checkpoint_path)

    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Restores a checkpoint; RLlib's own method would load pickles.

        Args:
            path: Folder of a checkpoint.
            *args: RLlib's arguments; not used.
            **kwargs: RLlib's arguments; not used.

        Raises:
            CheckpointError: See :meth:`load_checkpoint`.
        """
        self.load_checkpoint(str(path))

    def _restore(self, folder: Path) -> None:
        """Restores a checkpoint that is verified, so a large replay is hashed once."""
        with ckpt.reading(folder):
            self._restore_contents(folder)
        self._publish_env_steps()
        if self.env_runner_group.num_remote_env_runners():
            self.env_runner_group.sync_weights(global_vars={"timestep": self.env_steps})
        self._call("on_checkpoint_loaded")

    def _restore_contents(self, folder: Path) -> None:
        state = ckpt.read_state(folder)
        check_state(state, folder / ckpt.STATE)
        self.restored_versions = dict(ckpt.read_config(folder)["versions"])
        ckpt.load_parameters(folder, self._named_tensors())
        ckpt.load_optimizers(folder, self.team_policy.optimizers)
        self.replay.load_arrays(ckpt.read_replay(folder))
        self.counters.update(state["counters"])
        self._updates_owed = state["updates_owed"]
        self._last = state["last"]
        self._success_rate = state["success_rate"]
        # Checkpoints of version 0.1 hold no evaluation.
        self._last_evaluation = state.get("last_evaluation", {})
        self._evaluation_age = state.get("evaluation_age", 0)
        self._learner_stats = state["learner_stats"]
        objective = self.team_policy.network.objective
        if isinstance(objective, Static):
            objective.load(state["objective"])
        if self.estimates is not None:
            self.estimates.load(state.get(OFF_POLICY))
        history = [ray_internals.episode_metrics(*m) for m in state["episode_history"]]
        ray_internals.set_progress(self, state["iteration"], history)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, trust_code: bool = False, **kwargs: Any
    ) -> Self:
        """Builds the algorithm of a checkpoint and restores its state.

        It has the env runners and learners of the training, and starts Ray for them if
        they are remote. :func:`rllib_risk.load` leaves them out.

        A checkpoint can name code by import path: the factory of an environment, a
        module that registers environments, or a custom part. Such code is imported
        only if it is trusted.

        Args:
            path: A checkpoint folder.
            trust_code: Whether code that the checkpoint names may be imported and
                called.
            **kwargs: Keys that replace those of the checkpoint's configuration.

        Returns:
            The algorithm.

        Raises:
            CheckpointError: If the checkpoint is damaged, does not fit, belongs to
                another algorithm than this class, or names code that is not trusted.
        """
        folder = ckpt.verify_checkpoint(path)
        with ckpt.reading(folder):
            config = from_record(ckpt.read_config(folder), trust_code=trust_code)
        found = config.algo_class
        if not issubclass(found, cls):
            raise ckpt.CheckpointError(
                f"{folder} is a checkpoint of {found.__name__}, not of {cls.__name__}."
                f" Load it with {found.__name__}.from_checkpoint(path) or"
                " rllib_risk.load(path)."
            )
        config.update_from_dict(kwargs)
        algorithm = config.build_algo()
        algorithm._restore(folder)
        return algorithm

    def _named_tensors(self) -> dict[str, Any]:
        return {
            f"{name}.{key}": tensor
            for name, module in self.team_policy.modules().items()
            for key, tensor in module.named_parameters()
        }


def in_this_process(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Adds keys with which an algorithm has no remote env runners and learners.

    Args:
        keys: Keys of the configuration. They are kept.
    """
    runners = {"num_env_runners": 0, "evaluation_num_env_runners": 0}
    learners = {
        "num_learners": 0,
        "num_cpus_per_learner": "auto",
        "num_gpus_per_learner": 0,
    }
    return {**runners, **({} if "num_learners" in keys else learners), **keys}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _plain(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers and texts of nested results in a form that JSON can hold."""
    plain: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, dict):
            plain[key] = _plain(value)
        elif value is None or isinstance(value, (int, float, str)):
            plain[key] = value
    return plain
