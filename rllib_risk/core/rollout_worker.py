"""A rollout worker that plays whole episodes in several environments at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.evaluation.metrics import RolloutMetrics
from ray.rllib.evaluation.rollout_worker import RolloutWorker
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID

from rllib_risk.core.envs import make_batched_env
from rllib_risk.core.episodes import Episode
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.env_wrappers.errors import EnvContractError, NonFiniteError
from rllib_risk.env_wrappers.team_env import BatchedStep, BatchedTeamEnv, TeamSpec

# First words of the random streams: training and evaluation never share one, and
# evaluation seeds lie in a range of their own.
_TRAIN_STREAM, _EVAL_STREAM = 1, 2
_SEED_RANGE = 2**30
# How a crash text begins when the environment gave NaN or infinity.
_NON_FINITE = NonFiniteError.__name__


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keeps PyTorch to one thread, as Ray does in remote runners.

    The matrices of a step are so small that a second thread brings next to nothing, and
    where another process wants that core, waiting for it makes a step tens of times
    slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TeamRolloutWorker(RolloutWorker):
    """Plays rounds of whole episodes.

    RLlib keeps its part: policy map, weight sync, global variables, creation of remote
    workers and their recovery. What is replaced is the loop: one batched forward pass
    for all environments, one call to step them, preallocated arrays.

    A round has a fixed number of episodes; a free environment takes the next until none
    is left, and the round ends when all have ended. So no episode is ever cut or
    carried over, short ones are not favoured, and between rounds there is no hidden
    state: all randomness of a round follows from the seed, the worker's index and the
    round's number.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Initializes the worker; see :class:`RolloutWorker`.

        Args:
            **kwargs: RLlib's arguments.
        """
        config = kwargs["config"]
        self._num_envs = config.num_envs_per_env_runner
        # RLlib would vectorise the environment itself; we need one of it, for spaces.
        single = config.copy(copy_frozen=False)
        single.num_envs_per_env_runner = 1
        super().__init__(**{**kwargs, "config": single})
        self._team_envs: BatchedTeamEnv | None = None
        self._storage: _Storage | None = None
        self._metrics: list[RolloutMetrics] = []
        self._rounds = 0
        self._crashes = 0

    @property
    def team_policy(self) -> TeamPolicy:
        """The one policy."""
        return self.policy_map[DEFAULT_POLICY_ID]

    @property
    def team_envs(self) -> BatchedTeamEnv:
        """The environments, made when first needed."""
        if self._team_envs is None:
            self._team_envs = make_batched_env(
                self.config, self._num_envs, self.env_context
            )
        return self._team_envs

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls a function with this worker; see RLlib's ``FaultAwareApply``.

        RLlib ends the process on any error, and a minute later starts another. What
        gets this far has already been retried in a new environment, or is a mistake in
        code or configuration: a new process would only repeat it, and the message
        would be lost.
        """
        return func(self, *args, **kwargs)

    def sample(
        self, round_index: int | None = None, num_episodes: int | None = None
    ) -> list[Episode]:
        """Plays one exploring round.

        Args:
            round_index: Number of the round, which fixes all its randomness; the
                worker's own count if not given.
            num_episodes: Of the round; ``episodes_per_round`` if not given.

        Returns:
            The episodes, in the order in which they began.
        """
        index = self._rounds if round_index is None else round_index
        self._rounds = index + 1
        number = num_episodes or self.config.episodes_per_round or self._num_envs
        rng = np.random.default_rng(
            (self.config.seed or 0, _TRAIN_STREAM, self.worker_index, index)
        )
        seeds = rng.integers(_SEED_RANGE, size=number)
        episodes = self._play(seeds, rng, explore=True)
        self._metrics += [
            RolloutMetrics(len(e), e.episode_return, custom_metrics=e.metrics)
            for e in episodes
        ]
        return episodes

    def evaluate_episodes(self, indices: Sequence[int], seed: int) -> list[Episode]:
        """Plays greedy episodes.

        Args:
            indices: Which episodes of the evaluation; each index has its own fixed
                environment seed, so that any split over workers plays the same ones.
            seed: Of the evaluation.

        Returns:
            The episodes, in the order of ``indices``.
        """
        seeds = [evaluation_seed(seed, index) for index in indices]
        rng = np.random.default_rng((seed, _EVAL_STREAM))
        return self._play(np.array(seeds), rng, explore=False)

    def take_crash_count(self) -> int:
        """Episodes lost to crashes since this was last asked."""
        count, self._crashes = self._crashes, 0
        return count

    def get_metrics(self) -> list[RolloutMetrics]:
        """Returns and forgets the metrics of training episodes; see RolloutWorker."""
        metrics, self._metrics = self._metrics, []
        return metrics

    def stop(self) -> None:
        """Closes the environments; see RolloutWorker."""
        if self._team_envs is not None:
            self._team_envs.close()
            self._team_envs = None
        super().stop()

    def _epsilons(self) -> Callable[[int], np.ndarray]:
        """Epsilon of each environment as a function of the steps of this round."""
        start = int(self.global_vars["timestep"])
        runners = max(self.num_workers, 1)
        first = max(self.worker_index - 1, 0) * self._num_envs
        mine = slice(first, first + self._num_envs)
        everywhere = runners * self._num_envs

        def epsilons(steps: int) -> np.ndarray:
            # The other runners are about as far in their rounds as this one.
            now = start + steps * runners
            return self.team_policy.epsilons_at(now, everywhere)[mine]

        return epsilons

    @one_thread()
    def _play(
        self, seeds: np.ndarray, rng: np.random.Generator, *, explore: bool
    ) -> list[Episode]:
        envs = self.team_envs
        policy = self.team_policy
        if self._storage is None:
            self._storage = _Storage(envs.spec, envs.num_envs)
        store = self._storage
        used = min(len(seeds), envs.num_envs)
        first = envs.order[:used]
        playing = np.full(envs.num_envs, -1)  # index of the episode in each slot
        playing[first] = np.arange(used)
        active = playing >= 0
        waiting = list(range(used, len(seeds)))[::-1]
        finished: dict[int, Episode] = {}
        actor = policy.make_actor(envs.num_envs)
        explorer = policy.make_explorer(envs.num_envs)
        epsilons = self._epsilons() if explore else None
        epsilon = np.zeros(envs.num_envs)
        if epsilons is not None:
            epsilon[:] = epsilons(0)
        steps_done = 0
        levels_of = np.array(policy.network.risk.levels, np.float32)
        envs.reset(first, seeds[:used])
        store.time[:] = 0

        while len(finished) < len(seeds):
            store.write_rows(envs)
            utilities, level_index = actor.act(envs.obs, envs.action_mask)
            if explore:
                actions = explorer.explore(utilities, envs.action_mask, epsilon, rng)
            else:
                actions = utilities.argmax(axis=-1)
            actor.remember(actions)
            levels = levels_of[0] if level_index is None else levels_of[level_index]
            step = envs.step(actions, active)
            store.write_steps(actions, step.rewards, levels, active)
            check_length(self.config, int(store.time.max()))
            ended = active & (step.terminateds | step.truncateds)
            lost = sorted(lost_episodes(self.config, envs, step, active))
            if not (ended.any() or lost):
                continue

            again, again_seeds = [], []
            for slot in np.flatnonzero(ended).tolist():
                if slot in lost:
                    continue
                terminated = bool(step.terminateds[slot])
                episode = store.take(slot, envs, terminated, step.infos[slot])
                finished[int(playing[slot])] = episode
                steps_done += len(episode)
                active[slot] = bool(waiting)
                if waiting:
                    playing[slot] = waiting.pop()
                    again.append(slot)
                    again_seeds.append(seeds[playing[slot]])
                store.time[slot] = 0
            for slot in lost:
                # Same episode, another seed: the old one may crash each time.
                self._crashes += 1
                store.time[slot] = 0
                again.append(slot)
                again_seeds.append(retry_seed(seeds[playing[slot]], rng))
            if again:
                restart = np.array(again)
                envs.reset(restart, np.array(again_seeds))
                explorer.reset(restart)
                actor.reset(restart)
                if epsilons is not None:
                    epsilon[restart] = epsilons(steps_done)[restart]
        return [finished[i] for i in range(len(seeds))]


def evaluation_seed(seed: int, index: int) -> int:
    """The environment seed of one evaluation episode; never one of training's.

    Args:
        seed: Of the evaluation.
        index: Of the episode.

    Returns:
        A number in [2^30, 2^31).
    """
    rng = np.random.default_rng((seed, _EVAL_STREAM, index))
    return _SEED_RANGE + int(rng.integers(_SEED_RANGE))


def retry_seed(seed: int, rng: np.random.Generator) -> int:
    """Another environment seed for an episode that was lost.

    Args:
        seed: The one that it had, of training or of an evaluation.
        rng: Draws the new one.

    Returns:
        A seed in the same range.
    """
    base = _SEED_RANGE if seed >= _SEED_RANGE else 0
    return base + int(rng.integers(_SEED_RANGE))


def check_length(config: AlgorithmConfig, steps: int) -> None:
    """Refuses an episode that does not end.

    Args:
        config: Its ``max_episode_steps`` is the limit.
        steps: Of the longest running episode.

    Raises:
        EnvContractError: If it is too long.
    """
    limit = config.max_episode_steps
    if steps > limit:
        raise EnvContractError(
            f"env '{config.env}': an episode has not ended after {limit} steps. Give"
            " the environment a time limit (truncation), or raise max_episode_steps."
        )


def lost_episodes(
    config: AlgorithmConfig,
    envs: BatchedTeamEnv,
    step: BatchedStep,
    active: np.ndarray,
) -> dict[int, str]:
    """Which episodes must be thrown away after a step.

    Args:
        config: Its ``on_nonfinite`` says what NaN does.
        envs: The environments after the step.
        step: What the step returned.
        active: The slots that were stepped, bool ``[E]``.

    Returns:
        Slot and reason: it crashed, or gave NaN or infinity.

    Raises:
        NonFiniteError: If NaN or infinity must not be skipped.
    """
    lost = dict(step.crashed)
    # One sum per array tells whether anything is NaN or infinite anywhere.
    total = envs.obs.sum() + envs.state.sum() + step.rewards.sum()
    if not np.isfinite(total):
        for slot in np.flatnonzero(active).tolist():
            for key, value in (
                ("obs", envs.obs[slot]),
                ("state", envs.state[slot]),
                ("reward", step.rewards[slot]),
            ):
                if not np.isfinite(value).all():
                    lost[slot] = f"{_NON_FINITE}: {key} of env {slot} is {value}"
    if lost and config.on_nonfinite == "raise":
        bad = [text for text in lost.values() if text.startswith(_NON_FINITE)]
        if bad:
            raise NonFiniteError(
                f"env '{config.env}': {bad[0]}. Mend the environment, or set"
                " on_nonfinite: skip_episode to lose such episodes."
            )
    return lost


def numbers_of(info: Mapping[str, Any]) -> dict[str, float]:
    """The numbers and flags in what an environment reports at the end."""
    return {
        key: float(value)
        for key, value in info.items()
        if isinstance(value, (bool, int, float, np.bool_, np.number))
    }


class _Storage:
    """Preallocated arrays for the running episodes, as long as the longest so far."""

    def __init__(self, spec: TeamSpec, num_envs: int) -> None:
        self.time = np.zeros(num_envs, np.int64)
        self.slots = np.arange(num_envs)
        n = spec.num_agents
        self.arrays: dict[str, np.ndarray] = {
            "obs": np.zeros((num_envs, 1, n, spec.obs_size), np.float32),
            "state": np.zeros((num_envs, 1, spec.state_size), np.float32),
            "action_mask": np.zeros((num_envs, 1, n, spec.num_actions), np.uint8),
            "actions": np.zeros((num_envs, 1, n), np.int16),
            "rewards": np.zeros((num_envs, 1), np.float32),
            "risk_levels": np.zeros((num_envs, 1, n), np.float32),
        }
        self._grow(spec.episode_limit or 64)

    def _grow(self, steps: int) -> None:
        for key, old in self.arrays.items():
            new = np.zeros((old.shape[0], steps + 1, *old.shape[2:]), old.dtype)
            new[:, : old.shape[1]] = old
            self.arrays[key] = new

    def write_rows(self, envs: BatchedTeamEnv) -> None:
        """What the agents see now."""
        # One row beyond the step that follows must stay free for the last observation.
        if self.time.max() + 2 > self.arrays["obs"].shape[1]:
            self._grow(2 * self.arrays["obs"].shape[1])
        at = (self.slots, self.time)
        self.arrays["obs"][at] = envs.obs
        self.arrays["state"][at] = envs.state
        self.arrays["action_mask"][at] = envs.action_mask

    def write_steps(
        self, actions: np.ndarray, rewards: np.ndarray, levels: Any, active: np.ndarray
    ) -> None:
        """What they did and got."""
        at = (self.slots, self.time)
        self.arrays["actions"][at] = actions
        self.arrays["rewards"][at] = rewards
        self.arrays["risk_levels"][at] = levels
        self.time += active

    def take(
        self, slot: int, envs: BatchedTeamEnv, terminated: bool, info: dict[str, Any]
    ) -> Episode:
        """Copies a finished episode out."""
        steps = int(self.time[slot])
        a = self.arrays
        a["obs"][slot, steps] = envs.obs[slot]
        a["state"][slot, steps] = envs.state[slot]
        a["action_mask"][slot, steps] = envs.action_mask[slot]
        return Episode(
            obs=a["obs"][slot, : steps + 1].copy(),
            state=a["state"][slot, : steps + 1].copy(),
            action_mask=a["action_mask"][slot, : steps + 1].copy(),
            actions=a["actions"][slot, :steps].copy(),
            rewards=a["rewards"][slot, :steps].copy(),
            terminated=terminated,
            risk_levels=a["risk_levels"][slot, :steps].copy(),
            metrics=numbers_of(info),
        )
