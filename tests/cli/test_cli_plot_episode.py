"""``rllib plot episode`` draws an episode of the evaluation."""

import csv
from pathlib import Path

import numpy as np
import pytest
import ray

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.cli.main import run
from rllib_risk.evaluation.episode_trace import EpisodeTrace
from rllib_risk.evaluation.trace_runs import trace_episode

pytestmark = pytest.mark.usefixtures("as_it_was")


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EpisodeTrace]:
    """A checkpoint of RMIX and the second episode of its evaluation with seed 11."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    rllib_risk.register()
    try:
        config = config_class("RMIX")().environment(
            "uav", env_config={"episode_steps": 6}
        )
        algorithm = config.update_from_dict(
            {"seed": 4, "num_atoms": 20, "hidden_size": 8}
        ).build_algo()
        folder = tmp_path_factory.mktemp("rmix")
        algorithm.save_checkpoint(str(folder))
        trace = trace_episode(algorithm.team_policy, algorithm.evaluation_config, 11, 1)
        algorithm.stop()
    finally:
        ray.shutdown()
    return folder, trace


def said(capsys, *arguments: object) -> str:
    assert run([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: object) -> str:
    assert run([*map(str, arguments)]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_the_figure_and_its_numbers(trained, tmp_path: Path, capsys):
    folder, trace = trained
    out = tmp_path / "mine.svg"
    printed = said(
        *(capsys, "plot", "episode", folder, "--out", out, "--seed", 11),
        *("--episode", 1, "--agent", "uav_1", "--steps", "1,0"),
    )
    assert f"return {trace.rewards.sum():.4f}" in printed
    drawn = out.read_text()
    for text in ("step 0, level", "step 1, level", "action of uav_1", "RMIX on uav"):
        assert text in drawn
    with (tmp_path / "mine.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(trace.rewards)
    for row, step, agent in zip(
        rows, np.repeat(np.arange(len(rows) // 2), 2), [0, 1] * len(rows), strict=False
    ):
        assert row["agent"] == f"uav_{agent}" and int(row["step"]) == step
        assert int(row["action"]) == trace.actions[step, agent]
        assert float(row["risk_level"]) == trace.risk_levels[step, agent]
        value = trace.values[step, agent, trace.actions[step, agent]]
        assert float(row["value"]) == pytest.approx(float(value), rel=1e-4)


def test_what_cannot_be_drawn(trained, tmp_path: Path, capsys):
    folder, _ = trained
    plot = (capsys, "plot", "episode")
    assert "this folder does not exist" in refused(*plot, tmp_path / "nothing")
    out = ("--out", tmp_path / "a.png")
    assert "uav_0, uav_1" in refused(*plot, folder, *out, "--agent", "uav_2")
    assert "beyond the end" in refused(*plot, folder, *out, "--steps", "0,400")
    assert "such as 0,5,9" in refused(*plot, folder, *out, "--steps", "first")
    assert "at most 6 steps, not 7" in refused(
        *plot, folder, *out, "--steps", "0,1,2,3,4,5,6"
    )
    assert "must end in" in refused(*plot, folder, "--out", tmp_path / "a.gif")
    assert "no folder" in refused(*plot, folder, "--out", tmp_path / "b" / "a.png")
    assert not list(tmp_path.iterdir())


def test_folders_are_still_plotted_without_a_subcommand(tmp_path: Path, capsys):
    text = refused(capsys, "plot", tmp_path / "none", "--out", tmp_path / "a.png")
    assert "this folder does not exist" in text
    text = refused(capsys, "plot", "curves", tmp_path / "none", "--out", "a.png")
    assert "this folder does not exist" in text
