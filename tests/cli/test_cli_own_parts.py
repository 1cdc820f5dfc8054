"""The command with a user's own mixer and risk measure, from docs/composition.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from rllib_risk.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "composition.md").read_text(encoding="utf-8")
FLAT = """
from my_parts import WeightedSum, WorstAtom
from rllib_risk.parts.risk import RiskMeasure

class Flat(WeightedSum):
    needs_state = False
    def forward(self, team):
        return team.utilities.sum(dim=-1)

class PerAgent(Flat):
    def forward(self, team):
        return team.utilities

class Old(RiskMeasure):
    def __init__(self, num_atoms, caution=0.5):
        super().__init__(num_atoms)

class Whole(WorstAtom):
    def forward(self, atoms, level_logits=None):
        return atoms.mean()
"""


# Opens a file by a path relative to the folder in which the command runs.
RELATIVE = """
from pathlib import Path
from rllib_risk.env_wrappers.games.two_step import TwoStepGame

class Relative(TwoStepGame):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        Path("table.txt").read_text()
"""


def shown(language: str, beginning: str) -> str:
    """The page's code block that starts with `beginning`."""
    (text,) = re.findall(
        rf"^```{language}\n({re.escape(beginning)}.*?)^```$", PAGE, re.DOTALL | re.M
    )
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the commands: the page's two files, for a short run."""
    (tmp_path / "my_parts.py").write_text(shown("python", "# my_parts.py\n"))
    text = shown("yaml", "own:\n")
    for long, short in (("_lifetime: 2000", "_lifetime: 200"), (": 1000", ": 100")):
        assert long in text
        text = text.replace(long, short)
    (tmp_path / "own.yaml").write_text(text)
    (tmp_path / "wrong.py").write_text(FLAT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rllib(*arguments: str) -> str:
    """Runs the command in a process of its own; returns what it printed."""
    # PYTHONPATH does not contain the parts' folder, but the command runs in it.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "rllib_risk", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_remote_runners_find_own_parts_and_relative_paths(folder: Path) -> None:
    (folder / "relative.py").write_text(RELATIVE)
    (folder / "table.txt").write_text("1")
    yaml = (folder / "own.yaml").read_text()
    assert yaml.endswith("    epsilon_anneal_env_steps: 2000\n")
    yaml = yaml.replace("env: two_step", "env: pettingzoo")
    yaml += "    env_config: {factory: 'relative:Relative'}\n    num_env_runners: 1\n"
    (folder / "own.yaml").write_text(yaml)
    rllib("train", "file", "own.yaml", "--storage-path", "results")
    (trial,) = (folder / "results/own").glob("QMIX_*")
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])
    assert last["config"]["num_env_runners"] == 1
    assert last["num_env_steps_sampled_lifetime"] >= 200


def test_own_parts_train_and_evaluate(
    folder: Path, capsys: pytest.CaptureFixture[str], as_it_was: None
) -> None:
    with (folder / "my_parts.py").open("a") as file:
        file.write("\nopen('imported', 'w').close()\n")

    options = ["--storage-path", "results", "--seed", "1"]
    printed = rllib("train", "file", "own.yaml", *options)
    command = re.search(r"Evaluate it with: rllib (evaluate .*)", printed)
    assert command is not None
    arguments = command.group(1).split()
    # A user who trained with the code trusts it.
    assert arguments[-1] == "--trust-code"
    trial = Path(arguments[1]).parent
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])

    (folder / "imported").unlink()
    printed = rllib(*arguments, "--json")
    assert (folder / "imported").exists()
    result = json.loads(printed)
    assert result["returns"] and result["episodes"] == 32
    # The only checkpoint is the one at the end.
    assert result["return_mean"] == last["evaluation"]["return_mean"]

    (folder / "imported").unlink()
    assert run(arguments[:-1]) == 2
    errors = capsys.readouterr().err
    # The message is the page's, but it may name the other part first.
    message = shown("text", "Error: The checkpoint")
    pattern = re.escape(message.strip()).replace("WorstAtom", r"\w+")
    assert re.search(pattern, errors), errors
    assert "Traceback" not in errors
    assert not (folder / "imported").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"my_parts:WeightedSum"',
            '"my_part:WeightedSum"',
            "mixer: cannot import module 'my_part' of 'my_part:WeightedSum':"
            " ModuleNotFoundError: No module named 'my_part' (is its folder on"
            " PYTHONPATH?)",
        ),
        (
            '"my_parts:WeightedSum"',
            '"my_parts:WeightedSun"',
            "mixer: module 'my_parts' has no class 'WeightedSun'. Did you mean"
            " 'WeightedSum'?",
        ),
        (
            '"my_parts:WeightedSum"',
            '"my_parts:WorstAtom"',
            "mixer: 'my_parts:WorstAtom' must be a subclass of"
            " rllib_risk.parts.mixers.Mixer.",
        ),
        (
            "weight_width: 8",
            "weight_widht: 8",
            "own.yaml:7: unknown key 'weight_widht' of QMIX. Did you mean"
            " 'weight_width'?",
        ),
        (
            "weight_width: 8",
            "weight_width: 0",
            "own.yaml:7: weight_width: must be in [1, inf), not 0.",
        ),
        (
            '"my_parts:WeightedSum"',
            '"wrong:Flat"',
            "mixer: forward of 'wrong:Flat' must return [2, 3, 1] or [2, 3, 2] when it"
            " is tried on zeros, and it returned [2, 3].",
        ),
        (
            '"my_parts:WeightedSum"',
            '"wrong:PerAgent"\n    joint_critic: wqmix',
            "joint_critic: 'wqmix' teaches one value of the team, and mixer"
            " 'wrong:PerAgent' gives one per agent.",
        ),
        (
            "  config:\n",
            "  config:\n    env_config: {state: none}\n",
            "mixer: 'my_parts:WeightedSum' needs a global state, and env 'two_step'"
            " has none.",
        ),
        (
            "    num_atoms: 5\n",
            "    num_atoms: 5\n    quantiles: sampled\n",
            "The risk measure WorstAtom has no map of fractions (no distort()), so it"
            " cannot be used with sampled quantiles.",
        ),
    ],
)
def test_what_the_page_says_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
) -> None:
    assert message in PAGE
    error = refused(folder, monkeypatch, capsys, old, new)
    assert message in error


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"my_parts:WorstAtom"',
            '"my_parts:WeightedSum"',
            "risk_measure: 'my_parts:WeightedSum' must be a subclass of"
            " rllib_risk.parts.risk.RiskMeasure.",
        ),
        (
            '"my_parts:WorstAtom"',
            '"wrong:Whole"',
            "risk_measure: forward of 'wrong:Whole' must return [2, 3] when it is"
            " tried on zeros, and it returned [].",
        ),
        (
            "caution: 0.2",
            "risk_kwargs: {caution: 0.2}",
            "risk_kwargs: belongs to risk_measure: your own class without Options",
        ),
        (
            '"my_parts:WorstAtom"\n    caution: 0.2',
            '"wrong:Old"\n    risk_kwargs: {level: 0.2}',
            "risk_measure: 'wrong:Old' is called with (num_atoms, level=0.2): got an"
            " unexpected keyword argument 'level'.",
        ),
        (
            "    num_atoms: 5\n",
            "",
            "risk_measure: 'my_parts:WorstAtom' of a single atom is that atom",
        ),
    ],
)
def test_risk_measures_that_are_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
) -> None:
    assert message in refused(folder, monkeypatch, capsys, old, new)


def refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
) -> str:
    """Changes the file, runs it, and returns the error that comes before Ray starts."""
    # Restores what the command changes in this process.
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.syspath_prepend(str(folder))
    for name in (
        "TUNE_DISABLE_SIGINT_HANDLER",
        "TUNE_PRINT_ALL_TRIAL_ERRORS",
        "RAY_AIR_NEW_OUTPUT",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    ):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    for module in ("my_parts", "my_part", "wrong"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    yaml = (folder / "own.yaml").read_text()
    assert yaml.count(old) == 1
    (folder / "own.yaml").write_text(yaml.replace(old, new))
    try:
        assert run(["train", "file", "own.yaml"]) == 2
    finally:
        for module in ("my_parts", "wrong"):
            sys.modules.pop(module, None)
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    begun, error = captured.err.splitlines(keepends=True)
    assert begun == "Checking own.yaml ...\n" and error.startswith("Error: ")
    assert not ray.is_initialized()
    return error
