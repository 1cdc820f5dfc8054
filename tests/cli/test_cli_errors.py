"""Wrong files and options end at once with one message and exit code 2."""

from pathlib import Path

import pytest
from refusals import refused
from typer.testing import CliRunner

from rllib_risk.cli.main import app, run

# An existing file that is not a training file.
TEXT = Path(__file__).parents[2] / "setup.cfg"
HEAD = "run:\n  run: {run}\n  env: {env}\n  config:\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # Restores what `prepare` changes after the test.
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (
        "TUNE_DISABLE_SIGINT_HANDLER",
        "TUNE_PRINT_ALL_TRIAL_ERRORS",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING",
        "RAY_CHDIR_TO_TRIAL_DIR",
        "RAY_AIR_NEW_OUTPUT",
        "PYTHONWARNINGS",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    ):
        monkeypatch.setenv(name, "0" if name != "PYTHONWARNINGS" else "default")
    return tmp_path


@pytest.mark.parametrize(
    ("algorithm", "env", "config", "message"),
    [
        ("RMIX", "macn", "gama: 0.9", "f.yaml:5: unknown key 'gama' of RMIX. Did you"),
        ("RMIX", "macn", "gamma: abc", "f.yaml:5: gamma: must be a number, not 'abc'"),
        ("RMIX", "macn", "gamma: 1.5", "f.yaml:5: gamma: must be in [0, 1]"),
        ("RMIX", "macn", "alpha: 0", "f.yaml:5: alpha: must be in (0, 1]"),
        ("RMIX", "macn", "risk_mode: static_", "Did you mean 'static'"),
        ("RMIX", "macn", "train_batch_size: 5", "use batch_size_episodes"),
        ("RMIX", "macn", "env_config: {widht: 7}", "Did you mean 'width'"),
        (
            "RMIX",
            "macn",
            "evaluation_config: {env_config: {widht: 7}}",
            "f.yaml:5: unknown key 'widht' of env_config. Did you mean 'width'",
        ),
        (
            "RMIX",
            "macn",
            "evaluation_config: {gama: 0.9}",
            "f.yaml:5: unknown key 'gama' of RMIX. Did you mean 'gamma'",
        ),
        (
            "RMIX",
            "macn",
            "evaluation_config: {env_config: {width: 2}}",
            "width",
        ),
        ("COMA", "macn", "mixer: vdn", "f.yaml:5: unknown key 'mixer' of COMA"),
        (
            "OWQMIX",
            "macn",
            "loss: quantile\n    num_atoms: 4",
            "joint_critic: 'wqmix' gives scalar values",
        ),
        ("QMIX", "macn", "mixer: qmx", "Did you mean 'qmix'"),
        (
            "QMIX",
            "macn",
            "mixer: 'no_such:Mixer'",
            "mixer: cannot import module 'no_such'",
        ),
        ("RMIX", "macn", "batch_size_episodes: 99", "learning_starts_episodes (32)"),
        ("PPO", "CartPole-v1", "gama: 0.9", "unknown key 'gama' of PPO"),
        ("PPO", "CartPole-v1", "gamma: abc", "gamma: must be a number"),
        ("PPO", "CartPole-v1", "lr: -1", "lr: must be in (0"),
        ("PPO", "CartPole-v1", "model: {fcnet_hidens: [8]}", "'fcnet_hiddens'"),
        ("PPO", "CartPole-v1", "num_sgd_iter: 5", "it is now 'num_epochs'"),
        ("PPO", "CartPol-v1", "gamma: 0.9", "Did you mean 'CartPole-v1'"),
        ("RMXI", "macn", "gamma: 0.9", "f.yaml:2: run: unknown algorithm 'RMXI'"),
        ("RMIX", "mcan", "gamma: 0.9", "f.yaml:3: env: unknown environment 'mcan'"),
        ("RMIX", "CartPole-v1", "gamma: 0.9", "env: unknown environment 'CartPole-v1'"),
        (
            "VDN",
            "two_step",
            "evaluation_interval: null\n  checkpoint_config:"
            " {checkpoint_score_attribute: evaluation/return_mean}",
            "f.yaml:6: checkpoint_score_attribute: this run can never report",
        ),
        # Only building the environment finds these.
        (
            "QMIX",
            "risky_bandit",
            "env_config: {state: none}",
            "f.yaml:1: mixer: 'qmix' needs a global state",
        ),
        (
            "VDN",
            "two_step",
            "mixer: {grid_search: [vdn, qmix]}\n    env_config: {state: none}",
            "f.yaml:5: mixer: 'qmix' needs a global state",
        ),
        (
            "VDN",
            "pettingzoo",
            "env_config: {factory: 'my:env', episode_limit: 7}",
            "'episode_limit' of env_config. Arguments of the env itself go into"
            " env_config.kwargs.",
        ),
        (
            "VDN",
            "pettingzoo",
            "env_config: {factory: 'no_such:env'}",
            "f.yaml:5: factory: cannot import module 'no_such'",
        ),
    ],
)
def test_files(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    algorithm: str,
    env: str,
    config: str,
    message: str,
) -> None:
    text = HEAD.format(run=algorithm, env=env) + f"    {config}\n"
    (folder / "f.yaml").write_text(text)
    assert message in refused(["train", "file", "f.yaml"], capsys)
    assert [path.name for path in folder.iterdir()] == ["f.yaml"]


def test_an_env_without_discrete_actions(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "boxed_env.py").write_text(
        """
import gymnasium, numpy as np, pettingzoo
class Env(pettingzoo.ParallelEnv):
    metadata = {}
    possible_agents = ["a", "b"]
    agents = possible_agents
    def observation_space(self, agent): return gymnasium.spaces.Box(0, 1, (2,))
    def action_space(self, agent): return gymnasium.spaces.Text(3)
    def reset(self, seed=None, options=None):
        return {a: np.zeros(2, np.float32) for a in self.agents}, {}
"""
    )
    (folder / "f.yaml").write_text(
        HEAD.format(run="VDN", env="pettingzoo")
        + "    env_config: {factory: 'boxed_env:Env'}\n"
    )
    message = refused(["train", "file", "f.yaml"], capsys)
    assert "f.yaml:5:" in message
    assert "action" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "--algo or --env is missing"),
        (["train", "--algo", "RMIX"], "--algo or --env is missing"),
        (["train", "--algo", "RMIX", "--env", "macnn"], "Did you mean 'macn'"),
        (["train", "--run", "RMIXX", "--env", "macn"], "Did you mean 'RMIX'"),
        (
            ["train", "--run", "VDN", "--env", "macn", "--config", "{gamma: 1}"],
            "--config: not valid JSON",
        ),
        (
            ["train", "--run", "VDN", "--env", "macn", "--config", '{"lrr": 1}'],
            "unknown key 'lrr'",
        ),
        (
            ["train", "--run", "VDN", "--env", "macn", "--stop", '{"retrn": 1}'],
            "unknown metric",
        ),
        (
            ["train", "--run", "VDN", "--env", "macn", "--name", "../x"],
            "experiment name",
        ),
        (
            ["train", "--run", "VDN", "--env", "macn", "--restore", "nowhere"],
            "no checkpoint folder",
        ),
        (
            ["train", "--run=VDN", "--env=macn", "--resume", "--storage-path=none"],
            "no stopped experiment",
        ),
        (["train", "file", "none.yaml"], "no such file"),
        (["train", "file", "tuned_examples/rmix/mcan-4x7.yaml"], "no such file"),
        (["train", "file", str(TEXT)], "must be a .yaml or a .py file"),
        (["evaluate", "none"], "this folder does not exist"),
        (["evaluate", "."], "is not a checkpoint"),
        (["evaluate", ".", "--render-out", "x.mp4"], "must end in .gif or .png"),
        (["example", "get", "rmix/none"], "not among the tuned examples"),
        (["example", "list", "--filter", "nothing-like-it"], "no example whose name"),
        (["plot", "none", "--out", "x.png"], "this folder does not exist"),
        (["check-env", "macn", "--env-config", "3"], "must be a JSON object"),
    ],
)
def test_options(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert message in refused(arguments, capsys)


@pytest.mark.parametrize(
    "arguments",
    [["--none"], ["trian"], ["train", "file"], ["train", "--num-samples=0"]],
)
def test_wrong_options(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_help_and_version() -> None:
    for arguments in (
        ["--help"],
        ["train", "--help"],
        ["train", "file", "--help"],
        ["evaluate", "--help"],
        ["example", "--help"],
        ["example", "list", "--help"],
        ["check-env", "--help"],
        ["plot", "--help"],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, arguments
        assert "Usage" in result.output
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert "rllib_risk" in result.output and "Ray" in result.output


def test_check_env(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(["check-env", "two_step"]) == 0
    assert "usable" in capsys.readouterr().out
    assert run(["check-env", "two_stepp"]) == 1
    assert "two_step" in capsys.readouterr().out
