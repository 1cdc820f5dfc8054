"""The training loop that all algorithms share."""

from __future__ import annotations

import functools
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, cast

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_context import EnvContext

from rllib_risk.core import ray_internals, tune_internals
from rllib_risk.core import stopwatch as sw
from rllib_risk.core.callbacks import CombinedCallbacks, functions_of
from rllib_risk.core.checkpointing import CheckpointingAlgorithm
from rllib_risk.core.config import ALGORITHM_OF, TeamConfig
from rllib_risk.core.envs import TeamSpaces, start_env, team_spaces_of
from rllib_risk.core.evaluation import NUM_CRASHES, EvaluatingAlgorithm
from rllib_risk.core.learning import LearningAlgorithm
from rllib_risk.core.lost_runners import RunnerReplacingAlgorithm
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.profile import NUM_UPDATES, ProfilingAlgorithm
from rllib_risk.core.progress import Progress, ProgressWriter
from rllib_risk.core.replay_room import ReplayRoom
from rllib_risk.core.rollout_worker import EnvReport, TeamRolloutWorker
from rllib_risk.core.runners import sample_everywhere
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.env_wrappers import notices
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.parts.objectives.static import Static

# Counters that a checkpoint holds, beside RLlib's own.
NUM_EPISODES = "num_episodes_lifetime"
_NUM_ROUNDS = "num_rounds_lifetime"
# Key of the result with notices about the environments, one per line.
NOTICES = "env_notices"


class TeamAlgorithm(
    ProfilingAlgorithm,
    EvaluatingAlgorithm,
    CheckpointingAlgorithm,
    RunnerReplacingAlgorithm,
    LearningAlgorithm,
):
    """Samples a round of whole episodes, learns, reports and evaluates.

    Each unit of progress is counted in one place. Sampled env steps drive epsilon and
    all other schedules, and episodes drive updates, as in PyMARL. Subclasses implement
    one update in :meth:`_learn`.

    Attributes:
        config_class: Class of the configuration. Most named algorithms set nothing
            else.
        policy_class: Class of the policy.
    """

    config: TeamConfig
    config_class: ClassVar[type[TeamConfig]] = TeamConfig
    policy_class: ClassVar[type[TeamPolicy]] = TeamPolicy

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Registers the class as the algorithm of its ``config_class``."""
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
            config: Configuration or dict of keys. A missing ``seed`` is drawn, kept in
                the configuration and reported, so that the run can be repeated.
            env: RLlib's deprecated argument.
            **kwargs: RLlib's arguments.
        """
        # One run has several workers in this process; all share its notices.
        notices.forget()
        full = self.get_default_config()
        if isinstance(config, AlgorithmConfig):
            full = config.copy(copy_frozen=False)
        else:
            full.update_from_dict(config or {})
        if full.seed is None:
            full.seed = secrets.randbelow(2**31)
        # RLlib creates callbacks from a single class.
        if isinstance(full.callbacks_class, (list, tuple)):
            full.callbacks_class = CombinedCallbacks(full.callbacks_class)
        self._progress_writer = ProgressWriter(tune_internals.trial_id(config))
        super().__init__(config=full, env=env, **kwargs)

    def __repr__(self) -> str:
        """Returns the name of the class; Ray also calls it after a failed start.

        RLlib's own method raises an error then, which hides the cause of the failure.
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
            return name, functools.partial(start_env, config)  # RLlib's runner steps it
        return name, functools.partial(_hand_out, team_spaces_of(config))

    def setup(self, config: AlgorithmConfig) -> None:
        """Builds workers, policies and the replay; see RLlib.

        Args:
            config: The configuration.
        """
        self.start_profile()
        # Before RLlib's setup, which calls on_algorithm_init at its end.
        self.replay = self.make_replay(config)
        # Called with the episodes of every round; recording a learner adds a function.
        self.on_episodes: list[Callable[[list[Episode]], None]] = []
        self._updates_owed = 0.0
        # Whether an update of this round has statistics (update_interval_env_steps).
        self._has_stats = False
        # Value of a counter when an action was last done, by the action's name.
        self._last: dict[str, int] = {}
        self._success_rate: float | None = None
        # The last evaluation, and its age in results.
        self._last_evaluation: dict[str, Any] = {}
        self._evaluation_age = 0
        self._learner_stats: dict[str, float] = {}
        # Notices about environments: all keys, and new texts since the last result.
        self._noticed: set[str] = set()
        self._new_notices: list[str] = []
        # Number of times each runner was restored since it last finished its part.
        self._replaced: Counter[tuple[bool, int]] = Counter()
        # Current activity, and its env steps that no counter holds yet.
        self._doing, self._uncounted = "starting", 0
        remote = config.num_env_runners or config.evaluation_num_env_runners
        remote = remote or config.num_learners > 1
        with ray_internals.starting_no_ray(not remote):
            super().setup(config)
        self.set_up_learners()
        self.share_stopwatch()
        # RLlib's own worker has no team_policy.
        objective = cast("TeamPolicy", self.get_policy()).network.objective
        if isinstance(objective, Static):
            self.replay.return_discount = self.config.gamma
            self.on_episodes.append(
                lambda episodes: objective.observe(
                    e.discounted_return(self.config.gamma) for e in episodes
                )
            )
        # A run that learns from a dataset samples nothing.
        env, offline = self.env_runner.env, getattr(config, "dataset", None) is not None
        self._room: ReplayRoom | None = None
        if env is not None and not offline:
            self._room = ReplayRoom(config, env.spec_team)
            self.on_episodes.append(self._room.observe)
        for group in (self.env_runner_group, self.eval_env_runner_group):
            if group is not None and group.local_env_runner is not None:
                group.local_env_runner.on_steps = self._count_steps

    def make_replay(self, config: AlgorithmConfig) -> EpisodeReplay:
        """Creates the replay.

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
        """Runs one round: samples episodes, stores them and learns.

        Returns:
            Statistics of the last update.
        """
        remote = self.env_runner_group.num_remote_env_runners()
        self._has_stats = False
        self._begin_to(f"waiting for {remote} env runners" if remote else "sampling")
        with ray_internals.timers(self)["sample"]:
            episodes = self._sample_round()
        self._begin_to("learning")
        with self.stopwatch.part(sw.REPLAY):
            self.replay.add(episodes)
            for observer in self.on_episodes:
                observer(episodes)
        steps = sum(len(episode) for episode in episodes)
        ray_internals.add_sampled_steps(self, steps)
        self.counters[NUM_EPISODES] += len(episodes)
        self._publish_env_steps()
        if self.config.update_interval_env_steps is None:
            self._updates_owed += len(episodes) * self.config.updates_per_episode
            with ray_internals.timers(self)["learn"]:
                # Results report only the last update.
                self._make_updates(lambda: self._updates_owed < 1.0)
        return dict(self._learner_stats)

    def _make_updates(self, wants_stats: Callable[[], bool]) -> int:
        """Makes the updates that are owed, and returns their number."""
        if len(self.replay) < self.config.learning_starts_episodes:
            # Episodes before learning starts owe no updates, as in PyMARL.
            self._updates_owed %= 1.0
            return 0
        number = int(self._updates_owed)
        for _ in range(number):
            self._updates_owed -= 1.0
            self._update(stats=wants_stats())
        return number

    @property
    def team_policy(self) -> TeamPolicy:
        """The policy that learns."""
        return self.env_runner.team_policy

    @property
    def counters(self) -> Counter[str]:
        """Counters of the algorithm by name; a checkpoint holds them."""
        return ray_internals.counters(self)

    @property
    def env_steps(self) -> int:
        """Env steps sampled so far."""
        return ray_internals.num_sampled_steps(self)

    def _begin_to(self, doing: str) -> None:
        self._doing, self._uncounted = doing, 0
        self._progress_writer.write(self.progress)

    def _count_steps(self, steps: int) -> None:
        """Counts steps of a local runner, and makes updates between them if due."""
        self._uncounted += steps
        self._progress_writer.write(self.progress)
        interval = self.config.update_interval_env_steps
        if interval is None or self._doing != "sampling":
            return
        self._updates_owed += steps / interval
        # One update per round computes statistics.
        if self._make_updates(lambda: not self._has_stats):
            self._has_stats = True
            self.env_runner.refresh_player()

    def progress(self) -> Progress:
        """Returns the progress so far; any thread may call this at any time."""
        sampled = self.env_steps + (self._uncounted if self._doing == "sampling" else 0)
        doing = self._doing
        if doing == "evaluating" and self._uncounted:
            doing += f" ({self._uncounted:,} env steps)"
        return Progress(
            doing,
            self.counters[NUM_EPISODES],
            sampled,
            self.counters[NUM_UPDATES],
            self.counters[NUM_CRASHES],
        )

    def _sample_round(self) -> list[Episode]:
        group = self.env_runner_group
        index = self.counters[_NUM_ROUNDS]
        self.counters[_NUM_ROUNDS] += 1
        if group.num_remote_env_runners() == 0:
            episodes = self.env_runner.sample(index)
            self.count_report(self.env_runner.take_report())
            return episodes
        with self.stopwatch.part(sw.WAITING):
            return sample_everywhere(self, index, overlap=self.config.overlap_sampling)

    def count_report(self, report: EnvReport) -> None:
        """Counts lost episodes and keeps notices for the next result.

        Args:
            report: Report of an env runner.
        """
        self.counters[NUM_CRASHES] += report.crashes
        self.add_runner_seconds(report.seconds)
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
            batch: Batch of the next update.

        Returns:
            Values that the callbacks log; the results hold them under ``learner``.
        """
        logged: dict[str, float] = {}
        self.env_runner.hooks.call(
            "on_learn_on_batch",
            policy=self.team_policy,
            train_batch=batch,
            result=logged,
        )
        return logged

    def _update(self, *, stats: bool) -> None:
        self.team_policy.update_index = self.counters[NUM_UPDATES]
        self.team_policy.wants_stats = stats
        with self.stopwatch.part(sw.FORWARD):  # other parts interrupt it
            learned, steps = self._learn()
        self._learner_stats.update(learned)
        ray_internals.add_trained_steps(self, steps)
        self.counters[NUM_UPDATES] += 1
        self._progress_writer.write(self.progress)

    def _learn(self) -> tuple[dict[str, float], int]:
        """Makes one update of all networks, including the target networks.

        Returns:
            Values to log, and the number of env steps learned from.
        """
        raise NotImplementedError

    def step(self) -> dict[str, Any]:
        """Runs one iteration and its evaluation; see RLlib.

        Returns:
            RLlib's results and those of this package.
        """
        if self._room is not None:
            self._room.begin()
        self.begin_learners()  # they start while the first round is played
        start = time.monotonic()
        steps_before = self.env_steps
        results = super().step()
        seconds = time.monotonic() - start
        results["learner"] = dict(self._learner_stats)
        results["epsilon"] = self.team_policy.epsilon_at(self.env_steps)
        results["seed"] = self.config.seed
        results["replay_episodes"] = len(self.replay)
        results["env_steps_per_s"] = (self.env_steps - steps_before) / seconds
        for key in (NUM_EPISODES, NUM_UPDATES, NUM_CRASHES):
            results[key] = self.counters[key]
        if self._new_notices:
            results[NOTICES] = "\n".join(self._new_notices)
            self._new_notices.clear()
        self._carry_evaluation(results)
        if self._room is not None:
            self._room.check()
        return results


def _hand_out(spaces: TeamSpaces, context: EnvContext) -> TeamSpaces:
    """Environment creator for the env runners; returns spaces that already exist."""
    return spaces
