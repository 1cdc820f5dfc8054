"""``rllib evaluate --shift``: from checkpoints to files, and what it refuses."""

import csv
import json
from pathlib import Path

import pytest

from rllib_risk.algorithms import config_class
from rllib_risk.cli.main import run
from rllib_risk.cli.option_groups import RayOptions
from rllib_risk.cli.session import ray_session, register_all
from rllib_risk.core.checkpoint import write_checkpoint

pytestmark = pytest.mark.usefixtures("as_it_was")

GRID = """
episodes: 5
nominal: {wind_probability: 0.0, cliff_reward: -100.0}
grid:
  wind_probability: [0.0, 0.5]
  cliff_reward: [-100.0, -50.0]
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A complete checkpoint that is never loaded."""
    folder = tmp_path / "fake"
    folder.mkdir()
    record = {"algorithm": "VDN"}
    write_checkpoint(
        folder, config=record, tensors={}, optimizers=[], replay={}, state={}
    )
    return folder


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    file = tmp_path / "windy.yaml"
    file.write_text(GRID)
    return file


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a command that exits with 2 and returns its error message."""
    assert run(["evaluate", *map(str, arguments)]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_shift_options_are_refused_without_shift(
    fake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "several checkpoints are allowed only" in refused(capsys, fake, fake)
    for option in (["--label", "x"], ["--no-references"]):
        assert "--label is allowed only with --shift or --dataset" in refused(
            capsys, fake, *option
        )


def test_what_does_not_fit_the_shift(
    fake: Path, grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shift = ["--shift", grid]
    for option in (["--render"], ["--algo", "PPO"]):
        assert "combined with --shift" in refused(capsys, fake, *shift, *option)
    message = refused(capsys, fake, fake, *shift, "--label", "x")
    assert "--label: 1 labels for 2 checkpoints" in message
    missing = fake.parent / "nowhere"
    assert "this folder does not exist" in refused(capsys, missing, *shift)
    assert "is a file" in refused(capsys, fake, *shift, "--out", grid)
    assert "there is no folder" in refused(
        capsys, fake, *shift, "--out", missing / "deeper"
    )
    assert not (fake.parent / "shift-windy").exists(), "made for results only"


def test_other_checkpoints_are_refused(
    fake: Path, grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fake / "state.json").write_text("{}")
    assert "checksum" in refused(capsys, fake, "--shift", grid)
    foreign = fake.parent / "foreign"
    foreign.mkdir()
    (foreign / "rllib_checkpoint.json").write_text("{}")
    message = refused(capsys, foreign, "--shift", grid)
    assert "own algorithms, but --shift needs one of this package" in message


def test_a_wrong_grid_is_told_before_anything_starts(
    fake: Path, grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.write_text(GRID.replace("episodes:", "episode:"))
    message = refused(capsys, fake, "--shift", grid)
    assert "windy.yaml:2: unknown key 'episode'" in message
    message = refused(capsys, fake, "--shift", "tuned_examples/shift/macn-clif.yaml")
    assert "Did you mean 'shift/macn-cliff'" in message
    message = refused(capsys, fake, "--shift", "tuned_examples/vdn/macn-4x7.yaml")
    assert "'grid' is missing" in message


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of untrained policies by name: two of VDN and one of COMA."""
    folders = {}
    with ray_session(RayOptions(num_cpus=1)):
        register_all()
        for name, algorithm, seed in (
            ("one", "VDN", 1),
            ("two", "VDN", 2),
            ("coma", "COMA", 1),
        ):
            config = config_class(algorithm)().debugging(seed=seed)
            config.environment("macn", env_config={"episode_limit": 12})
            config.training(hidden_size=8)
            built = config.build_algo()
            folder = tmp_path_factory.mktemp(name)
            built.save_checkpoint(str(folder))
            built.stop()
            folders[name] = folder
    return folders


def test_several_checkpoints_on_a_grid(
    checkpoints: dict[str, Path],
    grid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [str(folder) for folder in checkpoints.values()]
    assert run(["evaluate", *folders, "--shift", str(grid)]) == 0
    printed = capsys.readouterr()
    assert "Over all cells" in printed.out
    folder = tmp_path / "shift-windy"
    for suffix in ("md", "csv", "json", "png"):
        assert f"Wrote {folder}/shift.{suffix}" in printed.err.replace("\n", "")
    saved = json.loads((folder / "shift.json").read_text())
    labels = [policy["label"] for policy in saved["policies"]]
    assert labels == ["VDN 1", "VDN 2", "COMA", "random"]
    assert saved["episodes"] == 5 and saved["seed"] == 0
    assert [len(policy["values"][0]) for policy in saved["policies"]] == [4] * 4

    # The nominal cell equals an ordinary evaluation with this seed.
    options = ["--episodes", "5", "--seed", "0", "--json"]
    assert run(["evaluate", folders[0], *options]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert saved["policies"][0]["values"][0][0] == pytest.approx(alone["returns"])
    assert saved["policies"][0]["cells"][0]["mean"] == pytest.approx(
        alone["return_mean"]
    )


def test_a_team_without_an_env_is_refused(static_runs, grid, capsys):
    assert run(["evaluate", str(static_runs / "alone"), "--shift", str(grid)]) == 2
    assert "knows no environment to play in" in capsys.readouterr().err


def test_options_of_the_shift(
    checkpoints: dict[str, Path],
    grid: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid.write_text(GRID + "metric: is_success\n")
    folders = [str(checkpoints[name]) for name in ("one", "coma", "two")]
    labels = ["--label", "vdn", "--label", "coma", "--label", "vdn"]
    options = ["--episodes", "3", "--seed", "9", "--no-references", "--json"]
    out = tmp_path / "results"
    command = ["evaluate", *folders, "--shift", str(grid), "--out", str(out)]
    assert run([*command, *labels, *options]) == 0
    printed = json.loads(capsys.readouterr().out)  # one JSON object and nothing else
    assert printed == json.loads((out / "shift.json").read_text())
    assert (printed["episodes"], printed["seed"]) == (3, 9)
    assert printed["metric"] == "is_success"
    assert [policy["label"] for policy in printed["policies"]] == ["vdn", "coma"]
    assert printed["policies"][0]["checkpoints"] == [folders[0], folders[2]]
    with (out / "shift.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["runs"] for row in rows] == ["2"] * 4 + ["1"] * 4


def test_cells_and_metrics_that_do_not_exist(
    checkpoints: dict[str, Path], grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.write_text(GRID.replace("wind_probability:", "wind_probabilty:"))
    message = refused(capsys, checkpoints["one"], "--shift", grid)
    assert "unknown key env_config.wind_probabilty: did you mean" in message
    assert "windy.yaml:5: cell wind_probabilty=0.0, cliff_reward=-100.0" in message
    grid.write_text(GRID + "metric: is_sucess\n")
    message = refused(capsys, checkpoints["one"], "--shift", grid)
    assert "windy.yaml:7: metric: the environment does not report 'is_su" in message
    assert "Did you mean 'is_success'" in message
    assert "It reports: return, battle_won, episode_limit, is_success" in message
