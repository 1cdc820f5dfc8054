"""The memory of replays and machines, and the types of stored arrays."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.config.schema import ConfigError
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.players import ScriptedPlayer
from rllib_risk.core.rounds import play_episodes
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.data.replay_memory import (
    ReplayBound,
    action_dtype,
    bytes_of,
    check_room,
    machine_memory,
    node_memory,
    row_arrays,
    spelled,
)
from rllib_risk.data.rows import episodes_of, to_table
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.scripted import RandomPolicy
from rllib_risk.env_wrappers.team_env import LoopedTeamEnvs, TeamEnv

SPEC = TeamSpec(("a", "b"), 5, 40, 30, 20)


def episode(spec: TeamSpec, steps: int, rng: np.random.Generator) -> Episode:
    kept = row_arrays(spec)
    rows = {"obs": 1, "state": 1, "action_mask": 1}
    arrays = {
        name: rng.random((steps + rows.get(name, 0), *shape)).astype(kind)
        for name, (shape, kind) in kept.items()
    }
    return Episode(terminated=True, metrics={"is_success": 1.0}, **arrays)


@pytest.mark.parametrize("compact", [False, True])
def test_a_full_replay_takes_what_was_announced(compact: bool) -> None:
    """R39: the memory of a full buffer is within 5 % of the announced bound."""
    capacity, segment = 3000, 2**20
    rng = np.random.default_rng(0)
    one = episode(SPEC, 20, rng)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    replay = EpisodeReplay(capacity, 0, segment_bytes=segment, compact=compact)
    for _ in range(5 * capacity // 2):
        one.metrics = {"is_success": 1.0, "episode_limit": 1.0}
        replay.add([one])
    real = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(replay) == capacity
    bound = bytes_of(SPEC, capacity, 20, compact=compact, segment_bytes=segment)
    assert 0.95 < real / bound < 1.05


@pytest.mark.parametrize(
    ("num_actions", "kind"),
    [(2, np.int16), (2**15, np.int16), (2**15 + 1, np.int32), (2**31 + 1, np.int64)],
)
def test_actions_fit_their_type(num_actions: int, kind: type) -> None:
    chosen = action_dtype(num_actions)
    assert chosen == kind
    assert np.array(num_actions - 1).astype(chosen) == num_actions - 1


def test_a_too_large_replay_suggests_a_size_that_fits() -> None:
    # A row: 2 * 40 + 30 + 1 + 2 numbers of 4 bytes, 2 * 5 flags, 2 actions of 2 bytes.
    row = 4 * (2 * 40 + 30 + 1 + 2) + 2 * 5 + 2 * 2
    bound = ReplayBound.of([SPEC], 1000, 20_000, False)
    assert bound.bytes == 1000 * (21 * row + 400) + 2**24
    assert str(bound) == "up to 27 MB (1,000 episodes of at most 20 steps)"
    assert check_room([bound], None, "this machine") == ""
    assert check_room([bound], 30_000_000, "this machine") == ""
    with pytest.raises(ConfigError, match=r"^buffer_size_episodes: .* 27 MB.* 20 MB"):
        check_room([bound], 20_000_000, "this machine")
    # Two trials share the machine.
    with pytest.raises(
        ConfigError, match=r"54 MB in 2 trials .*Set buffer_size_episodes: \d+0, or max"
    ):
        check_room([bound] * 2, 30_000_000, "this machine")


def test_without_a_declared_limit_the_bound_is_a_warning() -> None:
    endless = TeamSpec(("a", "b"), 5, 40, 30, None)
    bound = ReplayBound.of([endless], 1000, 20_000, False)
    assert "20,000 steps; the env declares no limit, so this is max_ep" in str(bound)
    warning = check_room([bound], 10**9, "this machine")
    assert "this machine has 1 GB of memory" in warning
    assert "lower max_episode_steps" in warning
    # An episode that exceeds max_episode_steps stops the run.
    assert ReplayBound.of([SPEC], 1000, 10, False).steps == 10


def test_container_memory_limit_is_used(tmp_path: Path) -> None:
    """A replay must fit into the memory of its container or job."""
    whole = machine_memory(tmp_path)
    assert whole is not None and whole > 10**8
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_memory(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert machine_memory(tmp_path) == 10**6
    # A scheduler's job: a control group inside another one that has the limit.
    (tmp_path / "job" / "step").mkdir(parents=True)
    (tmp_path / "job" / "memory.max").write_text("900000\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/job/step\n")
    assert machine_memory(tmp_path, own) == 900_000


def test_the_largest_node_that_may_hold_a_trial() -> None:
    def node(memory: float, cpus: float = 4.0, alive: bool = True) -> dict:
        resources = {"CPU": cpus, "memory": memory} if cpus else {"memory": memory}
        return {"Alive": alive, "Resources": resources}

    nodes = [node(8e9), node(16e9), node(64e9, alive=False), node(32e9, cpus=0)]
    assert node_memory(nodes) == 16 * 10**9
    assert node_memory([node(8e9, cpus=0)]) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(10, "10 bytes"), (1234, "1.2 kB"), (340e9, "340 GB"), (1e30, "1.0e+15 PB")],
)
def test_sizes_are_written_with_units(size: float, text: str) -> None:
    assert spelled(size) == text


class ManyActions(ParallelEnv):
    """Agents choose among 40,000 actions for three steps."""

    metadata: ClassVar[dict] = {"name": "many_actions"}
    episode_limit = 3

    def __init__(self) -> None:
        self.possible_agents = ["a", "b"]
        self.agents: list[str] = []
        self.played: list[list[int]] = []

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(0, 1, (2,))

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(40_000)

    def reset(self, seed=None, options=None):
        self.agents = self.possible_agents[:]
        return {a: np.zeros(2, np.float32) for a in self.agents}, {
            a: {} for a in self.agents
        }

    def step(self, actions):
        self.played.append([int(actions[a]) for a in self.possible_agents])
        last, agents = len(self.played) == 3, self.agents
        self.agents = [] if last else agents
        return (
            {a: np.zeros(2, np.float32) for a in agents},
            dict.fromkeys(agents, 0.0),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, last),
            {a: {} for a in agents},
        )


def test_40000_actions_go_through_store_replay_and_dataset_unchanged() -> None:
    env = ManyActions()
    envs = LoopedTeamEnvs(lambda: TeamEnv(env), 1)
    config = TeamConfig().environment("two_step")  # only its limits are used
    rng = np.random.default_rng(0)
    player = ScriptedPlayer([RandomPolicy()], np.empty(0, np.int64), rng, 0.0)
    (played,), _ = play_episodes(config, envs, player, np.array([1]), rng)
    assert np.max(env.played) > 2**15
    assert played.actions.tolist() == env.played
    replay = EpisodeReplay(2, 0)
    replay.add([played])
    assert replay.newest(1)[0].actions.tolist() == env.played
    whole = replay.sequences(np.array([0]), np.array([0]), 3, 0)
    assert whole["actions"][0].tolist() == env.played
    ((_, read),) = episodes_of([to_table([played], ["x"])])
    assert read.actions.tolist() == env.played
    assert read.actions.dtype == played.actions.dtype == np.int32
