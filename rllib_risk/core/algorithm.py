"""The training loop that all algorithms share."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_risk.core import checkpoint as ckpt
from rllib_risk.core import ray_internals
from rllib_risk.core.callbacks import Several, functions_of
from rllib_risk.core.config import ALGORITHM_OF, TeamConfig
from rllib_risk.core.envs import TeamSpaces, env_name, start_env, team_spaces_of
from rllib_risk.core.play import play_and_render
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.progress import Progress, ProgressWriter
from rllib_risk.core.record import from_record, to_record
from rllib_risk.core.rollout_worker import EnvReport, TeamRolloutWorker
from rllib_risk.core.runners import play_everywhere, sample_everywhere
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.data.replay_memory import check_room, machine_memory
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.joined_envs import VARIANT
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.ops.statistics import return_statistics

logger = logging.getLogger(__name__)

# Counters that a checkpoint holds, beside RLlib's own.
NUM_EPISODES = "num_episodes_lifetime"
NUM_UPDATES = "num_updates_lifetime"
_NUM_ROUNDS = "num_rounds_lifetime"
_NUM_CRASHES = "num_env_crashes_lifetime"
# Result with what a user should read about the environments, one notice a line.
NOTICES = "env_notices"


class TeamAlgorithm(Algorithm):
    """Sample a round of whole episodes, learn, report, evaluate.

    Every unit of progress is counted in one place: sampled env steps drive epsilon and
    every other schedule, episodes drive updates, as in PyMARL. How an update is made is
    the subclass's part: :meth:`_learn`.

    Attributes:
        config_class: The class of its configuration. Most named algorithms set nothing
            else.
        policy_class: The class of its policy.
    """

    config: TeamConfig
    config_class: ClassVar[type[TeamConfig]] = TeamConfig
    policy_class: ClassVar[type[TeamPolicy]] = TeamPolicy

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Tells the configuration class which algorithm it is for."""
        super().__init_subclass__(**kwargs)
        if "config_class" in vars(cls):
            ALGORITHM_OF[cls.config_class] = cls

    def __init__(
        self,
        config: AlgorithmConfig | dict[str, Any] | None = None,
        env: Any = None,
        **kwargs: Any,
    ) -> None:
        """Initializes the algorithm; see RLlib's ``Algorithm``.

        Args:
            config: Configuration or dict of keys. Without ``seed`` one is drawn, kept
                in the configuration and reported, so that any run can be repeated.
            env: RLlib's deprecated argument.
            **kwargs: RLlib's arguments.
        """
        full = self.get_default_config()
        if isinstance(config, AlgorithmConfig):
            full = config.copy(copy_frozen=False)
        else:
            full.update_from_dict(config or {})
        if full.seed is None:
            full.seed = secrets.randbelow(2**31)
        # RLlib itself can make one class of callbacks only.
        if isinstance(full.callbacks_class, (list, tuple)):
            full.callbacks_class = Several(full.callbacks_class)
        self._progress_writer = ProgressWriter(ray_internals.trial_id(config))
        super().__init__(config=full, env=env, **kwargs)

    def __repr__(self) -> str:
        """Its name. Ray asks for it also after a failed start, where RLlib's own fails.

        The cause of the failure would be lost then.
        """
        return type(self).__name__

    @classmethod
    def get_default_config(cls) -> TeamConfig:
        """See RLlib."""
        return cls.config_class(algo_class=cls)

    @classmethod
    def get_default_policy_class(cls, config: AlgorithmConfig) -> type[TeamPolicy]:
        """See RLlib."""
        return cls.policy_class

    @staticmethod
    def _get_env_id_and_creator(
        env_specifier: Any, config: AlgorithmConfig
    ) -> tuple[str | None, Callable[[EnvContext], TeamEnv | TeamSpaces]]:
        if env_specifier is None:
            return None, lambda _: None  # type: ignore[return-value]
        name = env_specifier if isinstance(env_specifier, str) else None
        if not issubclass(config.env_runner_cls, TeamRolloutWorker):
            return name, functools.partial(start_env, config)  # RLlib's own plays in it
        return name, functools.partial(_hand_out, team_spaces_of(config))

    def setup(self, config: AlgorithmConfig) -> None:
        """Builds workers, policies and the replay; see RLlib.

        Args:
            config: The configuration.
        """
        # Before RLlib's part, at the end of which it calls on_algorithm_init.
        self.replay = self.make_replay(config)
        # Called with the episodes of every round; who records a learner adds to it.
        self.on_episodes: list[Callable[[list[Episode]], None]] = []
        self._updates_owed = 0.0
        # Where the counters stood when something was last done, by its name.
        self._last: dict[str, int] = {}
        self._success_rate: float | None = None
        # The last evaluation, and how many results ago it was made.
        self._last_evaluation: dict[str, Any] = {}
        self._evaluation_age = 0
        self._learner_stats: dict[str, float] = {}
        # Notices about environments: keys of all, texts since the last result.
        self._noticed: set[str] = set()
        self._new_notices: list[str] = []
        # How often each runner came back since it last finished its part.
        self._replaced: Counter[tuple[bool, int]] = Counter()
        # What it does, and env steps of that which no counter holds yet.
        self._doing, self._uncounted = "starting", 0
        super().setup(config)
        groups = (self.env_runner_group, self.eval_env_runner_group)
        for group in groups:
            if group is not None and group.local_env_runner is not None:
                group.local_env_runner.on_steps = self._count_steps

    def make_replay(self, config: AlgorithmConfig) -> EpisodeReplay:
        """Makes the replay.

        Args:
            config: The configuration.

        Returns:
            An empty replay.
        """
        return EpisodeReplay(
            config.buffer_size_episodes, config.seed, compact=config.compact_replay
        )

    # Training

    def training_step(self) -> dict[str, Any]:
        """One round: sample, store, learn, hand out the new weights.

        Returns:
            The last update's statistics.
        """
        remote = self.env_runner_group.num_remote_env_runners()
        self._begin_to(f"waiting for {remote} env runners" if remote else "sampling")
        with ray_internals.timers(self)["sample"]:
            episodes = self._sample_round()
        self._begin_to("learning")
        self.replay.add(episodes)
        for observer in self.on_episodes:
            observer(episodes)
        steps = sum(len(episode) for episode in episodes)
        ray_internals.add_sampled_steps(self, steps)
        self.counters[NUM_EPISODES] += len(episodes)
        self._publish_env_steps()
        self._updates_owed += len(episodes) * self.config.updates_per_episode
        with ray_internals.timers(self)["learn"]:
            if len(self.replay) >= self.config.learning_starts_episodes:
                while self._updates_owed >= 1.0:
                    self._updates_owed -= 1.0
                    # Only of the last one before a result is anything read.
                    self._update(stats=self._updates_owed < 1.0)
            else:
                # No debt from before learning began: PyMARL takes no step then.
                self._updates_owed %= 1.0
        return dict(self._learner_stats)

    @property
    def team_policy(self) -> TeamPolicy:
        """The policy that learns."""
        return self.env_runner.team_policy

    @property
    def counters(self) -> Counter[str]:
        """What the algorithm counts, by name; a checkpoint holds it."""
        return ray_internals.counters(self)

    @property
    def env_steps(self) -> int:
        """Env steps sampled so far."""
        return ray_internals.num_sampled_steps(self)

    def _begin_to(self, doing: str) -> None:
        self._doing, self._uncounted = doing, 0
        self._progress_writer.write(self.progress)

    def _count_steps(self, steps: int) -> None:
        self._uncounted += steps
        self._progress_writer.write(self.progress)

    def progress(self) -> Progress:
        """What was done so far; it may be asked for at any time, by any thread."""
        sampled = self.env_steps + (self._uncounted if self._doing == "sampling" else 0)
        doing = self._doing
        if doing == "evaluating" and self._uncounted:
            doing += f" ({self._uncounted:,} env steps)"
        return Progress(
            doing,
            self.counters[NUM_EPISODES],
            sampled,
            self.counters[NUM_UPDATES],
            self.counters[_NUM_CRASHES],
        )

    def _sample_round(self) -> list[Episode]:
        group = self.env_runner_group
        index = self.counters[_NUM_ROUNDS]
        self.counters[_NUM_ROUNDS] += 1
        if group.num_remote_env_runners() == 0:
            episodes = self.env_runner.sample(index)
            self.take_in(self.env_runner.take_report())
            return episodes
        return sample_everywhere(self, index, overlap=self.config.overlap_sampling)

    def take_in(self, report: EnvReport) -> None:
        """Counts lost episodes and keeps notices for the next result.

        Args:
            report: Of an env runner.
        """
        self.counters[_NUM_CRASHES] += report.crashes
        for key, text in report.notices.items():
            if key not in self._noticed:
                self._noticed.add(key)
                self._new_notices.append(text)

    def _publish_env_steps(self) -> None:
        self.env_runner.set_global_vars({"timestep": self.env_steps})

    def _call(self, hook: str, **arguments: Any) -> None:
        """Calls a hook of the callbacks; see :mod:`.callbacks`."""
        getattr(self.callbacks, hook)(algorithm=self, **arguments)
        for function in functions_of(self.config, hook):
            function(algorithm=self, **arguments)

    def before_learning(self, batch: Any) -> dict[str, float]:
        """Calls ``on_learn_on_batch`` of the callbacks.

        Args:
            batch: What an update is about to learn from.

        Returns:
            What the callbacks log; it is part of the results under ``learner``.
        """
        logged: dict[str, float] = {}
        self.env_runner.hooks.call(
            "on_learn_on_batch",
            policy=self.team_policy,
            train_batch=batch,
            result=logged,
        )
        return logged

    def replace_lost_runners(self, group: EnvRunnerGroup) -> list[int]:
        """Brings lost env runners back, between RLlib's own attempts to do so.

        Args:
            group: The env runners of training or of evaluations.

        Returns:
            Indices of those that came back.
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
        """Counts what RLlib restores; see there.

        Args:
            env_runner_group: The env runners of training or of evaluations.

        Returns:
            Indices of those that came back.
        """
        restored = super().restore_env_runners(env_runner_group)
        for index in restored:
            self._replaced[self._key_of(env_runner_group, index)] += 1
        return restored

    def runner_answered(self, group: EnvRunnerGroup, index: int) -> None:
        """Notes that a runner finished its part, however often it was lost before.

        Args:
            group: The env runners of training or of evaluations.
            index: Of the runner.
        """
        self._replaced.pop(self._key_of(group, index), None)

    def runner_lost(self, group: EnvRunnerGroup, index: int, cause: str) -> None:
        """Gives up if a runner is lost again and again.

        Args:
            group: The env runners of training or of evaluations.
            index: Of the runner.
            cause: What Ray says about it.

        Raises:
            RuntimeError: If it was lost ``max_env_restarts`` times in a row.
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

    def _update(self, *, stats: bool) -> None:
        self.team_policy.update_index = self.counters[NUM_UPDATES]
        self.team_policy.wants_stats = stats
        learned, steps = self._learn()
        self._learner_stats.update(learned)
        ray_internals.add_trained_steps(self, steps)
        self.counters[NUM_UPDATES] += 1
        self._progress_writer.write(self.progress)

    def _learn(self) -> tuple[dict[str, float], int]:
        """One update of everything that learns, targets included.

        Returns:
            What to log, and how many env steps were learned from.
        """
        raise NotImplementedError

    def step(self) -> dict[str, Any]:
        """One iteration and its evaluation; see RLlib.

        Returns:
            RLlib's results and ours.
        """
        first = self.iteration == 0
        if first:
            self._check_replay_memory()
        start = time.monotonic()
        steps_before = self.env_steps
        results = super().step()
        seconds = time.monotonic() - start
        results["learner"] = dict(self._learner_stats)
        results["epsilon"] = self.team_policy.epsilon_at(self.env_steps)
        results["seed"] = self.config.seed
        results["replay_episodes"] = len(self.replay)
        results["env_steps_per_s"] = (self.env_steps - steps_before) / seconds
        for key in (NUM_EPISODES, NUM_UPDATES, _NUM_CRASHES):
            results[key] = self.counters[key]
        if self._new_notices:
            results[NOTICES] = "\n".join(self._new_notices)
            self._new_notices.clear()
        self._carry_evaluation(results)
        if first and self.counters[NUM_EPISODES]:
            self._check_replay_memory(self.env_steps // self.counters[NUM_EPISODES])
        return results

    def _check_replay_memory(self, seen_steps: int | None = None) -> None:
        """Refuses a replay that cannot fit, where the local runner has an env.

        Args:
            seen_steps: Mean length of the episodes so far, which counts where the
                environment declares no limit. None: before the first episode.
        """
        env = self.env_runner.env
        # Nothing is sampled beside a dataset.
        offline = getattr(self.config, "dataset", None) is not None
        if env is None or offline or self.config.env_variants:
            return
        spec = env.spec_team
        if seen_steps is not None:
            if spec.episode_limit is not None:
                return
            spec = dataclasses.replace(spec, episode_limit=seen_steps)
        bound = self.config.replay_bound([spec])
        warning = check_room([bound], machine_memory(), "this machine")
        if warning:
            logger.warning(warning)

    def _carry_evaluation(self, results: dict[str, Any]) -> None:
        """Repeats the last evaluation in a result that has none of its own.

        Schedulers and searchers of Tune want their metric in every result. How many
        results old it is, ``evaluation/age_iterations`` says.
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

    # Evaluation

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Plays ``evaluation_duration`` greedy episodes, always the same ones.

        Args:
            parallel_train_future: RLlib's argument; not used.

        Returns:
            Statistics of exactly that many returns; see :meth:`evaluate_episodes`.
        """
        self._call("on_evaluate_start", metrics_logger=self.metrics)
        result = self.evaluate_episodes(self.config.evaluation_duration)
        result.pop("returns")
        # Where tools made for RLlib look.
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
    ) -> dict[str, Any]:
        """Plays exactly so many greedy episodes and sums them up.

        Args:
            num_episodes: How many.
            seed: Of the evaluation; the configuration's if not given. The seeds of the
                environments never coincide with those of training.
            frames: A list to add rendered frames of the first episode to.

        Returns:
            ``episodes``, ``return_mean``, ``return_median``, ``return_min``,
            ``return_cvar_10`` and the like, ``success_rate`` where the environment
            reports success, ``risk_level_mean`` and one level per agent, the mean of
            every other number the environment reports, and ``returns``.
        """
        self.require_env()
        self._begin_to("evaluating")
        seed = self.config.seed if seed is None else seed
        if frames is not None:  # first, since an environment may be unable to render
            frames += self.render_episode(seed)
        group = self.eval_env_runner_group or self.env_runner_group
        if group is not self.env_runner_group:
            # Schedules depend on the env steps, that of a risk level included.
            group.sync_weights(
                from_worker_or_learner_group=self.env_runner,
                global_vars={"timestep": self.env_steps},
            )
        if (
            self.config.evaluation_num_env_runners == 0
            or group is self.env_runner_group
        ):
            runner: TeamRolloutWorker = group.local_env_runner
            episodes = runner.evaluate_episodes(range(num_episodes), seed)
            self.take_in(runner.take_report())
        else:
            episodes = play_everywhere(self, group, num_episodes, seed)
        return summarise(episodes, self.agent_names())

    def require_env(self) -> None:
        """Refuses to play where there is nothing to play in.

        Raises:
            EnvConfigError: If the run learned from a dataset alone.
        """
        if self.config.env is None:
            raise EnvConfigError(
                "env: this run learned from a dataset and knows no environment to play"
                " in. Train it with one, which is then used for evaluations alone."
            )

    def render_episode(self, seed: int) -> list[np.ndarray]:
        """Plays one greedy episode in an environment that renders.

        Args:
            seed: Of the evaluation; the episode is its first one.

        Returns:
            uint8 frames ``[height, width, 3]``.
        """
        return play_and_render(self.team_policy, self.evaluation_config, seed)

    def agent_names(self) -> tuple[str, ...]:
        """Names of the agents, in the order of all arrays; there must be an env."""
        runner = (self.eval_env_runner_group or self.env_runner_group).local_env_runner
        if runner.env is None:
            runner = self.env_runner
        if runner.env is None:
            return team_spaces_of(self.config).spec_team.agents
        return runner.env.spec_team.agents

    # Checkpoints

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes everything that the run depends on; see :mod:`.checkpoint`.

        Args:
            checkpoint_dir: Existing folder.
        """
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
            },
        )

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Restores a checkpoint, and never another one in its place.

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
            CheckpointError: If the folder holds a pickle that Tune would load and run,
                or see :meth:`load_checkpoint`.
        """
        if ray_internals.holds_pickled_state(checkpoint_path):
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
        """Restores a verified checkpoint; hashing a large replay once is enough."""
        with ckpt.reading(folder):
            self._restore_contents(folder)
        self._publish_env_steps()
        if self.env_runner_group.num_remote_env_runners():
            self.env_runner_group.sync_weights(global_vars={"timestep": self.env_steps})
        self._call("on_checkpoint_loaded")

    def _restore_contents(self, folder: Path) -> None:
        state = ckpt.read_state(folder)
        ckpt.load_parameters(folder, self._named_tensors())
        ckpt.load_optimizers(folder, self.team_policy.optimizers)
        self.replay.load_arrays(ckpt.read_replay(folder))
        self.counters.update(state["counters"])
        self._updates_owed = state["updates_owed"]
        self._last = state["last"]
        self._success_rate = state["success_rate"]
        # Checkpoints of 0.1 have none.
        self._last_evaluation = state.get("last_evaluation", {})
        self._evaluation_age = state.get("evaluation_age", 0)
        self._learner_stats = state["learner_stats"]
        history = [ray_internals.episode_metrics(*m) for m in state["episode_history"]]
        ray_internals.set_progress(self, state["iteration"], history)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, trust_code: bool = False, **kwargs: Any
    ) -> Self:
        """Builds the algorithm that a checkpoint came from, in the state it was in.

        Nothing that the checkpoint names is imported or called, but for the factory of
        a ``pettingzoo`` environment and a mixer or risk measure by import path, and
        those only if they are trusted.

        Args:
            path: A checkpoint folder.
            trust_code: Whether such code may be imported and called.
            **kwargs: Keys that replace those of the checkpoint's configuration.

        Returns:
            The algorithm.

        Raises:
            CheckpointError: If the checkpoint is not whole, does not fit, is of another
                algorithm than this class, or names code that is not trusted.
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


def summarise(episodes: Sequence[Episode], agents: Sequence[str]) -> dict[str, Any]:
    """Sums up evaluation episodes.

    Args:
        episodes: Finished episodes.
        agents: Names of the agents.

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
    # A rate of its own; and the index of a variant has no mean.
    names -= {"is_success", VARIANT}
    for name in sorted(names):
        result[name] = float(np.mean([e.metrics[name] for e in episodes]))
    result["returns"] = returns
    return result


def _hand_out(spaces: TeamSpaces, context: EnvContext) -> TeamSpaces:
    """What each runner of RLlib calls to make an environment."""
    return spaces


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _plain(results: dict[str, Any]) -> dict[str, Any]:
    """Numbers and texts of nested results, as JSON can hold them."""
    plain: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, dict):
            plain[key] = _plain(value)
        elif value is None or isinstance(value, (int, float, str)):
            plain[key] = value
    return plain
