"""The building example of ``docs/deploy.md``, with all packages but NumPy blocked."""

import re
import subprocess
import sys
from pathlib import Path

from rllib_risk.algorithms import QMIXConfig
from rllib_risk.core.export import export_team

ROOT = Path(__file__).parents[2]
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {names}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {root!r})
exec(open("block.py").read())
print(repr(float(np.sum(rewards, dtype=float))))
"""
HEAVY = [
    "gymnasium",
    "onnx",
    "pettingzoo",
    "ray",
    "safetensors",
    "scipy",
    "torch",
    "yaml",
]


def test_the_building_earns_what_an_evaluation_says(tmp_path):
    """R47: an exported team."""
    config = QMIXConfig().environment(
        "hvac", env_config={"bins": 51, "normalise": True, "day_range": [184, 185]}
    )
    config.debugging(seed=3)
    algorithm = config.build_algo()
    export_team(algorithm, tmp_path / "hvac-team")
    expected = algorithm.evaluate_episodes(1)["return_mean"]
    algorithm.stop()
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    block = re.search(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    code = [line for line in block.splitlines() if line]
    assert len(code) <= 20
    (tmp_path / "block.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=HEAVY, root=str(ROOT))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said, loaded, exact = done.stdout.splitlines()
    assert said == f"return {expected:.4f}"
    assert loaded == "Ray or PyTorch loaded: False"
    assert float(exact) == expected
