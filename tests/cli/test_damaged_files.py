"""Bit flips in every kind of file: one message each, and no silent wrong value.

A file with a checksum must be refused, unless the flip changes nothing that is read,
such as the kind of a space. Without a checksum a flipped digit cannot be noticed, but
reading the file must never end in a raw Python error.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rllib_risk.cli import best, resume, row_files
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.config.comparison import parse_comparison
from rllib_risk.config.loading import parse_document, read_training_file
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.shift_grid import parse_shift_grid
from rllib_risk.config.yaml_reader import read_yaml
from rllib_risk.core import checkpoint as ckpt
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.rows import DatasetError
from rllib_risk.evaluation.results import ResultsError, read_groups

FLIPS = 200
OLD = Path(__file__).parents[1] / "data" / "old_checkpoints" / "0.1.0"
EXAMPLES = Path(ckpt.__file__).parents[1] / "tuned_examples"
REFUSED = (ckpt.CheckpointError, ConfigError, DatasetError, ResultsError)


def flipped(content: bytes) -> list[bytes]:
    """Copies of the content with one flipped bit each, at seeded places."""
    rng = np.random.default_rng(0)
    copies = []
    for bit in rng.integers(8 * len(content), size=FLIPS).tolist():
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        copies.append(bytes(copy))
    return copies


def outcomes(file: Path, read: Callable[[], Any]) -> list[Any]:
    """The results of reading after each flip; None where reading is refused."""
    content = file.read_bytes()
    found: list[Any] = []
    for copy in flipped(content):
        file.write_bytes(copy)
        try:
            found.append(read())
        except REFUSED as error:
            assert str(file.parent) in str(error) or file.name in str(error)
            found.append(None)
    file.write_bytes(content)
    return found


def read_checkpoint(folder: Path) -> Any:
    ckpt.verify_checkpoint(folder)
    return ckpt.read_config(folder), ckpt.read_state(folder)


@pytest.mark.parametrize(
    "name",
    [
        *("policy.safetensors", "optimizers.safetensors", "replay.safetensors"),
        *("config.json", "state.json", "manifest.json"),
    ],
)
def test_a_checkpoint(tmp_path: Path, name: str) -> None:
    """R25: a flip in any file of a checkpoint."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(OLD / "rmix", folder)
    whole = read_checkpoint(folder)
    found = outcomes(folder / name, lambda: read_checkpoint(folder))
    assert all(one is None or one == whole for one in found)
    assert found.count(None) > 0.95 * FLIPS


def test_tensors_without_a_checksum(tmp_path: Path) -> None:
    """R25: a flip in a safetensors header that no checksum reveals."""
    shutil.copytree(OLD / "rmix", tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / ckpt.POLICY
    named = {k: torch.zeros_like(v) for k, v in load_file(file).items()}
    content = file.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    for copy in flipped(content[:size]):
        file.write_bytes(copy + content[size:])
        try:
            ckpt.load_parameters(file.parent, named)
        except ckpt.CheckpointError as error:
            assert str(file.parent) in str(error)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two shards in the newest format."""
    from rllib_risk.data.dataset import write_dataset

    folder = tmp_path_factory.mktemp("log") / "set"
    old = Dataset(OLD / "uav-log")
    write_dataset(
        folder,
        old.episodes(),
        env="uav",
        env_config=old.card.env_config,
        agents=old.card.agents,
        behaviour=old.card.behaviour,
        seed=7,
        rows_per_shard=12,
    )
    return folder


@pytest.mark.parametrize("name", ["dataset.json", "part-00001.parquet"])
def test_a_dataset(log: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    shutil.copytree(log, folder)
    card = Dataset(folder).card

    def read() -> Any:
        dataset = Dataset(folder)
        list(dataset.episodes())
        return dataset.card

    found = outcomes(folder / name, read)
    assert all(one is None or one == card for one in found)
    assert found.count(None) > 0.95 * FLIPS


def write_results(root: Path) -> Path:
    """A trial and its experiment, as Tune and the command write them."""
    trial = root / "VDN_two_step_0"
    trial.mkdir(parents=True)
    results = [
        {
            "training_iteration": n,
            "num_env_steps_sampled_lifetime": 100 * n,
            "time_total_s": 1.5 * n,
            "evaluation": {
                "return_mean": 2.5 * n,
                "return_cvar_10": -1e-3,
                "age_iterations": 0,
            },
            "config": {"seed": 3, "env_config": {"width": 7}},
        }
        for n in range(1, 4)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in results)
    (trial / "result.json").write_text(lines)
    params = {"seed": 3, "env": "two_step", "env_config": {"width": 7}, "lr": 1e-3}
    (trial / "params.json").write_text(json.dumps(params))
    table = "training_iteration,time_total_s\r\n1,1.5\r\n2,3.0\r\n3,4.5\r\n"
    (trial / "progress.csv").write_text(table)
    record = {
        "name": "run",
        "run": "VDN",
        "stop": {"training_iteration": 3},
        "checkpoint_config": {"checkpoint_score_attribute": "evaluation/return_mean"},
    }
    (root / "experiment.json").write_text(json.dumps(record))
    return trial


@pytest.mark.parametrize(
    "name", ["result.json", "params.json", "progress.csv", "experiment.json"]
)
def test_results(tmp_path: Path, name: str) -> None:
    root = tmp_path / "run"
    trial = write_results(root)
    file = (root if name == "experiment.json" else trial) / name
    originals = {path: path.read_bytes() for path in trial.iterdir()}

    def read() -> None:
        list(best.read_results(trial))
        best.read_score(root, "evaluation/return_mean")
        resume._numbers(str(tmp_path), "run")
        row_files.row_at(trial, 2)
        try:
            read_groups([root])
        finally:
            if name in (row_files.RESULTS, row_files.TABLE):  # what --resume cuts
                row_files.cut_rows(trial, 2)
                for path, content in originals.items():
                    path.write_bytes(content)

    outcomes(file, read)


def test_the_plan_of_a_comparison(tmp_path: Path) -> None:
    root = tmp_path / "compare"
    trial = write_results(root)
    plan = {
        "labels": {trial.name: "VDN"},
        "failed": [],
        "details": {"VDN": {"checkpoint": {"checkpoint_score_order": "min"}}},
    }
    (root / "experiment.json").unlink()
    (root / "comparison.json").write_text(json.dumps(plan))

    def read() -> None:
        best.read_score(root, "evaluation/return_mean")
        read_groups([root])

    outcomes(root / "comparison.json", read)


def test_training_files(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    shutil.copy(EXAMPLES / "rmix" / "macn-4x7.yaml", file)
    catalog = RLlibCatalog()

    def read() -> None:
        parse_document(read_training_file(file), catalog)

    found = outcomes(file, read)
    assert None in found


@pytest.mark.parametrize("kind", ["compare", "shift"])
def test_comparisons_and_grids(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "f.yaml"
    shutil.copy(sorted((EXAMPLES / kind).glob("*.yaml"))[0], file)
    catalog = RLlibCatalog()

    def read() -> None:
        if kind == "compare":
            parse_comparison(read_yaml(file), catalog)
        else:
            parse_shift_grid(read_yaml(file), "f")

    assert None in outcomes(file, read)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("result.json", "3\n3\n"),
        ("result.json", '{"evaluation": 1e999}\n[]\n{}\n'),
        ("result.json", "[" * 20_000 + "\n{}\n"),
        ("result.json", f'{{"a": {"9" * 5000}}}\n{{}}\n'),
        ("result.json", '{"num_env_steps_sampled_lifetime": 1' + "0" * 400 + "}\n"),
        ("params.json", "[1, 2]"),
        ("params.json", "\xff"),
        ("params.json", ""),
        ("comparison.json", '{"labels": {"x": ["y"]}, "failed": [], "details": 1}'),
        ("comparison.json", '{"labels": [], "failed": 3, "details": 1}'),
    ],
)
def test_odd_results_are_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    from rllib_risk.cli.main import run

    trial = write_results(tmp_path / "run")
    file = (trial.parent if name == "comparison.json" else trial) / name
    file.write_text(text, encoding="latin-1")
    code = run(["plot", str(trial.parent), "--out", str(tmp_path / "x.png")])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("Error: ") and "Traceback" not in said


def test_a_figure_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rllib_risk.cli.main import run

    trial = write_results(tmp_path / "run")
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x.png"
    assert run(["plot", str(trial), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "file" in said and "Traceback" not in said


def damaged_checkpoint(root: Path) -> Path:
    """Writes two checkpoints of a trial; damages and returns the second one."""
    for number in range(2):
        shutil.copytree(OLD / "rmix", root / f"checkpoint_{number:06d}")
    last = root / "checkpoint_000001"
    (last / "policy.safetensors").write_bytes(b"short")
    return last


@pytest.mark.parametrize("damage", ["changed", "missing"])
@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "CHECKPOINT"],
        ["evaluate", "CHECKPOINT", "--shift", "shift/macn-cliff"],
        ["record", "OUT", "CHECKPOINT"],
        ["export", "CHECKPOINT", "--out", "OUT"],
        ["plot", "episode", "CHECKPOINT"],
        ["train", "--algo", "RMIX", "--env", "macn", "--restore", "CHECKPOINT"],
    ],
)
def test_no_command_takes_another_checkpoint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_it_was: None,
    command: list[str],
    damage: str,
) -> None:
    import ray

    from rllib_risk.cli.main import run

    monkeypatch.chdir(tmp_path)
    checkpoint = damaged_checkpoint(tmp_path / "trial")
    if damage == "missing":
        checkpoint = checkpoint.with_name("checkpoint_000007")
    words = {"CHECKPOINT": str(checkpoint), "OUT": "out"}
    assert run([words.get(word, word) for word in command]) == 2
    said = capsys.readouterr().err
    # At most one line comes before the error: the one that says what is being done.
    assert said.splitlines()[-1].startswith("Error: ") and said.count("\n") <= 2
    assert checkpoint.name in said
    if damage == "changed":
        assert "does not match its checksum" in said
    assert not ray.is_initialized()


def test_a_storage_that_cannot_be_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_it_was: None,
) -> None:
    """A file as storage path, or a full disk, is refused before anything starts."""
    import ray

    from rllib_risk.cli.main import run

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    train = ["train", "--algo", "VDN", "--env", "two_step", "--storage-path"]
    compare = ["compare", "--algo", "VDN", "--env", "two_step"]
    compare += ["--stop", '{"training_iteration": 1}', "--out"]
    for command, reason in (
        ([*train, "file"], "it is not a folder"),
        ([*train, "file/inner"], "Not a directory"),
        ([*compare, "file/inner"], "Not a directory"),
    ):
        assert run(command) == 2
        said = capsys.readouterr().err
        assert "cannot be written to" in said and reason in said
        assert said.splitlines()[-1].startswith("Error: ") and said.count("\n") <= 2

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run([*train, "results"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not any((tmp_path / "results").iterdir())
    assert not ray.is_initialized()
