"""The commands of ``docs/tutorial_log.md``, run on a small log."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_risk.cli.main import run
from rllib_risk.deploy.files import read_policy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial_log.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Replacements for a small run: 20 flights, 10 of them held out, and one iteration
# without estimates, which tests/cli/test_cli_offline.py tests.
SMALLER = {
    "1000000": "2000",
    "5_000": "5",
    "1_000": "5",
    "0.05": "0.5",
    ", off_policy/estimates_since_best: 3": "",
    "off_policy_interval: 1": "off_policy_interval: 0",
    "--episodes 500": "--episodes 2",
    "dataset data/long --episodes 2": "dataset data/long --method wis",
    "hidden_size: 256": "hidden_size: 8",
}
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"gymnasium", "pettingzoo", "ray", "torch", "scipy"}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
"""


def small(text: str) -> str:
    for large, little in SMALLER.items():
        text = text.replace(large, little)
    return text


def test_the_chain_from_a_log_to_a_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """R45: the commands of a page, on a small log."""
    assert all(large in PAGE for large in SMALLER if "wis" not in SMALLER[large])
    monkeypatch.chdir(tmp_path)
    said = {}
    for language, block in FENCE.findall(PAGE):
        text = small(block)
        if name := re.match(r"# (\S+\.yaml)\n", text):
            Path(name[1]).write_text(text)
        for line in text.splitlines() if language == "sh" else ():
            words = shlex.split(line)
            capsys.readouterr()
            if words[0] == "python":
                monkeypatch.setattr(sys, "argv", words[1:])
                runpy.run_path(str(ROOT / words[1]), run_name="__main__")
            else:
                ray = ["--ray-num-cpus", "1"] if words[1] == "train" else []
                assert run([*words[1:], *ray]) == 0, line
            said[line] = capsys.readouterr().out
        if language == "py":
            done = subprocess.run(
                [sys.executable, "-c", BLOCKED + text],
                env={"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
    imports = [line for line in said if line.startswith("rllib dataset import data/")]
    wide, long = (read_numbers(said[line]) for line in imports)
    assert wide == (2000, 20) and long == (1000, 10)
    (trained,) = (said[line] for line in said if line.startswith("rllib train"))
    assert "Last checkpoint: " in trained and "policy is unknown" in trained
    (truth,) = (said[line] for line in said if "--env uav" in line)
    assert re.search(r"^return_mean +-\d+\.\d+  95 % interval \[", truth, re.MULTILINE)
    assert Path("estimate/off_policy.json").is_file()
    assert re.match(r"last actions \[\d+, \d+\]\nRay or PyTorch loaded: F", done.stdout)
    origin = read_policy("uav-team")[1]["provenance"]
    assert origin["env"] is None and origin["dataset"]["folder"].endswith("data/wide")
    assert origin["training"]["git_commit"] == origin["export"]["git_commit"]


def read_numbers(said: str) -> tuple[int, int]:
    """Env steps and episodes that an import reports."""
    found = re.search(r"^episodes +([\d,]+) \(([\d,]+) env steps", said, re.MULTILINE)
    assert found, said
    return int(found[2].replace(",", "")), int(found[1].replace(",", ""))
