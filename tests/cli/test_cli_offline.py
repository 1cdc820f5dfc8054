"""Runs without an environment report numbers of their dataset."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rllib_risk.cli.best import NEWEST
from rllib_risk.cli.main import run
from rllib_risk.cli.progress import Timer, format_line
from rllib_risk.evaluation.natural import natural_metric

pytestmark = pytest.mark.usefixtures("as_it_was")

FILE = """
from-a-log:
  run: OfflineBaselines
  stop: {{num_updates_lifetime: 20}}
  storage_path: {results}
  config:
    preset: {preset}
    seed: 1
    dataset: {data}
    dataset_holdout: {holdout}
    sequence_length: 2
    hidden_size: 8
    updates_per_iteration: 10
{more}
"""


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 20 episodes with five steps and two UAVs."""
    folder = tmp_path_factory.mktemp("data") / "uav"
    options = ["--env-config", '{"episode_steps": 5}', "--policy", "greedy"]
    options += ["--epsilon", "0.5", "--episodes", "20"]
    assert run(["record", str(folder), "--env", "uav", *options]) == 0
    return folder


def write(
    tmp_path: Path, data: Path, preset: str, holdout: float = 0.2, more: str = ""
) -> Path:
    file = tmp_path / "file.yaml"
    results = tmp_path / "results"
    file.write_text(
        FILE.format(
            results=results, data=data, preset=preset, holdout=holdout, more=more
        )
    )
    return file


def test_a_run_from_its_header_to_its_figure(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = "  checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 1,"
    score += " checkpoint_score_attribute: holdout/td_error_abs,"
    score += " checkpoint_score_order: min}"
    file = write(tmp_path, data, "iql_cql", more=score)
    capsys.readouterr()
    assert run(["train", "file", str(file), "--ray-num-cpus", "1"]) == 0
    out = capsys.readouterr().out
    assert f"OfflineBaselines from the dataset {data}; results in" in out
    lines = [line for line in out.splitlines() if " updates |" in line]
    assert len(lines) == 2
    for said in ("held-out TD error ", "gap ", "agreement ", "estimate ", "CVaR 10%"):
        assert all(said in line for line in lines), said
    assert "None" not in out and "rllib evaluate" not in out
    assert "return_mean" not in out and "return  " not in out
    assert "Best checkpoint (holdout/td_error_abs " in out
    assert "The return of this policy is unknown, because the run has no" in out
    experiment = tmp_path / "results" / "from-a-log"
    (trial,) = (p.parent for p in experiment.glob("*/result.json"))
    assert trial.name.startswith("OfflineBaselines_") and "None" not in trial.name
    # Tune keeps the best checkpoint and the last one.
    assert 1 <= len(list(trial.glob("checkpoint_*"))) <= 2
    figure = tmp_path / "curve.png"
    assert run(["plot", str(experiment), "--out", str(figure)]) == 0
    table = figure.with_suffix(".md").read_text("utf-8")
    assert "the last holdout/td_error_abs of each run" in table
    assert "best" not in table.lower() and figure.stat().st_size > 1000
    assert natural_metric([experiment]) == "holdout/td_error_abs"


def test_cloning_has_a_loss_and_no_estimate(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, data, "bc", holdout=0.0)
    capsys.readouterr()
    assert run(["train", "file", str(file), "--ray-num-cpus", "1"]) == 0
    out = capsys.readouterr().out
    (line, _) = (line for line in out.splitlines() if " updates |" in line)
    assert " | loss " in line and "estimate" not in line and "held-out" not in line
    assert f"Last checkpoint: {tmp_path}" in out and NEWEST not in out


def test_the_best_checkpoint_by_an_off_policy_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "log"
    options = ["--env", "two_step", "--policy", "random", "--episodes", "100"]
    assert run(["record", str(data), *options]) == 0
    file = write(tmp_path, data, "iql_cql", 0.5, "    off_policy_interval: 2")
    capsys.readouterr()
    assert run(["train", "file", str(file), "--ray-num-cpus", "1"]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if " updates |" in line]
    estimate = re.compile(r"off-policy -?\d")
    assert [bool(estimate.search(line)) for line in lines] == [False, True]
    assert re.search(r"Best checkpoint \(off_policy/return_mean -?\d", out)
    assert "so it is too good on average." in out and "None" not in out


def test_a_run_whose_estimates_are_all_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An estimate is left out if its interval is too wide for the log's returns."""
    file = write(tmp_path, data, "iql_cql", 0.5, "    off_policy_interval: 2")
    capsys.readouterr()
    assert run(["train", "file", str(file), "--ray-num-cpus", "1"]) == 0
    out = capsys.readouterr().out
    assert "Best checkpoint" not in out and "too good on average" not in out
    assert "Last checkpoint: " in out and "The return is unknown." in out


COMPARISON = """
stop: {{num_updates_lifetime: 10}}
seeds: [1]
config:
  dataset: {data}
  dataset_holdout: 0.2
  hidden_size: 8
  updates_per_iteration: 10
algorithms:
  IQL-CQL: {{run: OfflineBaselines, config: {{preset: iql_cql, sequence_length: 2}}}}
  BC: {{run: OfflineBaselines, config: {{preset: bc, sequence_length: 2}}}}
"""


def test_a_comparison_without_an_environment(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "of-a-log.yaml"
    file.write_text(COMPARISON.format(data=data))
    command = ["compare", str(file), "--out", str(tmp_path / "results")]
    assert run([*command, "--ray-num-cpus", "1"]) == 0
    out = capsys.readouterr().out
    assert "of-a-log: IQL-CQL, BC without an environment, 1 seed(s) each" in out
    assert "It does not show which team is better." in out and "None" not in out
    assert (
        len(re.findall(r"rllib evaluate \S+ --dataset DATA  # (IQL-CQL|BC)", out)) == 2
    )
    table = (tmp_path / "results" / "table.md").read_text("utf-8")
    assert "the last holdout/data_agreement of each run" in table
    assert re.search(r"^\| BC \| 1 \| [01]", table, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("stop:", "threshold: -5\nstop:"), "nor estimate returns."),
        (("preset: bc,", "preset: bc, off_policy_interval: 1,"), "or none, and 'BC'"),
        (("dataset: {data}", "gamma: 0.9"), "or a dataset under 'config'"),
    ],
)
def test_comparisons_without_an_environment_that_are_refused(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    message: str,
) -> None:
    file = tmp_path / "of-a-log.yaml"
    text = COMPARISON.replace(*change).replace("holdout: 0.2", "holdout: 0.5")
    file.write_text(text.format(data=data))
    assert run(["compare", str(file), "--out", str(tmp_path / "results")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_line_of_a_result_by_hand() -> None:
    result = {
        "num_updates_lifetime": 100,
        "dataset_passes": 2.0,
        "data/loss": 7.0,
        "holdout/loss": 1.0,
        "holdout/td_error_abs": 0.25,
        "holdout/ood_gap": 0.5,
        "holdout/data_agreement": 0.75,
        "holdout/start_value_mean": -3.0,
        "holdout/start_value_cvar_10": -4.0,
        "off_policy/return_mean": -2.0,
        "off_policy/return_mean_low": -5.0,
        "off_policy/return_mean_high": 1.0,
    }
    line = format_line(result, Timer(), {})
    assert line.endswith(
        "| held-out TD error 0.250 | gap 0.50 | agreement  75%"
        " | estimate -3.00 (CVaR 10% -4.00) | off-policy -2.00 [-5.00, 1.00]"
        " | passes 2.0 | left -"
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  stop: {holdout/td_error_abs: 1}", "no episode is held out."),
        ("  stop: {off_policy/return_mean: 1}", "Set off_policy_interval."),
        ("    dataset_holdout: 1.0", "dataset_holdout: must be"),
        ("    dataset_top_share: 0", "dataset_top_share: must be"),
    ],
)
def test_what_cannot_be_asked_of_a_dataset(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: str,
    message: str,
) -> None:
    file = write(tmp_path, data, "bc", holdout=0.0)
    text = file.read_text("utf-8")
    key = more.strip().partition(":")[0]
    kept = [line for line in text.splitlines() if line.strip().partition(":")[0] != key]
    file.write_text("\n".join([*kept, more]) + "\n")
    assert run(["train", "file", str(file)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
