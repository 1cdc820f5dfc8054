"""How much memory a replay takes, and how much a machine has.

Nothing here imports Ray or torch, so that ``rllib check-env`` can ask as well.

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

# One segment's memory. Small beside what a replay holds, since a segment is given back
# as a whole, and large beside an episode, so that a draw touches few of them.
SEGMENT_BYTES = 2**24
# An episode's entry in the index, the references to it, and the numbers that the
# environment reported at its end.
_EPISODE_BYTES = 400
# A compact replay of 32-bit numbers takes about half.
_COMPACT_SHARE = 0.55
# Suggested replays leave a share of the memory to everything else.
_USABLE = 0.8
_ACTION_TYPES = (np.int16, np.int32, np.int64)
_CGROUPS = Path("/sys/fs/cgroup")


def action_dtype(num_actions: int) -> np.dtype:
    """The smallest of three types that holds the numbers of all actions.

    Args:
        num_actions: ``A``.

    Returns:
        int16 for up to 32,768 actions, int32 or int64 for more.
    """
    fitting = (t for t in _ACTION_TYPES if num_actions - 1 <= np.iinfo(t).max)
    return np.dtype(next(fitting))


def row_arrays(
    num_agents: int, num_actions: int, obs_size: int, state_size: int
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of what one row of an episode holds.

    Args:
        num_agents: ``N``.
        num_actions: ``A``.
        obs_size: ``D``.
        state_size: ``S``.

    Returns:
        By the names of an episode's arrays.
    """
    n, number = num_agents, np.dtype(np.float32)
    return {
        "obs": ((n, obs_size), number),
        "state": ((state_size,), number),
        "action_mask": ((n, num_actions), np.dtype(np.uint8)),
        "actions": ((n,), action_dtype(num_actions)),
        "rewards": ((), number),
        "risk_levels": ((n,), number),
    }


def _row_bytes(spec: TeamSpec, compact: bool) -> int:
    arrays = row_arrays(
        spec.num_agents, spec.num_actions, spec.obs_size, spec.state_size
    )
    total = sum(math.prod(shape) * kind.itemsize for shape, kind in arrays.values())
    if compact:
        # 16 bits for each number, unless all of them are flags; a bit for each action.
        numbers = spec.num_agents * spec.obs_size + spec.state_size
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
    """The most memory that a replay takes.

    Args:
        spec: Sizes of the team.
        episodes: Capacity of the replay.
        steps: Of the longest episode.
        compact: Whether the replay is compact; then all of it may be numbers that are
            no flags.
        segment_bytes: By how much the replay's memory grows and shrinks.

    Returns:
        Bytes. Up to one segment of it is free or holds episodes that are gone.
    """
    episode = (steps + 1) * _row_bytes(spec, compact)
    return episodes * (episode + _EPISODE_BYTES) + max(segment_bytes, episode)


@dataclass(frozen=True)
class ReplayBound:
    """The most that a run's replay can take.

    Attributes:
        bytes: See :func:`bytes_of`.
        episodes: Capacity of the replay.
        steps: Of the longest episode.
        declared: Whether the environment declares that length. If not, it is
            ``max_episode_steps``, and episodes may be much shorter.
        compact: Whether the replay is compact.
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
        """The bound of a replay of episodes of some environments.

        Args:
            specs: Of the environments whose episodes it holds.
            episodes: Its capacity.
            max_steps: Length of the longest episode where none is declared.
            compact: Whether it is compact.
        """
        found = []
        for spec in specs:
            # An episode that exceeds max_steps stops the run.
            steps = min(spec.episode_limit or max_steps, max_steps)
            size = bytes_of(spec, episodes, steps, compact=compact)
            declared = spec.episode_limit is not None
            found.append(cls(size, episodes, steps, declared, compact))
        return max(found, key=lambda bound: bound.bytes)

    def __str__(self) -> str:
        """Such as ``up to 1.2 GB (5,000 episodes of at most 100 steps)``."""
        text = f"up to {spelled(self.bytes)} ({self.episodes:,} episodes of at most"
        text += f" {self.steps:,} steps"
        if not self.declared:
            text += "; the env declares no limit, so this is max_episode_steps"
        return f"{text})"

    def episodes_within(self, room: float) -> int:
        """The capacity that a replay may have in a number of bytes, as a round number.

        Args:
            room: Bytes.
        """
        number = int(self.episodes * min(room / self.bytes, 1.0))
        unit = 10 ** max(len(str(number)) - 2, 0)
        return number // unit * unit


def check_room(bounds: Sequence[ReplayBound], room: int | None, where: str) -> str:
    """Refuses replays that do not fit into memory.

    Args:
        bounds: Of the replays that are there at the same time.
        room: Bytes that there are; None: unknown.
        where: What has that memory, such as ``this machine``.

    Returns:
        A warning; empty if there is none.

    Raises:
        ConfigError: If they do not fit; the message names the keys to change.
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
    keys = keys or ["compact_replay: true, and give the env smaller observations"]
    if largest.declared:
        raise ConfigError(f"{text} Set {', or '.join(keys)}.")
    return (
        f"{text} It takes less if episodes are shorter. Declare the limit of episodes"
        f" in the env, lower max_episode_steps, or set {', or '.join(keys)}."
    )


def spelled(size: float) -> str:
    """Writes bytes as ``1.2 GB``, with prefixes of 1000."""
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
    """Memory of this machine, or of the container or job that this process runs in.

    Args:
        cgroups: Folder of the control groups, which limit a container or a job.
        own_group: File that says which of them this process is in.

    Returns:
        Bytes; None where the system does not say.
    """
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # Version 1 of control groups, and version 2, whose outer groups limit inner ones.
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
    """Memory of the largest node of a Ray cluster that may hold a trial.

    Args:
        nodes: As ``ray.nodes()`` lists them.

    Returns:
        Bytes; None if no node has CPUs, as in a cluster that has yet to grow.
    """
    sizes = []
    for node in nodes:
        resources = node["Resources"] if node["Alive"] else {}
        assert isinstance(resources, Mapping)
        if resources.get("CPU") and "memory" in resources:
            sizes.append(int(resources["memory"]))
    return max(sizes, default=None)
