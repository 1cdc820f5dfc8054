"""``rllib record`` and ``rllib dataset``, from the command line to files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rllib_risk.cli.main import run
from rllib_risk.data.card import read_card
from rllib_risk.data.dataset import Dataset

pytestmark = pytest.mark.usefixtures("as_it_was")

LEARNER = """
walker:
  run: VDN
  env: macn
  stop: {num_env_steps_sampled_lifetime: 600}
  config:
    seed: 5
    env_config: {episode_limit: 20}
    hidden_size: 8
    recurrent: false
    num_envs_per_env_runner: 4
    batch_size_episodes: 4
    learning_starts_episodes: 4
    min_sample_timesteps_per_iteration: 200
    evaluation_duration: 2
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a command that succeeds and returns what it prints."""
    assert run([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a command that exits with 2 and returns its error message."""
    assert run([*map(str, arguments)]) == 2
    return " ".join(capsys.readouterr().err.split())


def scripted(folder: Path, *more: object) -> list[object]:
    return [
        *("record", folder, "--env", "uav", "--env-config", '{"episode_steps": 5}'),
        *("--policy", "greedy", "--episodes", 4, *more),
    ]


def test_from_scripted_policies_to_a_checked_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some" / "set"
    out = said(capsys, *scripted(folder, "--policy", "random", "--epsilon", 0.5))
    assert "uav_0, uav_1" in out and f"dataset: {folder}" in out
    card = Dataset(folder).card
    assert (card.env, card.env_config) == ("uav", {"episode_steps": 5})
    assert card.behaviour == {"policy": ["greedy", "random"], "epsilon": 0.5}
    assert (card.num_episodes, card.num_steps, card.seed) == (4, 20, 0)
    assert "is complete and undamaged: 4 episodes, 20 env steps" in said(
        capsys, "dataset", "check", folder
    )
    assert "4 (20 env steps, 1 file(s))" in said(capsys, "dataset", "info", folder)
    shown = json.loads(said(capsys, "dataset", "info", folder, "--json"))
    assert shown["behaviour"]["epsilon"] == 0.5 and shown["num_steps"] == 20


def test_from_a_learner_to_parts_of_its_log_and_back_to_learning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "walker.yaml"
    file.write_text(LEARNER)
    log, paper, direct = (tmp_path / name for name in ("log", "paper", "direct"))
    said(capsys, "record", log, file)
    card = Dataset(log).card
    assert card.num_steps >= 600 and card.seed == 5 and card.env == "macn"
    assert card.behaviour == {
        "learner": "walker.yaml",
        "algorithm": "VDN",
        "part": "replay",
    }
    said(capsys, "record", paper, log, "--part", "paper", "--share", 0.2)
    said(capsys, "record", direct, file, "--part", "paper", "--share", 0.2)
    # A run repeats with its seed, and so does the part that is cut out of its log.
    cut = Dataset(paper).card
    assert cut.content_hash == Dataset(direct).card.content_hash
    assert cut.behaviour["share"] == 0.2 and 0 < cut.num_steps < 0.4 * card.num_steps
    assert not list(tmp_path.glob("direct-log-*"))
    # A part is not the whole log of a learner.
    message = refused(capsys, "record", tmp_path / "x", paper, "--part", "expert")
    assert "is not the whole log of a learner" in message
    train = tmp_path / "offline.yaml"
    train.write_text(f"""
imitation:
  run: MACQR
  stop: {{num_updates_lifetime: 20}}
  storage_path: {tmp_path / "results"}
  config: {{preset: bc, dataset: {paper}, updates_per_iteration: 10, hidden_size: 8}}
""")
    out = said(capsys, "train", "file", train, "--ray-num-cpus", 1)
    assert "20 updates" in out and "passes" in out


def test_from_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "walker.yaml"
    file.write_text(LEARNER)
    said(
        capsys,
        *("train", "file", file, "--storage-path", tmp_path / "results"),
        *("--stop", '{"training_iteration": 1}', "--ray-num-cpus", 2),
    )
    (checkpoint,) = tmp_path.glob("results/walker/*/checkpoint_*")
    folder = tmp_path / "set"
    said(capsys, "record", folder, checkpoint, "--episodes", 3, "--epsilon", 0.1)
    card = Dataset(folder).card
    assert card.num_episodes == 3 and card.env_config == {"episode_limit": 20}
    assert card.behaviour["algorithm"] == "VDN" and card.behaviour["epsilon"] == 0.1


def test_what_cannot_be_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    uav = ("--env", "uav")
    for arguments, message in (
        ((), "nothing to record. Give a SOURCE"),
        (("--policy", "greedy"), "nothing to record. Give a SOURCE"),
        ((*uav, "--policy", "gredy"), "no policy 'gredy'. Did you mean 'greedy'?"),
        (("--env", "uva", "--policy", "random"), "Did you mean 'uav'?"),
        ((*uav, "--policy", "random", "--part", "paper"), "--part: cannot be combined"),
        ((*uav, "--policy", "random", "--share", 0.5), "--share: needs --part"),
        ((tmp_path / "no.yaml",), "no.yaml"),
        ((tmp_path,), "is not a checkpoint, and it contains no"),
        ((tmp_path, *uav), "--env: cannot be combined with a checkpoint"),
    ):
        assert message in refused(capsys, "record", new, *arguments)
        assert not new.exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    message = refused(capsys, *scripted(tmp_path / "taken"))
    assert "exists and is not empty" in message


def test_damage_and_foreign_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    said(capsys, *scripted(folder))
    (shard,) = folder.glob("*.parquet")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    assert "changed or is damaged" in refused(capsys, "dataset", "check", folder)
    assert "is no dataset" in refused(capsys, "dataset", "info", tmp_path)
    said(capsys, *scripted(tmp_path / "other"))
    card = read_card(tmp_path / "other")
    returns = {**card.returns, "mean": card.returns["mean"] + 1.0}
    replace(card, returns=returns).write(tmp_path / "other")
    message = refused(capsys, "dataset", "check", tmp_path / "other")
    assert "mean of the returns is" in message
    for arguments, message in (
        (
            ("x", "y"),
            "--map is missing: the map says what each column holds. --infer writes",
        ),
        (("x", "y", "--format", "hdf5"), "--format: must be one of map, uav-csv, og"),
        (("x",), "give a folder to write to, OUT, and FILES to import"),
        (("x", "y", "z", "--format", "og-marl"), "--format og-marl: takes one file"),
        ((tmp_path / "y", tmp_path / "x", "--format", "uav-csv"), "cannot be read"),
        (("uav-csv", tmp_path / "x", tmp_path / "y"), "cannot be read"),
        (("og-marl", tmp_path, tmp_path / "y"), "is no vault"),
        (("og-marl", "x", "y", "--team-reward", "max"), "--team-reward: must be one"),
        (
            ("uav-csv", "x", "y", "--env", "macn"),
            "files of format uav-csv belong to env 'uav'",
        ),
    ):
        assert message in refused(capsys, "dataset", "import", *arguments)
