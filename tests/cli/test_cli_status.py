"""A run prints status lines until its first result."""

import re
import textwrap
from pathlib import Path

import pytest

from rllib_risk.cli import progress, status
from rllib_risk.cli.main import run

# Steps are slow until a status line reports env steps. Two episodes crash.
SLOW = """
import pathlib, time
import gymnasium, numpy as np, pettingzoo

class Slow(pettingzoo.ParallelEnv):
    metadata = {"name": "slow"}
    possible_agents = ["a", "b"]
    agents = []
    episode_limit = 5
    episodes = 0

    def observation_space(self, agent):
        return gymnasium.spaces.Box(0, 1, (1,))

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents, self.steps = self.possible_agents[:], 0
        Slow.episodes += 1
        if Slow.episodes == 5:
            raise RuntimeError("no luck")
        return self.all(np.zeros(1, np.float32)), self.all({})

    def all(self, value):
        return dict.fromkeys(self.possible_agents, value)

    def step(self, actions):
        if not pathlib.Path("seen").exists():
            time.sleep(0.1)
        self.steps += 1
        if Slow.episodes == 3 and self.steps == 2:
            raise RuntimeError("crashed")
        over = self.steps == 5
        if over:
            self.agents = []
        zero = self.all(np.zeros(1, np.float32))
        return zero, self.all(0.0), self.all(False), self.all(over), self.all({})
"""
FILE = """
slow:
  run: VDN
  env: pettingzoo
  stop: {training_iteration: 1}
  config:
    hidden_size: 8
    seed: 1
    min_sample_timesteps_per_iteration: 400
    updates_per_episode: 0.05
    evaluation_duration: 2
    env_config: {factory: "slow_env:Slow"}
"""


def test_status_lines_until_the_first_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_it_was: None,
) -> None:
    (tmp_path / "slow_env.py").write_text(textwrap.dedent(SLOW))
    (tmp_path / "f.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status, "STATUS_S", 0.5)

    def say(text: str) -> None:
        print(text)
        if re.search(r"sampling .* [1-9]\d* env steps", text):
            (tmp_path / "seen").touch()

    monkeypatch.setattr(progress, "say", say)
    options = ["--storage-path", str(tmp_path / "out"), "--ray-num-cpus", "1"]
    assert run(["train", "file", "f.yaml", *options]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[:2] == ["Checking f.yaml ...", "Starting Ray ..."]
    lines = printed.out.splitlines()
    assert lines[1] == "Risk: none; the team maximizes the mean return."
    assert lines[2] == "Replay: up to 20 MB (5,000 episodes of at most 5 steps)"
    result = next(i for i, line in enumerate(lines) if "steps/s" in line)
    sampling = [
        line
        for line in lines[:result]
        if line.startswith("still running") and "sampling" in line
    ]
    steps = [int(line.split(" env steps")[0].rpartition(" ")[2]) for line in sampling]
    assert steps and steps[-1] > 0 and steps == sorted(steps)
    assert " lost | left" in lines[result]
