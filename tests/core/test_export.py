"""Exported teams act as the policies that they come from, over whole episodes."""

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import ray
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core import source_version
from rllib_risk.core.checkpointing import in_this_process
from rllib_risk.core.export import export_team
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.deploy import InputError, Team
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.offline import make_episode, write_dataset
from rllib_risk.ops.statistics import return_statistics

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data" / "old_checkpoints" / "0.1.0"

spec = importlib.util.spec_from_file_location("parity", ROOT / "tools/deploy_parity.py")
parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parity)

# Covers every family of environments and every kind of network.
PLAYED = [
    ("macn", "CVaR, predicted level"),
    ("macn", "padded window"),
    ("macn", "static CVaR"),
    ("hvac", "sampled quantiles"),
    ("uav", "LSTM"),
    ("uav", "COMA"),
    ("car_following", "feed-forward"),
    ("memory_game", "window"),
    ("memory_game", "IPPO"),
]


@pytest.mark.parametrize(("env", "kind"), PLAYED)
def test_an_exported_team_plays_as_the_policy_does(env, kind):
    """R47: ``tools/deploy_parity.py`` plays longer, and every kind in every env."""
    for name, both in parity.rows(env, kind, 120, "safetensors"):
        assert both.decisions >= 240, name
        assert both.differing == 0, name
        assert both.distance <= 1e-4 * both.scale, name


@pytest.fixture(scope="module")
def algorithm():
    found = rllib_risk.load(OLD / "rmix")
    yield found
    found.stop()


@pytest.fixture
def no_ray():
    """Ends the Ray that another test of this process may have started."""
    ray.shutdown()


@pytest.mark.usefixtures("no_ray")
def test_a_checkpoint_is_loaded_and_played_without_ray(algorithm):
    assert len(algorithm.evaluate_episodes(2)["returns"]) == 2
    assert not ray.is_initialized()


@pytest.mark.usefixtures("no_ray")
def test_a_checkpoint_of_remote_runners_and_learners_starts_no_ray(tmp_path):
    rllib_risk.register()
    config = config_class("VDN")().environment("two_step").training(hidden_size=8)
    config.min_sample_timesteps_per_iteration = 2
    config.evaluation_duration = 1
    trained = config.build_algo()
    trained.config = trained.config.copy(copy_frozen=False).update_from_dict(
        {
            "num_env_runners": 2,
            "evaluation_num_env_runners": 1,
            "num_learners": 2,
            "num_cpus_per_learner": 2,
        }
    )
    (tmp_path / "checkpoint").mkdir()
    trained.save_checkpoint(str(tmp_path / "checkpoint"))
    trained.stop()
    loaded = rllib_risk.load(tmp_path / "checkpoint")
    assert not ray.is_initialized()
    assert len(loaded.evaluate_episodes(1)["returns"]) == 1
    export_team(loaded, tmp_path / "team")
    loaded.train()
    assert not ray.is_initialized()
    loaded.stop()
    # Runners and learners that are asked for are kept.
    asked = {"num_env_runners": 1, "num_learners": 3, "num_cpus_per_learner": 2}
    assert in_this_process(asked) == asked | {"evaluation_num_env_runners": 0}


def test_an_exported_record_holds_contract_risk_and_provenance(algorithm, tmp_path):
    record = export_team(algorithm, tmp_path / "team")
    written = json.loads((tmp_path / "team" / "policy.json").read_text())
    assert written.pop("networks") and record.pop("networks")
    assert written == record
    first = record["contract"]["agents"][0]
    assert first["name"] == "agent_0"
    assert first["action_names"] == ["up", "down", "left", "right"]
    assert first["observation_low"] == [0.0] * 9
    assert first["observation_high"] == [1.0] * 9
    assert record["contract"]["needs_mask"] is False
    risk = record["risk"]
    assert risk["predicted"] and risk["levels"] == [n / 10 for n in range(1, 11)]
    origin = record["provenance"]
    seed = algorithm.config.seed
    assert origin["env"] == "macn"
    assert origin["seeds"] == {"training": seed, "evaluation": seed, "dataset": None}
    assert origin["env_steps"] == algorithm.env_steps > 0
    # Version 0.1 wrote no commit, and this run made no evaluation.
    assert origin["training"]["rllib_risk"].startswith("0.1")
    assert origin["training"]["git_commit"] is None
    assert origin["last_evaluation"] is None


def test_an_artefact_names_the_code_and_the_last_evaluation_of_its_training(
    tmp_path, monkeypatch
):
    """R47: an exported team."""
    commits = {"git_commit": "a" * 40, "git_modified": False}
    for module in ("record", "export"):
        found = {"rllib_risk": module, **commits}
        monkeypatch.setattr(
            f"rllib_risk.core.{module}.source_version", lambda f=found: f
        )
    rllib_risk.register()
    config = config_class("VDN")().environment("two_step").debugging(seed=3)
    config.training(hidden_size=8).evaluation(
        evaluation_interval=1, evaluation_duration=4
    )
    config.min_sample_timesteps_per_iteration = 20
    trained = config.build_algo()
    trained.train()
    # Returns 1, 2, 3 and 6: mean 3, standard deviation sqrt(14 / 3), and the 0.975
    # quantile of 3 degrees of freedom is 3.18245: 3 +- 3.18245 sqrt(14 / 3) / 2.
    trained._last_evaluation |= return_statistics([1, 2, 3, 6], None, [1] * 4)
    (tmp_path / "checkpoint").mkdir()
    trained.save_checkpoint(str(tmp_path / "checkpoint"))
    trained.stop()
    loaded = rllib_risk.load(tmp_path / "checkpoint")
    origin = export_team(loaded, tmp_path / "team")["provenance"]
    loaded.stop()
    assert origin["training"] == {"rllib_risk": "record", **commits}
    assert origin["export"]["rllib_risk"] == "export"
    last = origin["last_evaluation"]
    assert (last["return_mean"], last["episodes"], last["age_iterations"]) == (3, 4, 0)
    assert last["return_mean_ci95"] == pytest.approx([-0.43744, 6.43744], abs=1e-5)
    assert "Student's" in last["return_mean_ci95_method"]


def test_the_commit_is_that_of_the_packages_own_checkout(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    package = tmp_path / "rllib_risk" / "__init__.py"
    inside = tmp_path / "site-packages" / "rllib_risk" / "__init__.py"
    for file in (package, inside):
        file.parent.mkdir(parents=True)
        file.write_text("")
    for words in ("init -q", "add rllib_risk", "commit -q -m first"):
        subprocess.run([*git, *words.split()], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    commit_of = source_version._commit_of.__wrapped__
    assert commit_of(tmp_path) == (head, False)
    package.write_text("changed")
    assert commit_of(tmp_path) == (head, True)
    # Installed inside another project's repository, which does not track the package.
    assert commit_of(inside.parents[1]) == (None, None)


def test_a_folder_with_contents_is_left_alone(algorithm, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty; choose another folder"):
        export_team(algorithm, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_artefact_that_acts_differently_is_not_written(
    algorithm, tmp_path, monkeypatch
):
    """R47: an exported team."""
    monkeypatch.setattr(Team, "utilities", np.zeros((4, 2, 4)))
    with pytest.raises(ConfigError, match="differs from the trained one"):
        export_team(algorithm, tmp_path / "team")
    assert not (tmp_path / "team").exists()


class Unequal(ParallelEnv):
    """Two agents of unequal sizes, whose masks allow all actions but one."""

    metadata: ClassVar = {"name": "unequal"}
    action_names: ClassVar = {"small": ["stay", "go"], "large": ["a", "b", "c"]}
    sizes: ClassVar = {"small": (2, 2), "large": (3, 3)}

    def __init__(self):
        self.possible_agents = list(self.sizes)
        self.views = {
            agent: Dict(seen=Box(-9, 9, (d,)), action_mask=Box(0, 1, (a,), np.int8))
            for agent, (d, a) in self.sizes.items()
        }
        self.moves = {agent: Discrete(a) for agent, (_, a) in self.sizes.items()}

    def observation_space(self, agent):
        return self.views[agent]

    def action_space(self, agent):
        return self.moves[agent]

    def reset(self, seed=None, options=None):
        self.rng, self.steps = np.random.default_rng(seed), 0
        self.agents = list(self.possible_agents)
        return self.seen(), {agent: {} for agent in self.agents}

    def seen(self):
        obs = {}
        for agent, (size, number) in self.sizes.items():
            mask = np.ones(number, np.int8)
            mask[self.rng.integers(number)] = 0
            seen = self.rng.normal(size=size).astype(np.float32)
            obs[agent] = {"seen": seen, "action_mask": mask}
        return obs

    def step(self, actions):
        self.steps += 1
        every = self.possible_agents
        over = dict.fromkeys(every, self.steps == 12)
        result = self.seen(), dict.fromkeys(every, 1.0), dict.fromkeys(every, False)
        if self.steps == 12:
            self.agents = []
        return *result, over, {agent: {} for agent in every}


def test_agents_of_unequal_sizes_with_masks_and_names(tmp_path):
    rllib_risk.register()
    config = config_class("VDN")().environment(
        "pettingzoo", env_config={"factory": f"{__name__}:Unequal"}
    )
    config.training(hidden_size=16).debugging(seed=1)
    algorithm = config.build_algo()
    record = export_team(algorithm, tmp_path / "team")
    small, large = record["contract"]["agents"]
    assert (small["obs_size"], small["num_actions"]) == (2, 2)
    assert small["action_names"] == ["stay", "go"]
    assert large["observation_low"] == [-9.0] * 3
    assert record["contract"]["needs_mask"] is True
    team, player = Team.load(tmp_path / "team"), PolicyPlayer(algorithm.team_policy, 1)
    theirs, env = TeamEnv(Unequal()), Unequal()
    rows, _ = theirs.reset(seed=5)
    obs, _ = env.reset(seed=5)
    while env.agents:
        expected, _ = player.act(rows["obs"][None], rows["action_mask"][None])
        masks = {agent: view["action_mask"] for agent, view in obs.items()}
        found = team.act({a: view["seen"] for a, view in obs.items()}, masks)
        assert list(found.values()) == expected[0].tolist()
        rows, *_ = theirs.step(expected[0])
        obs, *_ = env.step(found)
    algorithm.stop()


@pytest.mark.parametrize(
    ("unavailable", "needed", "num_actions"),
    [
        ([], False, [3, 3]),
        # An action is masked only once, in the last step of an episode.
        ([(5, 1, 2)], True, [3, 3]),
        # An action is never available, but it is not the last one, so it exists.
        ([(slice(None), 0, 1)], True, [3, 3]),
        # The first agent's third action is padding: the importer masks it throughout.
        ([(slice(None), 0, 2)], False, [2, 3]),
        ([(slice(None), 0, 2), (3, 0, 0)], True, [2, 3]),
    ],
)
def test_a_team_without_an_environment_needs_masks_if_its_data_have_any(
    tmp_path, unavailable, needed, num_actions
):
    """R47: an exported team must not demand masks that its data do not have."""
    episodes = []
    for shown in (False, True):  # single steps are masked only in the second episode
        mask = np.ones((7, 2, 3), np.uint8)
        for where in unavailable:
            if shown or isinstance(where[0], slice):
                mask[where] = 0
        episodes.append(
            make_episode(
                np.full((7, 2, 1), float(shown)),
                mask[:6].argmax(-1),
                np.ones(6),
                terminated=False,
                action_mask=mask,
            )
        )
    write_dataset(tmp_path / "data", episodes, rows_per_shard=6)
    config = config_class("VDN")().debugging(seed=1)
    config.training(
        dataset=str(tmp_path / "data"),
        target_update_tau=0.1,
        batch_size_episodes=2,
        hidden_size=8,
    )
    algorithm = config.build_algo()
    contract = export_team(algorithm, tmp_path / "team")["contract"]
    algorithm.stop()
    assert contract["needs_mask"] is needed
    assert [agent["num_actions"] for agent in contract["agents"]] == num_actions
    team = Team.load(tmp_path / "team")
    if needed:
        with pytest.raises(InputError, match="action_mask of the team"):
            team.act(np.zeros((2, 1)))
    else:
        assert (team.act(np.zeros((2, 1))) < num_actions).all()


@pytest.mark.parametrize("kind", ["LSTM", "CVaR, predicted level", "MAPPO"])
def test_onnx_plays_as_the_policy_does(kind):
    """R47: an exported team."""
    pytest.importorskip("onnx", reason="needs rllib-risk[onnx]")
    pytest.importorskip("onnxruntime", reason="needs rllib-risk[onnx]")
    for name, both in parity.rows("macn", kind, 120, "onnx"):
        assert both.differing == 0, name
        assert both.distance <= 1e-5 * both.scale, name
