"""Steps E copies of a VMAS scenario, with NumPy arrays as inputs and outputs.

Only this module imports `vmas` and torch, and only when the first copies are made.

Letters: E copies, k copies that start, N agents, D size of the longest observation.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rllib_risk.env_wrappers.arguments import check_package, suggestion
from rllib_risk.env_wrappers.errors import EnvConfigError

# Largest seed that NumPy's generator accepts.
_LARGEST_SEED = 2**32 - 1


class VmasStep(NamedTuple):
    """The result of one step of all copies.

    Attributes:
        rewards: Reward of each agent, float32 [E, N].
        terminateds: Whether the scenario is done, bool [E].
        truncateds: Whether the time limit is reached, bool [E].
        infos: One dict of tensors for each agent.
    """

    rewards: np.ndarray
    terminateds: np.ndarray
    truncateds: np.ndarray
    infos: list[dict[str, Any]]


class VmasCore:
    """A scenario of VMAS with E copies.

    VMAS has one stream of random numbers for all envs of a process. Each core uses its
    own stream instead, so that two runners in one process do not affect each other.
    Torch's global generator does not change.

    Attributes:
        agents: Names of the agents.
        num_actions: Number of actions of each agent.
        obs_sizes: Observation size of each agent.
    """

    def __init__(
        self,
        scenario: str,
        num_envs: int,
        episode_limit: int,
        kwargs: Mapping[str, Any],
    ) -> None:
        """Makes the copies and resets them.

        Args:
            scenario: Name of a scenario of VMAS.
            num_envs: Number of copies E.
            episode_limit: Steps after which a copy is truncated.
            kwargs: Arguments of the scenario.

        Raises:
            EnvConfigError: If VMAS is missing, there is no such scenario, or the
                scenario does not use an argument.
        """
        check_package("vmas", "vmas", "vmas")
        vmas = _import_vmas()
        self._torch = importlib.import_module("torch")
        check_scenario(scenario, vmas.scenarios)
        simulator = importlib.import_module("vmas.simulator.environment.environment")
        self._shared_random = simulator.Environment.vmas_random_state
        self._random = list(self._shared_random)
        with self._own_random(), warnings.catch_warnings():
            # VMAS only warns about arguments that a scenario does not use.
            warnings.filterwarnings("error", message="Scenario kwargs")
            try:
                self._env = vmas.make_env(
                    scenario=scenario,
                    num_envs=num_envs,
                    device="cpu",
                    continuous_actions=False,
                    max_steps=episode_limit,
                    seed=0,
                    terminated_truncated=True,
                    **kwargs,
                )
            except (TypeError, UserWarning) as error:
                raise EnvConfigError(f"env_config.kwargs: {error}") from error
        self.agents = [agent.name for agent in self._env.agents]
        self.num_actions = [int(space.n) for space in self._env.action_space]
        shapes = [space.shape for space in self._env.observation_space]
        if any(shape is None or len(shape) != 1 for shape in shapes):
            raise EnvConfigError(
                f"env 'vmas': agents of scenario {scenario} observe"
                f" {self._env.observation_space}, and a vector for each is needed"
            )
        self.obs_sizes = [int(shape[0]) for shape in shapes]

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Starts a new episode in some copies.

        Args:
            slots: Indices of k copies.
            seeds: Seed of each of these episodes; it alone decides the start.

        Returns:
            Observations of all copies; see `step`.
        """
        with self._own_random():
            for slot, seed in zip(slots, seeds, strict=True):
                self._env.seed(int(seed) & _LARGEST_SEED)
                self._env.reset_at(slot, return_observations=False)
            flags = dict.fromkeys(("get_rewards", "get_infos", "get_dones"), False)
            (seen,) = self._env.get_from_scenario(get_observations=True, **flags)
        return self._joined(seen)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, VmasStep]:
        """Plays one joint action in every copy.

        Args:
            actions: Existing action of each agent in each copy, int64 [E, N].

        Returns:
            Observations, float32 [E, N, D], padded with zeros, and the other results.
        """
        torch = self._torch
        columns = torch.from_numpy(np.ascontiguousarray(actions.T, np.int64))
        with self._own_random():
            seen, rewards, terminated, truncated, infos = self._env.step(
                [column.unsqueeze(-1) for column in columns]
            )
        # Some scenarios, such as wheel, return columns [E, 1].
        paid = torch.stack([reward.reshape(-1) for reward in rewards], 1)
        return self._joined(seen), VmasStep(
            paid.numpy().astype(np.float32, copy=False),
            terminated.numpy().reshape(-1),
            truncated.numpy().reshape(-1),
            infos,
        )

    def _joined(self, seen: Sequence[Any]) -> np.ndarray:
        size = max(self.obs_sizes)
        joined = np.zeros((len(seen[0]), len(seen), size), np.float32)
        for agent, rows in enumerate(seen):
            joined[:, agent, : rows.shape[1]] = rows.numpy()
        return joined

    @contextlib.contextmanager
    def _own_random(self) -> Iterator[None]:
        """Replaces VMAS's shared random state with this core's own for a block."""
        before = list(self._shared_random)
        self._shared_random[:] = self._random
        try:
            yield
        finally:
            self._random = list(self._shared_random)
            self._shared_random[:] = before


def check_scenario(name: Any, known: Sequence[str]) -> None:
    """Checks the name of a scenario.

    Args:
        name: The name to check.
        known: Names of the scenarios of VMAS.

    Raises:
        EnvConfigError: If the name is not a known one.
    """
    if name not in known:
        raise EnvConfigError(
            f"env_config.scenario: unknown {name!r}{suggestion(str(name), known)}"
        )


def numbers_of_copy(info: Mapping[str, Any], slot: int) -> dict[str, float]:
    """The numbers of one copy in an agent's info.

    Args:
        info: The agent's info: tensors whose first axis is the copy. Entries with more
            than one number per copy are left out.
        slot: Index of the copy.

    Returns:
        The numbers by key.
    """
    found = {}
    for key, value in info.items():
        numbers = value[slot]
        if numbers.numel() == 1:
            found[key] = float(numbers)
    return found


def _import_vmas() -> Any:
    """Imports VMAS, and hides the notice that its dependency gym prints on stderr."""
    unread = io.StringIO()
    with contextlib.redirect_stderr(unread), contextlib.redirect_stdout(unread):
        return importlib.import_module("vmas")
