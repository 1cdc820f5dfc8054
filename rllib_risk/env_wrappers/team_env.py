"""The adapter from any PettingZoo `ParallelEnv` to one team.

RLlib sees a cooperative team as one agent. Its observation holds every agent's
observation, the global state and the action masks. Its action is the joint action, and
its reward is a scalar. `TeamEnv` adapts one env; `LoopedTeamEnvs` steps several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.data.sizes import TeamSizes, TeamSpec
from rllib_risk.env_wrappers.action_masks import (
    ACTION_MASK,
    MaskSearch,
    check_mask_key,
    legal_actions,
)
from rllib_risk.env_wrappers.arguments import check_legal
from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    LoopedTeamEnvs,
)
from rllib_risk.env_wrappers.errors import (
    EnvConfigError,
    EnvContractError,
    IllegalActionError,
    NonFiniteError,
)
from rllib_risk.env_wrappers.failures import close_env
from rllib_risk.env_wrappers.images import ImageRows, common_image
from rllib_risk.env_wrappers.notices import tell
from rllib_risk.env_wrappers.observation_noise import ObservationNoise, check_std
from rllib_risk.env_wrappers.parallel_env import (
    agent_ids,
    check_reset_arguments,
    env_state,
    episode_limit,
    in_short,
    merge_infos,
    numeric,
    read_reset,
    read_rewards,
    read_step,
    state_source,
)
from rllib_risk.env_wrappers.spaces import (
    ActionDecoder,
    ObsEncoder,
    declared_names,
    describe_agent,
)
from rllib_risk.env_wrappers.team_reward import (
    TEAM_REWARDS,
    check_choice,
    team_reward,
)

__all__ = ["BatchedStep", "BatchedTeamEnv", "LoopedTeamEnvs", "TeamEnv", "TeamSpec"]

STATE_SOURCES = ("auto", "env", "concat_obs", "none")

# Relative tolerance of declared bounds, for rounding to float32.
_BOUND_MARGIN = 1e-5

_SLOT = np.zeros(1, np.int64)  # index of the only episode of a TeamEnv, for its noise


def team_spaces(
    sizes: TeamSizes | TeamSpec,
) -> tuple[spaces.Dict, spaces.MultiDiscrete]:
    """The observation and action spaces of a team.

    Args:
        sizes: The sizes of the team.

    Returns:
        The observation space, with state and action mask, and the action space.
    """
    n, num_actions = sizes.num_agents, sizes.num_actions
    obs = spaces.Box(-np.inf, np.inf, (n, sizes.obs_size), np.float32)
    observation = spaces.Dict(
        {
            "obs": obs if sizes.image is None else ImageRows(n, sizes.image),
            "state": spaces.Box(-np.inf, np.inf, (sizes.state_size,), np.float32),
            "action_mask": spaces.Box(0, 1, (n, num_actions), np.uint8),
        }
    )
    return observation, spaces.MultiDiscrete([num_actions] * n)


class TeamEnv(gymnasium.Env):
    """A PettingZoo parallel env seen as one env with a joint action.

    Observations are padded with zeros to D, and actions to A; the mask forbids padded
    actions. A dead agent (finished, or gone from `agents`) keeps its row: its
    observation is zero, only action 0 is legal, and the env does not get its action. An
    agent that has finished is dead for the rest of the episode, even if it is still in
    `agents`.

    The episode ends when no agent is left. It is *terminated* if every agent that was
    alive in the last step terminated, and *truncated* otherwise. In the last row, the
    agents have the last observation from the env. There is one exception: in a
    truncated episode, an agent that terminated is shown as dead, because a learner
    bootstraps from this row.

    `info` is empty until the episode ends. Then it holds every number and flag of the
    agents' infos (equal values as they are; otherwise all() of flags and the mean of
    numbers), and `episode_limit=True` if the env truncated the episode.

    Attributes:
        spec_team: The sizes of the team; Gymnasium uses the name `spec` itself.
        parallel_env: The wrapped env.
        masks: The source of the action masks, and other entries that look like masks.
    """

    def __init__(
        self,
        parallel_env: ParallelEnv,
        *,
        team_reward: str = "shared",
        time_limit_is_terminal: bool = False,
        state: str = "auto",
        box_bins: int | None = None,
        action_mask_key: str = ACTION_MASK,
        obs_noise_std: float | Sequence[float] = 0.0,
    ) -> None:
        """Reads the sizes from the env.

        Args:
            parallel_env: The env to wrap; `close` closes it too.
            team_reward: "shared" (all agents get the same number, checked in each
                step), or the "sum" or "mean" over the agents alive in the step.
            time_limit_is_terminal: Whether to report a truncated episode as terminated
                (as is usual for StarCraft), so that a learner does not bootstrap.
            state: Source of the global state: "env" is env.state(); "concat_obs" joins
                all observations; "none" gives S = 0; "auto" is "env" if the env has a
                state() and "none" otherwise.
            box_bins: Number of values per dimension of a Box action.
            action_mask_key: Name of the entry with an agent's action mask, in its
                observation (a Dict) or else in its info; 0 or 1 per action.
            obs_noise_std: Standard deviation of Gaussian noise on every number that an
                agent observes, or a list with one for each number; the state and the
                env itself have no noise.

        Raises:
            EnvConfigError: If the env cannot be used as a team with these options.
        """
        check_choice("team_reward", team_reward, TEAM_REWARDS)
        check_choice("state", state, STATE_SOURCES)
        if not isinstance(time_limit_is_terminal, bool):
            raise EnvConfigError(
                "env_config.time_limit_is_terminal must be true or false, not "
                f"{time_limit_is_terminal!r}"
            )
        self.parallel_env = parallel_env
        self._ids = agent_ids(parallel_env)
        self._id_set = set(self._ids)
        check_reset_arguments(parallel_env)
        names = tuple(str(agent) for agent in self._ids)
        self._mask_key = check_mask_key(action_mask_key)
        self._read_spaces(names, box_bins)
        self._team_reward = team_reward
        self._time_limit_is_terminal = time_limit_is_terminal
        obs_size = max(encoder.size for encoder in self._encoders)
        num_actions = max(decoder.num_actions for decoder in self._decoders)
        self._state_source, state_size = state_source(parallel_env, state)
        if self._state_source == "concat_obs":
            state_size = len(names) * obs_size
        self.spec_team = TeamSpec(
            names,
            num_actions,
            obs_size,
            state_size,
            episode_limit(parallel_env),
            common_image(encoder.image for encoder in self._encoders),
        )
        self.observation_space, self.action_space = team_spaces(self.spec_team)
        self.metadata = dict(getattr(parallel_env, "metadata", None) or {})
        self.render_mode = getattr(parallel_env, "render_mode", None)
        self._low, self._high = self._observation_bounds(obs_size)
        self._alive: list[Any] = []
        self._finished: set[Any] = set()
        self._mask = np.zeros((len(names), num_actions), np.uint8)
        self._noise: ObservationNoise | None = None
        if check_std(obs_noise_std).any():
            self._noise = ObservationNoise(obs_noise_std, 1, len(names), obs_size)

    def describe_agents(self) -> list[dict[str, Any]]:
        """Describes every agent; see :func:`.spaces.describe_agent`."""
        parts = zip(self.spec_team.agents, self._encoders, self._decoders, strict=True)
        described = [describe_agent(*part) for part in parts]
        for entry, agent in zip(described, self._ids, strict=True):
            entry |= declared_names(self.parallel_env, agent)
        return described

    def _read_spaces(self, names: tuple[str, ...], box_bins: int | None) -> None:
        """Builds the agents' encoders and decoders, and the search for masks."""
        self._decoders = [
            ActionDecoder(name, self._space_of("action_space", agent), box_bins)
            for name, agent in zip(names, self._ids, strict=True)
        ]
        self._encoders = [
            ObsEncoder(
                name,
                self._space_of("observation_space", agent),
                decoder.num_actions,
                self._mask_key,
            )
            for name, agent, decoder in zip(
                names, self._ids, self._decoders, strict=True
            )
        ]
        unmasked = {
            agent: self._decoders[i].num_actions
            for i, agent in enumerate(self._ids)
            if not self._encoders[i].has_mask
        }
        self.masks = MaskSearch(self._mask_key, unmasked, len(unmasked) < len(names))
        self.masks.warn_of_other_names(
            {a: self.parallel_env.observation_space(a) for a in unmasked}
        )

    def _space_of(self, method: str, agent: Any) -> spaces.Space:
        """Calls ``observation_space`` or ``action_space`` of the env."""
        space = getattr(self.parallel_env, method)(agent)
        if isinstance(space, spaces.Space):
            return space
        raise EnvConfigError(
            f"{method}({agent!r}) of {self._env_name()} returned {in_short(space)},"
            " which is no space of Gymnasium: return one, such as Box or Discrete"
        )

    def _observation_bounds(self, obs_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the observations, with a tolerance; infinite for padding."""
        low = np.full((len(self._ids), obs_size), -np.inf, np.float32)
        high = -low
        for i, encoder in enumerate(self._encoders):
            least, most = encoder.bounds()
            low[i, : encoder.size] = least - _BOUND_MARGIN * (1 + abs(least))
            high[i, : encoder.size] = most + _BOUND_MARGIN * (1 + abs(most))
        return low, high

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Seed of the episode; None: the env's random state continues.
            options: Options for the env's reset().

        Returns:
            The team observation and an empty info.

        Raises:
            EnvConfigError: If possible_agents have changed.
            EnvContractError: If the env returns something that its spaces do not allow.
        """
        result = self.parallel_env.reset(seed=seed, options=options)
        self._check_possible_agents()
        obs, infos = read_reset(result, self._id_set)
        if self._noise is not None and seed is not None:
            self._noise.reset(_SLOT, np.array([seed]))
        self._finished.clear()
        self._alive = self._living()
        if not self._alive:
            raise EnvContractError("reset() left no agent alive")
        team_obs = self._observe(obs, infos, set(self._alive), ended=False)
        self.masks.check_reset(obs, infos)
        return team_obs, {}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Plays one joint action.

        Args:
            action: Action number of each agent, integers [N]; ignored for dead agents.

        Returns:
            Team observation, team reward, terminated, truncated, info.

        Raises:
            IllegalActionError: If a living agent's action is masked.
            EnvConfigError: If the agents' rewards differ under team_reward "shared".
            EnvContractError: If the env returns something that its spaces do not allow.
        """
        if not self._alive:
            raise IllegalActionError("the episode has ended: call reset() first")
        played = self._alive
        obs, rewards, terminations, truncations, infos = read_step(
            self.parallel_env.step(self._decode(action)), self._id_set
        )
        self._finished |= {
            agent
            for agent in played
            if terminations.get(agent, False) or truncations.get(agent, False)
        }
        self._alive = [a for a in self._living() if a not in self._finished]
        reward = self._reward(played, rewards)
        info: dict[str, Any] = {}
        if self._alive:
            shown = set(self._alive)
            terminated = truncated = False
        else:
            terminated = all(terminations.get(agent, False) for agent in played)
            truncated = not terminated
            shown = {
                agent
                for agent in played
                if agent in obs and (terminated or not terminations.get(agent, False))
            }
            info = merge_infos(infos, played)
            if truncated:
                info["episode_limit"] = True
                if self._time_limit_is_terminal:
                    terminated, truncated = True, False
        team_obs = self._observe(obs, infos, shown, ended=not self._alive)
        return team_obs, reward, terminated, truncated, info

    def render(self) -> Any:
        """The result of the env's own render()."""
        return self.parallel_env.render()

    def close(self) -> None:
        """Closes the env; an error in its close() is logged and ignored."""
        close_env(self.parallel_env)

    def _check_possible_agents(self) -> None:
        """Raises if possible_agents changed between episodes."""
        now = list(getattr(self.parallel_env, "possible_agents", self._ids))
        if now != self._ids and set(now) != self._id_set:
            raise EnvConfigError(
                f"possible_agents of {self._env_name()} changed from {self._ids} to "
                f"{now} between episodes: list all agents that can ever appear there "
                "from the start, and let only `agents` change"
            )

    def _env_name(self) -> str:
        return type(self.parallel_env.unwrapped).__name__

    def _living(self) -> list[Any]:
        """The env's `agents`, in the order of possible_agents."""
        living = getattr(self.parallel_env, "agents", None)
        if not isinstance(living, Iterable):
            raise EnvContractError(
                "agents must be a list after reset() and step(), not "
                f"{in_short(living)}"
            )
        unknown = set(living) - self._id_set
        if unknown:
            raise EnvContractError(
                f"agents {sorted(map(str, unknown))} are not in possible_agents"
            )
        return [agent for agent in self._ids if agent in living]

    def _decode(self, action: np.ndarray) -> dict[Any, Any]:
        """The env's own actions of the living agents."""
        joint = {}
        for i, agent in enumerate(self._ids):
            if agent not in self._alive:
                continue
            number = int(action[i])
            check_legal(agent, number, self._mask[i])
            joint[agent] = self._decoders[i](number)
        return joint

    def _reward(self, played: list[Any], rewards: dict[Any, Any]) -> float:
        """The team's scalar reward of one step."""
        return team_reward(self._team_reward, played, read_rewards(rewards, played))

    def _observe(
        self,
        obs: dict[Any, Any],
        infos: dict[Any, Any],
        shown: set[Any],
        *,
        ended: bool,
    ) -> dict[str, np.ndarray]:
        """Builds the team observation.

        Args:
            obs: Observations from the env.
            infos: Infos from the env.
            shown: Agents to show; the others are shown as dead.
            ended: Whether this is the last row of the episode, which has no action.

        Returns:
            New arrays obs [N, D], state [S], action_mask [N, A].
        """
        spec = self.spec_team
        team_obs = np.zeros((spec.num_agents, spec.obs_size), spec.obs_dtype)
        mask = np.zeros((spec.num_agents, spec.num_actions), np.uint8)
        for i, agent in enumerate(self._ids):
            if agent not in shown:
                mask[i, 0] = 1
                continue
            if agent not in obs:
                raise EnvContractError(f"living agent '{agent}' got no observation")
            flat, agent_mask = self._encoders[i](obs[agent])
            team_obs[i, : flat.size] = flat
            if agent_mask is None:
                agent_mask = (infos.get(agent) or {}).get(self._mask_key)
            self._fill_mask(mask[i], i, agent_mask, ended)
        if spec.image is None:
            self._check_numbers(team_obs, shown)
        state = self._state(team_obs)
        if self._noise is not None:
            team_obs = self._noise.apply(_SLOT, team_obs[None], mask[None])[0]
            for row, encoder in zip(team_obs, self._encoders, strict=True):
                row[encoder.size :] = 0.0  # no noise in padding
        self._mask = mask.copy()
        return {"obs": team_obs, "state": state, "action_mask": mask}

    def _check_numbers(self, team_obs: np.ndarray, shown: set[Any]) -> None:
        """Raises if a number is not finite; warns once per agent outside its bounds."""
        if not np.isfinite(team_obs).all():
            first = int(np.argwhere(~np.isfinite(team_obs))[0, 0])
            bad = self.spec_team.agents[first]
            raise NonFiniteError(f"the observation of agent '{bad}' holds NaN or inf")
        outside = (team_obs < self._low) | (team_obs > self._high)
        if not np.count_nonzero(outside):
            return
        for i, agent in enumerate(self._ids):
            if agent not in shown or not outside[i].any():
                continue
            at = int(outside[i].argmax())
            low, high = (bound[at] for bound in self._encoders[i].bounds())
            name = self._env_name()
            tell(
                f"bounds {name} {agent}",
                f"agent '{agent}' of {name} observes {team_obs[i, at]:g}, outside the "
                f"declared bounds [{low:g}, {high:g}]. Training continues. Widen low "
                "and high of its observation space.",
            )
            self._low[i], self._high[i] = -np.inf, np.inf

    def _fill_mask(
        self, row: np.ndarray, index: int, agent_mask: Any, ended: bool
    ) -> None:
        """Writes one living agent's mask into `row`, uint8 [A]."""
        num_actions = self._decoders[index].num_actions
        if agent_mask is None:
            row[:num_actions] = 1
            return
        agent, key = self.spec_team.agents[index], self._mask_key
        legal = legal_actions(agent, key, agent_mask, num_actions)
        if legal.any():
            row[:num_actions] = legal
        elif ended:  # the last row needs no legal action
            row[0] = 1
        else:
            raise EnvContractError(
                f"agent '{agent}' has no legal action: its {key} is all zero"
            )

    def _state(self, team_obs: np.ndarray) -> np.ndarray:
        """The global state, float32 [S]."""
        if self._state_source == "none":
            return np.zeros(0, np.float32)
        if self._state_source == "concat_obs":
            return team_obs.reshape(-1).astype(np.float32)
        given = env_state(self.parallel_env)
        numbers = numeric(given)
        if numbers is None:
            raise EnvContractError(
                f"state() must return numbers, not {in_short(given)}"
            )
        state = np.array(numbers, np.float32).reshape(-1)
        if state.size != self.spec_team.state_size:
            raise EnvContractError(
                f"state() returned {state.size} numbers, not the declared "
                f"{self.spec_team.state_size}"
            )
        if not np.isfinite(state).all():
            raise NonFiniteError("the state holds NaN or inf")
        return state
