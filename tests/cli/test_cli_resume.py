"""Folders of runs, edited files, damaged states and stop criteria, without Ray."""

import json
from pathlib import Path

import pytest

from rllib_risk.cli.main import run
from rllib_risk.cli.resume import new_place, stopped_place
from rllib_risk.cli.row_files import cut_rows, row_at
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.schema import ConfigError

TEXT = """\
mine:
  run: VDN
  env: two_step
  stop: {training_iteration: 2}
  scheduler: asha
  scheduler_config: {max_t: 9}
  config:
    hidden_size: 8
    seed: {grid_search: [1, 2]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_it_was: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spec(folder: Path, name: str = "mine") -> ExperimentSpec:
    return ExperimentSpec(name, "VDN", env="two_step", storage_path=str(folder))


def write_state(folder: Path, name: str = "experiment_state-1.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text('{"trial_data": [["{}", "{}"]]}')
    return folder / name


def test_a_run_never_mixes_with_an_earlier_one(folder: Path) -> None:
    names = [new_place(spec(folder)).name for _ in range(3)]
    assert names == ["mine", "mine-2", "mine-3"]
    assert "mine holds an earlier run" in new_place(spec(folder)).remark
    # Another experiment whose name is a numbered name of this one.
    assert new_place(spec(folder, "mine-2")).name == "mine-2-2"
    assert stopped_place(spec(folder)).name == "mine-4"
    # A folder of an older version, which wrote no record.
    write_state(folder / "old")
    old = stopped_place(spec(folder, "old"))
    assert (old.name, old.goes_on) == ("old", True)
    assert new_place(spec(folder, "old")).name == "old-2"
    # A folder that holds no run is used.
    (folder / "notes").mkdir()
    assert new_place(spec(folder, "notes")).name == "notes"
    assert stopped_place(spec(folder, "none")) is None


def test_addresses_are_numbered_as_folders_are(folder: Path) -> None:
    remote = spec(folder)
    remote.storage_path = f"file://{folder}/results"
    assert [new_place(remote).name for _ in range(2)] == ["mine", "mine-2"]
    assert stopped_place(remote).began_with["run"] == "VDN"
    remote.storage_path = "nothing://results"
    with pytest.raises(ConfigError, match="storage_path: nothing://results"):
        new_place(remote)


def test_a_damaged_state_gives_way_to_the_one_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_state(folder / "mine")
    newest = write_state(folder / "mine", "experiment_state-2.json")
    newest.write_text(newest.read_text()[:-5])
    assert stopped_place(spec(folder)).goes_on
    assert "experiment_state-2.json is damaged" in capsys.readouterr().err
    assert not newest.exists()  # Tune would read it and start over.
    (folder / "mine/experiment_state-1.json").write_text("")
    with pytest.raises(ConfigError, match=r"damaged.*--restore CHECKPOINT"):
        stopped_place(spec(folder))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden_size: 8", "hidden_size: 16", "f.yaml:8: config.hidden_size was 8 "),
        ("[1, 2]", "[1, 2, 3]", "f.yaml:9: config.seed.grid_search was [1, 2] when"),
        ("max_t: 9", "max_t: 8", "f.yaml:5: scheduler.asha.max_t was 9 when"),
        ("  env", "  num_samples: 2\n  env", "f.yaml:3: num_samples was 1 when"),
        ("hidden_size: 8", "lr: 0.1", "(Also changed: config.lr.)"),
    ],
)
def test_what_trials_cannot_take_over_is_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
) -> None:
    begin(folder)
    checkpoint = folder / "r/mine/VDN_1/checkpoint_000003"
    checkpoint.mkdir(parents=True)
    (folder / "f.yaml").write_text(TEXT.replace(old, new))
    assert run(["train", "file", "f.yaml", "--storage-path", "r", "--resume"]) == 2
    printed = capsys.readouterr().err
    if "hidden" in old and "lr" in new:
        assert "config.hidden_size was 8 when the experiment in" in printed
    assert message in printed
    assert f"leave out --resume, and add --restore {checkpoint}." in printed


def begin(folder: Path) -> None:
    """Creates the folder of a run that was started with the unchanged file."""
    from rllib_risk.cli.option_groups import CommonChanges
    from rllib_risk.cli.train import load_changed

    (folder / "f.yaml").write_text(TEXT)
    (begun,) = load_changed("f.yaml", CommonChanges(storage_path="r"))
    assert new_place(begun).name == "mine"
    write_state(folder / "r/mine")


def test_a_raised_stop_is_taken_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rllib_risk.cli.option_groups import CommonChanges
    from rllib_risk.cli.resume import check_changes
    from rllib_risk.cli.train import load_changed

    begin(folder)
    changes = CommonChanges(storage_path="r", stop='{"training_iteration": 3}')
    (now,) = load_changed("f.yaml", changes)
    check_changes(now, stopped_place(now))
    printed = " ".join(capsys.readouterr().err.split())
    assert "--resume: stop.training_iteration was 2 when the experiment in" in printed
    # The message appears once: the run continues with the new criterion.
    check_changes(now, stopped_place(now))
    assert capsys.readouterr().err == ""


def test_rows_after_a_checkpoint_are_dropped(folder: Path) -> None:
    rows = [{"training_iteration": n, "x": n / 2} for n in (1, 2, 3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "result.json").write_text(text + '{"training_it')
    table = "x,training_iteration\r\n0.5,1\r\n1.0,2\r\n1.5,3\r\n2."
    (folder / "progress.csv").write_bytes(table.encode())
    assert row_at(folder, 2) == rows[1]
    assert row_at(folder, 4) is None
    cut_rows(folder, 2)
    assert (folder / "result.json").read_text() == text[
        : text.index('{"training_iteration": 3')
    ]
    kept = b"x,training_iteration\r\n0.5,1\r\n1.0,2\r\n"
    assert (folder / "progress.csv").read_bytes() == kept
    cut_rows(folder, 0)
    assert (folder / "result.json").read_text() == ""
    assert (folder / "progress.csv").read_text() == ""


ENV = """
from rllib_risk.env_wrappers.games.two_step import TwoStepGame
class Plain(TwoStepGame):
    def step(self, actions):
        *rest, infos = super().step(actions)
        return *rest, {agent: {"wins": 1.0} for agent in infos}
class Slow(Plain):
    def reset(self, seed=None, options=None):
        import time
        time.sleep(60)
"""
PLAIN = "pettingzoo\n  config: {env_config: {factory: 'mine:Plain'}}"


@pytest.mark.parametrize(
    ("env", "criterion", "reason"),
    [
        (PLAIN, "evaluation/success_rate: 0.9", "does not report 'is_success' in"),
        (PLAIN, "evaluation/losses: 3", "(it reports wins)"),
        ("two_step", "evaluation/success_rate: 90", "between 0 and 1"),
        ("two_step", "dataset_passes: 3", "learns from no dataset"),
    ],
)
def test_a_stop_criterion_that_cannot_be_met_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    env: str,
    criterion: str,
    reason: str,
) -> None:
    (folder / "mine.py").write_text(ENV)
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    text = f"x:\n  run: VDN\n  stop:\n    {criterion}\n  env: {env}\n"
    (folder / "f.yaml").write_text(text)
    assert run(["train", "file", "f.yaml", "--storage-path", "r"]) == 2
    name = criterion.partition(":")[0]
    printed = capsys.readouterr().err
    assert f"f.yaml:4: stop: {name} can never be met: " in printed
    assert reason in printed


def test_learning_from_a_dataset_samples_no_steps(
    recorded: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = recorded / "data/uav"
    for criterion, reason in (
        ("num_env_steps_sampled_lifetime: 100", "a dataset samples nothing"),
        ("evaluation/return_mean: 1", "has no environment to evaluate in"),
    ):
        text = f"x:\n  run: MACQR\n  stop: {{{criterion}}}\n"
        text += f"  config: {{dataset: {data}}}\n"
        (folder / "f.yaml").write_text(text)
        assert run(["train", "file", "f.yaml", "--storage-path", "r"]) == 2
        assert reason in capsys.readouterr().err


def test_metrics_of_a_slow_env_are_not_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rllib_risk.algorithms import config_class
    from rllib_risk.cli import preflight

    (folder / "slow.py").write_text(ENV)
    monkeypatch.syspath_prepend(str(folder))
    config = config_class("VDN")()
    slow = {"factory": "slow:Slow"}
    config.environment("pettingzoo", env_config=slow)
    with monkeypatch.context() as short:
        short.setattr(preflight, "_EPISODE_S", 0.2)
        assert preflight.unreachable("evaluation/success_rate", config) is None
    # Long enough for an episode on a busy machine.
    monkeypatch.setattr(preflight, "_EPISODE_S", 200.0)
    # A user's callbacks may add any metric.
    plain = config.copy(copy_frozen=False)
    plain.environment(env_config={"factory": "slow:Plain"})
    assert preflight.unreachable("evaluation/mine", plain) is not None
    plain.callbacks(on_episode_end=lambda **_: None)
    assert preflight.unreachable("evaluation/mine", plain) is None
    plain.evaluation(evaluation_interval=None)
    assert preflight.unreachable("evaluation/mine", plain) is not None
