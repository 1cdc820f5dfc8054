"""How much memory a replay of episodes takes, from the sizes of a team alone."""

from __future__ import annotations

from rllib_risk.env_wrappers.team_env import TeamSpec

# Bytes of one number, as `rllib_risk.core.episodes.Episode` stores it.
_FLOAT32, _INT16, _UINT8 = 4, 2, 1


def bytes_of(spec: TeamSpec, episodes: int, steps: int) -> int:
    """Memory of a replay that is not compact.

    Args:
        spec: Sizes of the team.
        episodes: Number of episodes that it holds.
        steps: Steps of each of them.

    Returns:
        Bytes. An episode of L steps takes L + 1 rows: the last one holds the
        observation after the last step.
    """
    n = spec.num_agents
    row = (
        n * spec.obs_size * _FLOAT32
        + spec.state_size * _FLOAT32
        + n * spec.num_actions * _UINT8  # action mask
        + n * _INT16  # actions
        + _FLOAT32  # reward
        + n * _FLOAT32  # risk levels
    )
    return episodes * (steps + 1) * row


def spelled(size: float) -> str:
    """Writes bytes as ``1.2 GB``, with prefixes of 1000."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while size >= 999.5 and power < len(units) - 1:
        size, power = size / 1000, power + 1
    if size >= 1e6:
        return f"{size:.1e} {units[power]}"
    return f"{size:.0f} {units[power]}" if size >= 10 else f"{size:.2g} {units[power]}"
