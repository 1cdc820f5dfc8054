"""Rules of `check_env` for results that the adapter accepts but that may be mistakes.

The adapter's own rules are not repeated here: it raises, and `check_env` reports that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_risk.data.replay_memory import row_bytes, spelled
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.images import image_shape
from rllib_risk.env_wrappers.parallel_env import agent_ids, numeric

# Up to this number, float32 holds every whole number exactly.
EXACT_INTEGERS = 2**24

# An array of at least this height and width may count as a picture.
_PICTURE_PIXELS = 8


@dataclass
class Findings:
    """Collects findings, one of each kind.

    Attributes:
        items: Pairs of level and message.
    """

    items: list[tuple[str, str]] = field(default_factory=list)
    _kinds: set[str] = field(default_factory=set)

    def add(self, level: str, message: str, kind: str | None = None) -> None:
        """Adds a finding, unless there already is one of its kind.

        Args:
            level: "ok", "warn" or "error".
            message: The problem and its fix.
            kind: Key by which findings count as equal, for messages that contain
                numbers or names; None: the message itself.
        """
        kind = message if kind is None else kind
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.items.append((level, message))

    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(level == "error" for level, _ in self.items)


class RowRules:
    """Checks what an env returns to the adapter."""

    def __init__(self, env: Any, mask_key: str, findings: Findings) -> None:
        """Prepares the rules.

        Args:
            env: A PettingZoo ParallelEnv.
            mask_key: Name of the entry with the action mask.
            findings: Collects the warnings.
        """
        self._env = env
        self._mask_key = mask_key
        self._findings = findings
        self._spaces: dict[Any, spaces.Space] = {}
        self._masked: set[Any] = set()  # agents whose info had a mask
        self._gone: set[Any] = set()  # agents that have ended in this episode

    def on_call(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Checks the result of one call of the env.

        Args:
            name: Name of the method.
            args: Its positional arguments.
            result: Its result; malformed results are left to the adapter.
        """
        if name == "observation_space" and args:
            self._on_space(args[0], result)
        elif name == "state":
            self._check_size(result, "the state")
        elif name == "reset" and _dicts(result, 2):
            self._gone.clear()
            self._on_row(*result)
        elif name == "step" and _dicts(result, 5):
            obs, rewards, terminations, truncations, infos = result
            living = list(args[0]) if args else []
            self._on_flags(living, terminations, truncations)
            for agent, reward in rewards.items():
                self._check_size(reward, f"the reward of agent '{agent}'")
            self._on_row(obs, infos)

    def _on_space(self, agent: Any, space: Any) -> None:
        known = self._spaces.setdefault(agent, space)
        if known is not space:
            self._findings.add(
                "warn",
                "observation_space(agent) or action_space(agent) builds a new space "
                "at every call, so seeding it has no effect: return the same object",
            )

    def _on_row(self, obs: Mapping[Any, Any], infos: Mapping[Any, Any]) -> None:
        """Checks the observations and infos of one reset or step."""
        for agent, value in obs.items():
            if agent not in self._spaces or value is None:
                continue
            for key, space, part in _leaves(self._spaces[agent], value):
                if key != self._mask_key:
                    self._check_part(agent, key, space, part)
        for agent in self._living():
            info = infos.get(agent)
            if isinstance(info, Mapping) and self._mask_key in info:
                self._masked.add(agent)
            elif agent in self._masked:
                self._findings.add(
                    "warn",
                    f"the info of living agent '{agent}' has {self._mask_key} only in "
                    "some steps, and without it every action counts as legal: give it "
                    "in every step",
                    kind="mask in some steps",
                )

    def _living(self) -> list[Any]:
        agents = getattr(self._env, "agents", None) or []
        return [agent for agent in agents if agent not in self._gone]

    def _check_part(
        self, agent: Any, key: str, space: spaces.Space, value: Any
    ) -> None:
        """Compares one array of an observation with its space."""
        what = f"the observation of agent '{agent}'" + (
            f", entry '{key}'" if key else ""
        )
        if not isinstance(space, spaces.Box):
            if not space.contains(value):
                self._findings.add(
                    "warn",
                    f"{what} is not in its space {space}: make "
                    "observation_space(agent) describe what reset() and step() return",
                    kind=f"not in space {key}",
                )
            return
        array = numeric(value)
        if array is None or array.size != int(np.prod(space.shape)):
            return  # the adapter refuses it
        if array.dtype != space.dtype:
            kept = "uint8" if image_shape(space) else "float32"
            self._findings.add(
                "warn",
                f"{what} has dtype {array.dtype}, but its space has {space.dtype}. It "
                f"is cast to {kept}, so you need not change anything",
                kind=f"dtype {key}",
            )
        self._check_size(array, what)

    def _check_size(self, value: Any, what: str) -> None:
        """Warns of numbers that float32 cannot hold."""
        array = numeric(value)
        if array is None or not array.size:
            return
        largest = np.abs(array.astype(np.float64)).max()
        if array.dtype.kind == "f" and what.startswith("the observation"):
            return  # a measured value may be rounded to 7 digits
        if np.isfinite(largest) and largest > EXACT_INTEGERS:
            kind = f"large {what.split(' of ')[0]}"
            self._findings.add("warn", _too_large(what, largest), kind)

    def _on_flags(
        self,
        living: list[Any],
        terminations: Mapping[Any, Any],
        truncations: Mapping[Any, Any],
    ) -> None:
        """Compares the end flags of one step with the env's list of agents."""
        if "__all__" in terminations or "__all__" in truncations:
            self._findings.add(
                "warn",
                "the end flags hold '__all__', which is a key of RLlib's MultiAgentEnv "
                "and has no effect here: give one flag per agent, as in PettingZoo",
            )
        left = list(getattr(self._env, "agents", None) or [])
        for agent in living:
            if agent not in terminations or agent not in truncations:
                self._findings.add(
                    "warn",
                    f"agent '{agent}' got no termination or truncation flag: return "
                    "both for every agent that acted",
                    kind="no flag",
                )
            if any(np.any(f.get(agent, False)) for f in (terminations, truncations)):
                self._gone.add(agent)
            elif agent not in left:
                self._findings.add(
                    "warn",
                    f"agent '{agent}' vanished from agents without a termination or "
                    "truncation flag: set one. Without it, the adapter treats the "
                    "agent as dead until it is back in agents, and as truncated if "
                    "the episode ends before",
                    kind="vanished",
                )
        for agent in left:
            if agent in self._gone:
                self._findings.add(
                    "warn",
                    f"agent '{agent}' has ended but is still in agents: remove it from "
                    "agents. The adapter treats it as dead for the rest of the episode",
                    kind="ended but listed",
                )


def _check_images(spec: TeamSpec, findings: Findings) -> None:
    """Warns of the memory that images take, and names the encoder for them."""
    if spec.image is None or min(spec.image[:2]) < _PICTURE_PIXELS:
        return
    size, state = row_bytes(spec), 4 * spec.state_size
    text = (
        f"the agents observe images {spec.image}. They stay bytes: a step takes"
        f" {spelled(size)} in the replay. Set encoder: cnn to read them with"
        " convolutions. Without it, the networks get the"
        f" {spec.obs_size} pixels as a vector, unscaled (0 to 255)"
    )
    if state > size / 2:
        text += (
            f". The state takes {spelled(state)} of it: mixer: vdn needs none, so set"
            " env_config.state to none"
        )
    findings.add("warn", text)


def check_observation_spaces(env: Any, spec: TeamSpec, findings: Findings) -> None:
    """Warns of pictures, and of whole numbers that float32 rounds.

    Args:
        env: A PettingZoo ParallelEnv.
        spec: Sizes of its team.
        findings: Collects the warnings.
    """
    _check_images(spec, findings)
    for agent in agent_ids(env):
        space = env.observation_space(agent)
        action_space = env.action_space(agent)
        if action_space is not env.action_space(agent):
            findings.add(
                "warn",
                "observation_space(agent) or action_space(agent) builds a new space "
                "at every call, so seeding it has no effect: return the same object",
            )
        for key, box in _boxes(space):
            what = f"the observation of agent '{agent}'"
            what += f", entry '{key}'" if key else ""
            if _is_picture(box) and spec.image is None:
                findings.add(
                    "warn",
                    f"{what} is a picture {box.shape} that convolutions cannot read: "
                    f"the networks get its {int(np.prod(box.shape))} numbers as a "
                    f"vector, unscaled ({box.low.min():g} to {box.high.max():g}). "
                    "encoder: cnn needs one uint8 Box (height, width, channels) as the "
                    "whole observation, the same for all agents",
                    kind="picture",
                )
            if np.issubdtype(box.dtype, np.integer):
                limits = np.iinfo(box.dtype)
                bounds = {int(box.low.min()), int(box.high.max())}
                # Bounds equal to those of the dtype mean that none were declared.
                largest = max(abs(b) for b in bounds - {limits.min, limits.max} | {0})
                if largest > EXACT_INTEGERS:
                    findings.add(
                        "warn", _too_large(what, largest), kind="large the observation"
                    )


def equal(one: Any, two: Any) -> bool:
    """Whether two nested results hold the same numbers.

    Args:
        one: Nested dicts, lists, tuples, arrays and numbers.
        two: The other result.

    Returns:
        True if they hold the same numbers.
    """
    if isinstance(one, dict):
        return (
            isinstance(two, dict)
            and one.keys() == two.keys()
            and all(equal(one[key], two[key]) for key in one)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(
            equal(a, b) for a, b in zip(one, two, strict=True)
        )
    if isinstance(one, np.ndarray | np.generic | int | float):
        return bool(np.array_equal(np.asarray(one), np.asarray(two), equal_nan=False))
    return bool(one == two)


def _too_large(what: str, largest: float) -> str:
    return (
        f"{what} holds numbers up to {largest:.10g}. They become float32, which holds"
        f" whole numbers exactly only up to {EXACT_INTEGERS:,}. Scale them, or split an"
        " id into parts"
    )


def _is_picture(box: spaces.Box) -> bool:
    """Whether a Box holds pixels: bytes in two dimensions, or anything in three."""
    sides = sorted(box.shape)[-2:]
    return (
        len(box.shape) == 3 or (len(box.shape) == 2 and box.dtype == np.uint8)
    ) and min(sides) >= _PICTURE_PIXELS


def _boxes(space: spaces.Space, key: str = "") -> Iterator[tuple[str, spaces.Box]]:
    """The Box parts of a space, with the name of their entry."""
    if isinstance(space, spaces.Box):
        yield key, space
    elif isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from _boxes(part, str(name))
    elif isinstance(space, spaces.Tuple):
        for part in space.spaces:
            yield from _boxes(part, key)


def _leaves(
    space: spaces.Space, value: Any, key: str = ""
) -> Iterator[tuple[str, spaces.Space, Any]]:
    """The parts of an observation that are not Dict or Tuple, with their spaces."""
    if isinstance(space, spaces.Dict) and isinstance(value, Mapping):
        for name, part in space.spaces.items():
            if name in value:
                yield from _leaves(part, value[name], str(name))
    elif isinstance(space, spaces.Tuple) and isinstance(value, list | tuple):
        for part, item in zip(space.spaces, value, strict=False):
            yield from _leaves(part, item, key)
    else:
        yield key, space, value


def _dicts(result: Any, length: int) -> bool:
    """Whether a result is a tuple of ``length`` dicts, as in PettingZoo's API."""
    return (
        isinstance(result, tuple)
        and len(result) == length
        and all(isinstance(part, Mapping) for part in result)
    )
