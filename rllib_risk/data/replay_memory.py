"""Memory that a replay needs, and memory of the machine.

This module imports neither Ray nor torch, so that ``rllib check-env`` can use it.

Letters as in :mod:`rllib_risk.data.episodes`: ``N`` agents, ``A`` actions, ``D``
observation size, ``S`` state size.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.data.sizes import TeamSpec

# Memory of one segment. It is small compared with a replay, because a segment is freed
# as a whole. It is large compared with an episode, so that a draw reads few segments.
SEGMENT_BYTES = 2**24
# An episode's index entry, references, and the numbers that the environment reported at
# its end.
_EPISODE_BYTES = 400
# Relative memory of a compact replay of 32-bit numbers.
_COMPACT_SHARE = 0.55
# Fraction of the memory that suggested replays use.
_USABLE = 0.8
_ACTION_TYPES = (np.int16, np.int32, np.int64)
_CGROUPS = Path("/sys/fs/cgroup")


def action_dtype(num_actions: int) -> np.dtype:
    """Returns the smallest of three integer types that can represent all actions.

    Args:
        num_actions: ``A``.

    Returns:
        int16 for up to 32,768 actions, int32 or int64 for more.
    """
    fitting = (t for t in _ACTION_TYPES if num_actions - 1 <= np.iinfo(t).max)
    return np.dtype(next(fitting))


def row_arrays(spec: TeamSpec) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Returns shape and dtype of the arrays in one row of an episode.

    Args:
        spec: Sizes of the team.

    Returns:
        Array name -> shape and dtype.
    """
    n, number = spec.num_agents, np.dtype(np.float32)
    return {
        "obs": ((n, spec.obs_size), spec.obs_dtype),
        "state": ((spec.state_size,), number),
        "action_mask": ((n, spec.num_actions), np.dtype(np.uint8)),
        "actions": ((n,), action_dtype(spec.num_actions)),
        "rewards": ((), number),
        "risk_levels": ((n,), number),
    }


def row_bytes(spec: TeamSpec, compact: bool = False) -> int:
    """Computes the bytes that a replay needs for one row, which is about one step.

    Args:
        spec: Sizes of the team.
        compact: See :func:`bytes_of`.
    """
    arrays = row_arrays(spec)
    total = sum(math.prod(shape) * kind.itemsize for shape, kind in arrays.values())
    if compact:
        # At most 16 bits for each number, 8 for pixels, and one bit for each action.
        numbers = spec.state_size
        if spec.image is None:
            numbers += spec.num_agents * spec.obs_size
        bits = -(-spec.num_actions // 8)
        total -= 2 * numbers + spec.num_agents * (spec.num_actions - bits)
    return total


def bytes_of(
    spec: TeamSpec,
    episodes: int,
    steps: int,
    *,
    compact: bool = False,
    segment_bytes: int = SEGMENT_BYTES,
) -> int:
    """Computes the maximum memory of a replay.

    Args:
        spec: Sizes of the team.
        episodes: Capacity of the replay.
        steps: Steps of the longest episode.
        compact: Whether the replay is compact. The bound assumes 16 bits for every
            number.
        segment_bytes: Size of the replay's segments.

    Returns:
        Bytes, including up to one segment that is free or has replaced episodes.
    """
    episode = (steps + 1) * row_bytes(spec, compact)
    return episodes * (episode + _EPISODE_BYTES) + max(segment_bytes, episode)


@dataclass(frozen=True)
class ReplayBound:
    """An upper bound of the memory of a run's replay.

    Attributes:
        bytes: See :func:`bytes_of`.
        episodes: Capacity of the replay.
        steps: Steps of the longest episode.
        declared: Whether the environment declares that length. If not, it is
            ``max_episode_steps``, and episodes may be much shorter.
        compact: Whether the replay is compact, or holds images, which
            ``compact_replay`` leaves as they are.
    """

    bytes: int
    episodes: int
    steps: int
    declared: bool
    compact: bool

    @classmethod
    def of(
        cls, specs: Sequence[TeamSpec], episodes: int, max_steps: int, compact: bool
    ) -> ReplayBound:
        """Computes the bound of a replay of episodes of some environments.

        Args:
            specs: Team sizes of the environments.
            episodes: Capacity of the replay.
            max_steps: Length of the longest episode if the environment declares none.
            compact: Whether the replay is compact.
        """
        found = []
        for spec in specs:
            # An episode that exceeds max_steps stops the run.
            steps = min(spec.episode_limit or max_steps, max_steps)
            size = bytes_of(spec, episodes, steps, compact=compact)
            declared = spec.episode_limit is not None
            smallest = compact or spec.image is not None
            found.append(cls(size, episodes, steps, declared, smallest))
        return max(found, key=lambda bound: bound.bytes)

    def __str__(self) -> str:
        """Text such as ``up to 1.2 GB (5,000 episodes of at most 100 steps)``."""
        text = f"up to {spelled(self.bytes)} ({self.episodes:,} episodes of at most"
        text += f" {self.steps:,} steps"
        if not self.declared:
            text += "; the env declares no limit, so this is max_episode_steps"
        return f"{text})"

    def episodes_within(self, room: float) -> int:
        """Computes the capacity of a replay with less memory, as a round number.

        Args:
            room: Available memory in bytes.
        """
        number = int(self.episodes * min(room / self.bytes, 1.0))
        unit = 10 ** max(len(str(number)) - 2, 0)
        return number // unit * unit


def check_room(bounds: Sequence[ReplayBound], room: int | None, where: str) -> str:
    """Checks that replays fit into memory.

    Args:
        bounds: Bounds of the replays that exist at the same time.
        room: Available memory in bytes; None if unknown.
        where: Name of the place with that memory, such as ``this machine``.

    Returns:
        A warning; empty if there is none.

    Raises:
        ConfigError: If the replays do not fit. The message names the keys to change.
    """
    needed = sum(bound.bytes for bound in bounds)
    if room is None or needed <= room:
        return ""
    largest = max(bounds, key=lambda bound: bound.bytes)
    fits = largest.episodes_within(_USABLE * room * largest.bytes / needed)
    several = ""
    if len(bounds) > 1:
        several = f", {spelled(needed)} in {len(bounds)} trials at the same time"
    text = (
        f"buffer_size_episodes: the replay can take {largest}{several}, and"
        f" {where} has {spelled(room)} of memory."
    )
    keys = [f"buffer_size_episodes: {fits}"] if fits else []
    if several and largest.bytes <= room:
        keys.append("max_concurrent_trials: 1")
    if not largest.compact and _COMPACT_SHARE * needed <= room:
        keys.append("compact_replay: true")
    if not keys:
        less = "buffer_size_episodes: 1" if largest.compact else "compact_replay: true"
        keys.append(f"{less}, and give the env smaller observations")
    if largest.declared:
        raise ConfigError(f"{text} Set {', or '.join(keys)}.")
    return (
        f"{text} It takes less if episodes are shorter. Declare the limit of episodes"
        f" in the env, lower max_episode_steps, or set {', or '.join(keys)}."
    )


def spelled(size: float) -> str:
    """Formats bytes as ``1.2 GB``, with decimal prefixes."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while size >= 999.5 and power < len(units) - 1:
        size, power = size / 1000, power + 1
    if size >= 1e6:
        return f"{size:.1e} {units[power]}"
    return f"{size:.0f} {units[power]}" if size >= 10 else f"{size:.2g} {units[power]}"


def machine_memory(
    cgroups: Path = _CGROUPS, own_group: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Returns the memory of this machine, container or job.

    Args:
        cgroups: Folder of the control groups, which limit a container or a job.
        own_group: File that names the control groups of this process.

    Returns:
        Bytes; None if unknown.
    """
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # Control groups of version 1, and of version 2, where outer groups limit inner
    # ones.
    files = [cgroups / "memory/memory.limit_in_bytes", cgroups / "memory.max"]
    with contextlib.suppress(OSError):
        for line in own_group.read_text().splitlines():
            if line.startswith("0::/"):
                inner = Path(line.removeprefix("0::/"))
                files += [cgroups / p / "memory.max" for p in (inner, *inner.parents)]
    for file in files:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            limits.append(int(file.read_text()))
    return min(limits, default=None)


def node_memory(nodes: Sequence[Mapping[str, object]]) -> int | None:
    """Returns the memory of the largest node of a Ray cluster that can run a trial.

    Args:
        nodes: Nodes as ``ray.nodes()`` lists them.

    Returns:
        Bytes; None if no node has CPUs, as in a cluster that has not scaled up.
    """
    sizes = []
    for node in nodes:
        resources = node["Resources"] if node["Alive"] else {}
        assert isinstance(resources, Mapping)
        if resources.get("CPU") and "memory" in resources:
            sizes.append(int(resources["memory"]))
    return max(sizes, default=None)
