"""Several variants of an env as one batch.

Training over variants (domain randomisation) and evaluation over a grid of shifted envs
need one forward pass of the network for all variants. So this module concatenates the
batches of the variants.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from rllib_risk.data.episodes import VARIANT
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    slots_where,
)
from rllib_risk.env_wrappers.errors import EnvConfigError


class JoinedTeamEnvs(BatchedTeamEnv):
    """Batched envs of one team shape as one batched env; slots are concatenated.

    A part may hold views of its own arrays, so they are not replaced. They are copied
    into the joined arrays, which takes little time compared with a step.

    Attributes:
        parts: The batched envs; `close` closes them too.
        part_of: Index of the part that each slot belongs to, int64 [E].
    """

    def __init__(self, parts: Sequence[BatchedTeamEnv]) -> None:
        """Checks that the parts fit together.

        Args:
            parts: At least one batched env; their slots follow each other in this
                order.

        Raises:
            EnvConfigError: If there are no parts, or two have teams of different sizes.
        """
        if not parts:
            raise EnvConfigError("there are no envs to join: give at least one")
        first = parts[0].spec
        for index, part in enumerate(parts):
            difference = spec_difference(first, part.spec)
            if difference:
                raise EnvConfigError(
                    f"variant {index} does not fit variant 0: {difference}. Give all "
                    "variants the same agents, actions and sizes"
                )
        sizes = [part.num_envs for part in parts]
        super().__init__(sum(sizes), joint_spec([part.spec for part in parts]))
        self.parts = tuple(parts)
        self.part_of = np.repeat(np.arange(len(parts)), sizes)
        # The first slots of all parts come first, then the second slots, and so on, so
        # that even a few episodes cover all parts.
        place = np.concatenate([np.arange(size) for size in sizes])
        self.order = np.lexsort((self.part_of, place))
        ends = np.cumsum(sizes).tolist()
        self._slices = [
            slice(end - size, end) for end, size in zip(ends, sizes, strict=True)
        ]
        for part, own in zip(self.parts, self._slices, strict=True):
            self._copy(part, own, slice(None))

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        owners = self.part_of[slots]
        for index in np.unique(owners).tolist():
            part, own = self.parts[index], self._slices[index]
            mine = owners == index
            theirs = slots[mine] - own.start
            part.reset(theirs, seeds[mine])
            self._copy(part, slots[mine], theirs)

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class.

        The last info of an episode gets `variant`, the index of the part, as a float.
        """
        result = BatchedStep(
            rewards=np.zeros(self.num_envs, np.float32),
            terminateds=np.zeros(self.num_envs, bool),
            truncateds=np.zeros(self.num_envs, bool),
            infos=[{} for _ in range(self.num_envs)],
        )
        for index, (part, own) in enumerate(zip(self.parts, self._slices, strict=True)):
            if not active[own].any():
                continue
            step = part.step(actions[own], active[own])
            self._copy(part, own, slice(None))
            result.rewards[own] = step.rewards
            result.terminateds[own] = step.terminateds
            result.truncateds[own] = step.truncateds
            for slot in slots_where(step.terminateds | step.truncateds):
                info = {**step.infos[slot], VARIANT: float(index)}
                result.infos[own.start + slot] = info
            for slot, text in step.crashed.items():
                result.crashed[own.start + slot] = text
        return result

    def close(self) -> None:
        """Closes all parts."""
        for part in self.parts:
            part.close()

    def _copy(
        self, part: BatchedTeamEnv, own: slice | np.ndarray, theirs: slice | np.ndarray
    ) -> None:
        """Copies the rows `theirs` of a part to the joined rows `own`."""
        self.obs[own] = part.obs[theirs]
        self.state[own] = part.state[theirs]
        self.action_mask[own] = part.action_mask[theirs]


def join_envs(makers: Iterable[Callable[[], BatchedTeamEnv]]) -> JoinedTeamEnvs:
    """Builds the parts and joins them; if one fails, the parts built before are closed.

    Args:
        makers: Functions that build one part each.

    Returns:
        The joined envs.

    Raises:
        EnvConfigError: If there are no parts, or two have teams of different sizes.
    """
    with contextlib.ExitStack() as built:
        parts = []
        for make in makers:
            part = make()
            built.callback(part.close)
            parts.append(part)
        joined = JoinedTeamEnvs(parts)
        built.pop_all()  # nothing failed, so the parts must stay open
    return joined


def joint_spec(specs: Sequence[TeamSpec]) -> TeamSpec:
    """The sizes of envs that are played in turn.

    Args:
        specs: Sizes of the envs, equal up to the limit of their episodes.

    Returns:
        The sizes, with the longest limit; without one if an env declares none.
    """
    limits = [spec.episode_limit for spec in specs]
    known = [limit for limit in limits if limit is not None]
    longest = max(known) if len(known) == len(limits) else None
    return dataclasses.replace(specs[0], episode_limit=longest)


def spec_difference(expected: TeamSpec, found: TeamSpec) -> str:
    """Describes the differences between the sizes of two teams.

    Args:
        expected: Sizes of the expected team.
        found: Sizes of the other team.

    Returns:
        Text such as "2 agents instead of 3, obs_size 9 instead of 36"; empty if all
        sizes are equal.
    """
    pairs = [
        (f"{size} {getattr(found, size)}", getattr(expected, size))
        for size in ("num_actions", "obs_size", "state_size")
        if getattr(found, size) != getattr(expected, size)
    ]
    if found.num_agents != expected.num_agents:
        pairs.insert(0, (f"{found.num_agents} agents", expected.num_agents))
    elif found.agents != expected.agents:
        pairs.insert(0, (f"agents {found.agents}", expected.agents))
    return ", ".join(f"{one} instead of {other}" for one, other in pairs)
