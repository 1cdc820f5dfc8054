"""Compares what two versions of the package learn, bit for bit.

    python tools/compare_versions.py OLD [NEW]

OLD and NEW (default: this checkout) are checkouts of this repository; `git worktree add
OLD COMMIT` makes one. In each of them every algorithm trains for three iterations on
small MACN, with its defaults, with each of its presets and with each objective. The
table says of each composition whether the parameters are equal. The exit code is 1 if
some are not. A change that only moves code must leave all of them equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ITERATIONS = 3
# Runs in a process of its own, with one of the checkouts first on the path.
CODE = f"""
import hashlib, json, logging, sys
import numpy as np
import ray
import rllib_risk
from rllib_risk.algorithms import ALGORITHMS, config_class
from small_runs import small_config

OBJECTIVES = {{
    "mean": {{}},
    "static": {{"alpha": 0.5}},
    "nested": {{"alpha": 0.5, "td_lambda": 0.0}},
}}
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
logging.disable(logging.WARNING)
rllib_risk.register()
found = {{}}
for name in ALGORITHMS:
    keys = {{"": {{}}}}
    keys |= {{f"preset {{p}}": {{"preset": p}} for p in config_class(name).presets}}
    for objective, more in OBJECTIVES.items():
        keys[f"objective {{objective}}"] = {{"objective": objective, **more}}
    for what, values in keys.items():
        label = f"{{name}} {{what}}".strip()
        try:
            algorithm = small_config(name, **values).build_algo()
        except Exception as error:
            found[label] = f"refused: {{type(error).__name__}}"
            continue
        for _ in range({ITERATIONS}):
            algorithm.train()
        weights = algorithm.get_policy().get_weights()
        digest = hashlib.sha256()
        for key in sorted(weights):
            digest.update(np.ascontiguousarray(weights[key]).tobytes())
        found[label] = digest.hexdigest()
        algorithm.stop()
print("FOUND", json.dumps(found))
"""


def start(checkout: Path) -> subprocess.Popen[str]:
    """Starts the runs of one checkout."""
    path = os.pathsep.join(map(str, (checkout, ROOT / "tests" / "helpers")))
    settings = {"OMP_NUM_THREADS": "1", "RLLIB_TEST_NO_JAX_IMPORT": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CODE],
        env={**os.environ, **settings, "PYTHONPATH": path},
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
    )


def results(process: subprocess.Popen[str]) -> dict[str, str]:
    """Returns the hash of the parameters by composition, or why it was refused."""
    out, _ = process.communicate()
    lines = [line for line in out.splitlines() if line.startswith("FOUND ")]
    if not lines:
        raise SystemExit("A version could not run; its error is above.")
    return dict(json.loads(lines[0].removeprefix("FOUND ")))


def main() -> None:
    """Prints one line per composition."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path, metavar="OLD", help="checkout of one version")
    parser.add_argument(
        "new", type=Path, metavar="NEW", nargs="?", default=ROOT, help="another one"
    )
    options = parser.parse_args()
    processes = [start(folder.resolve()) for folder in (options.old, options.new)]
    old, new = map(results, processes)
    different = 0
    for name in {**old, **new}:
        pair = old.get(name), new.get(name)
        verdict = "equal" if pair[0] == pair[1] else "DIFFERENT"
        if None in pair:
            verdict = f"only in {'NEW' if pair[0] is None else 'OLD'}"
        elif verdict == "equal" and str(pair[0]).startswith("refused"):
            verdict = "refused by both"
        different += verdict == "DIFFERENT"
        print(f"{name:40} {verdict}")
    print(f"{different} of {len({**old, **new})} are different.")
    raise SystemExit(different > 0)


if __name__ == "__main__":
    main()
