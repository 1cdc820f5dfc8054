"""RLlib's own algorithms: the API stack that a file selects, and whole runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.preflight import build_config, preflight
from rllib_risk.cli.session import register_all
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.loading import parse_document
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import parse_yaml

ROOT = Path(__file__).resolve().parents[2]


def spec_of(algorithm: str, config: str) -> ExperimentSpec:
    env = "Pendulum-v1" if algorithm == "SAC" else "CartPole-v1"
    text = f"x:\n  run: {algorithm}\n  env: {env}\n  config: {config}\n"
    return parse_document(parse_yaml(text, "x.yaml"), RLlibCatalog())[0]


@pytest.mark.parametrize(
    ("algorithm", "config", "new"),
    [
        ("PPO", "{}", True),
        ("DQN", "{}", True),
        ("SAC", "{}", True),
        ("IMPALA", "{}", True),
        ("IMPALA", "{num_gpus: 0, model: {}}", True),
        ("PPO", "{num_learners: 1, model_config: {fcnet_hiddens: [8]}}", True),
        ("PPO", "{model: {fcnet_hiddens: [8]}}", False),
        ("PPO", "{num_gpus: {grid_search: [0, 1]}}", False),
        ("PPO", "{enable_rl_module_and_learner: false}", False),
    ],
)
def test_the_keys_choose_the_api_stack(
    algorithm: str, config: str, new: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    register_all()
    built = preflight(spec_of(algorithm, config)).config
    assert built.enable_rl_module_and_learner == new
    assert built.enable_env_runner_and_connector_v2 == new
    said = "old API stack, because only that one reads" in capsys.readouterr().err
    assert said == (not new and "enable" not in config)


@pytest.mark.parametrize(
    ("algorithm", "config", "message"),
    [
        ("DQN", "{hiddens: [8]}", "hiddens: has no effect in DQN"),
        ("SAC", "{model: {fcnet_hiddens: [8]}}", "counterpart there: model_config"),
        ("DQN", "{enable_rl_module_and_learner: false}", "only on RLlib's new API"),
        (
            "DQN",
            "{replay_buffer_config: {type: MultiAgentPrioritizedReplayBuffer}}",
            "DQN takes EpisodeReplayBuffer",
        ),
        (
            "DQN",
            "{replay_buffer_config: {prioritized_replay_alpha: 0.5}}",
            "counterpart there: alpha",
        ),
        (
            "PPO",
            "{observation_filter: MeanStdFilter, num_learners: 1}",
            "only its new one reads num_learners",
        ),
    ],
)
def test_a_key_of_the_wrong_stack_is_refused(
    algorithm: str, config: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        preflight(spec_of(algorithm, config))
    assert str(error.value).startswith("x.yaml:4")


def test_the_network_of_the_new_stack_is_checked_and_used() -> None:
    spec = spec_of("PPO", "{model_config: {fcnet_hiddens: [8]}}")
    assert build_config(spec, spec.config).model_config["fcnet_hiddens"] == [8]
    with pytest.raises(ConfigError, match="Did you mean 'fcnet_hiddens'"):
        spec_of("PPO", "{model_config: {fcnet_hidens: [8]}}")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("two-step-ppo", marks=pytest.mark.long),
        pytest.param("cartpole-ppo", marks=pytest.mark.long),
        pytest.param("cartpole-dqn", marks=pytest.mark.long),
    ],
)
def test_an_example_trains_to_its_return_and_is_evaluated(
    name: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "rllib_risk"]
    example = f"tuned_examples/rllib/{name}.yaml"
    options = ["--storage-path", str(tmp_path), "--ray-num-cpus", "2"]
    trained = subprocess.run(
        [*command, "train", "file", example, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    (trial,) = (tmp_path / name).glob("*_00000_*")
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])
    target = {"cartpole-ppo": 80, "cartpole-dqn": 50, "two-step-ppo": 13}[name]
    assert last["env_runners"]["episode_return_mean"] >= target
    assert (
        f"return {last['env_runners']['episode_return_mean']:>8.2f}" in trained.stdout
    )
    steps = int(last["num_env_steps_sampled_lifetime"])
    assert f"{steps:,} steps |" in trained.stdout
    line = trained.stdout.split("Evaluate it with: rllib ")[1].split("\n")[0]
    played = subprocess.run(
        [*command, *line.split(), "--episodes", "5", "--seed", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert played.returncode == 0, played.stderr
    result = json.loads(played.stdout)
    assert len(result["returns"]) == result["episodes"] == 5
    assert result["return_mean"] > 0.6 * target
