"""E copies of a VMAS scenario: what goes in and comes out as NumPy arrays.

The only module that imports `vmas`, and torch with it, when the first copy is made.

Letters: E copies, k of them, N agents, D observation size of the longest observation.
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

# NumPy's generator takes no larger seed.
_LARGEST_SEED = 2**32 - 1


class VmasStep(NamedTuple):
    """What one step of all copies returns.

    Attributes:
        rewards: One for each agent, float32 [E, N].
        terminateds: bool [E].
        truncateds: bool [E].
        infos: One dict of tensors for each agent.
    """

    rewards: np.ndarray
    terminateds: np.ndarray
    truncateds: np.ndarray
    infos: list[dict[str, Any]]


class VmasCore:
    """A scenario of VMAS with E copies.

    VMAS has one stream of random numbers for all envs of a process. Each core has its
    own, so that two runners in one process do not disturb each other, and torch's
    global generator is left as it was.

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
            num_envs: E.
            episode_limit: Steps after which a copy is truncated.
            kwargs: Arguments of the scenario.

        Raises:
            EnvConfigError: If VMAS is missing, there is no such scenario, or it does
                not use an argument.
        """
        check_package("vmas", "vmas", "vmas")
        vmas = _import_vmas()
        self._torch = importlib.import_module("torch")
        check_scenario(scenario, vmas.scenarios)
        simulator = importlib.import_module("vmas.simulator.environment.environment")
        self._shared_random = simulator.Environment.vmas_random_state
        self._random = list(self._shared_random)
        with self._own_random(), warnings.catch_warnings():
            # VMAS warns of arguments that a scenario does not use, and goes on.
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
            slots: k of them.
            seeds: One for each; the start is drawn from it alone.

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
            actions: int64 [E, N]; all of them must be actions that there are.

        Returns:
            Observations, float32 [E, N, D], zeros behind shorter ones, and the rest.
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
        """Puts this core's random numbers in the place of the shared ones."""
        before = list(self._shared_random)
        self._shared_random[:] = self._random
        try:
            yield
        finally:
            self._random = list(self._shared_random)
            self._shared_random[:] = before


def check_scenario(name: Any, known: Sequence[str]) -> None:
    """Refuses what is no scenario of VMAS itself.

    Args:
        name: Of a scenario.
        known: The scenarios.

    Raises:
        EnvConfigError: If it is none of them.
    """
    if name not in known:
        raise EnvConfigError(
            f"env_config.scenario: unknown {name!r}{suggestion(str(name), known)}"
        )


def numbers_of_copy(info: Mapping[str, Any], slot: int) -> dict[str, float]:
    """The numbers of one copy in an agent's info.

    Args:
        info: Tensors of one number for each copy; others are left out.
        slot: The copy.

    Returns:
        Floats.
    """
    found = {}
    for key, value in info.items():
        numbers = value[slot]
        if numbers.numel() == 1:
            found[key] = float(numbers)
    return found


def _import_vmas() -> Any:
    """VMAS, without the notice on stderr that its dependency gym prints."""
    unread = io.StringIO()
    with contextlib.redirect_stderr(unread), contextlib.redirect_stdout(unread):
        return importlib.import_module("vmas")
