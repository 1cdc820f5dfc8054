"""Checks the package with several versions of Ray and prints a Markdown table.

The script needs the environment of ``make test``. It unpacks each version of Ray into
its own folder, together with those dependencies whose versions differ from the
environment. In every check this folder comes before the environment's packages on
``PYTHONPATH``::

    .venv/bin/python tools/check_ray_versions.py 2.54.1 2.57.1 --folder /tmp/ray

The version in constraints.txt is the reference and is checked first. All other versions
must give exactly the same numbers.

Five checks run for each version, then the tests of ``--tests``:

- local: RMIX trains on ``two_step`` in the trial's own process;
- remote runner: the same with a remote runner for training and one for evaluation;
- resume: training stops and continues from its checkpoint; the results must equal those
  of a run without a stop;
- Tune sweep: ``rllib train file`` runs three trials with ASHA;
- evaluate: a checkpoint of the reference version is evaluated and trained further.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, PathDistribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXTRAS = ("rllib", "tune")
TESTS = ("tests/cli/test_cli_strict_keys.py", "tests/cli/test_cli_runs.py")
TIMEOUT_S = 300
TESTS_TIMEOUT_S = 1800
ITERATIONS = 2
# Results that must be equal in all versions of Ray.
COMPARED = ("env_runners/episode_return_mean", "evaluation", "learner", "epsilon")
# Endings of results that depend on the machine.
TIMES = ("time", "throughput", "_ms", "_s")
SWEEP = """\
sweep:
  run: RMIX
  env: two_step
  num_samples: 3
  scheduler: asha
  scheduler_config: {grace_period: 1, reduction_factor: 2, max_t: 3}
  stop: {training_iteration: 3}
  checkpoint_config: {checkpoint_frequency: 1}
  config:
    lr: {loguniform: [1.0e-4, 1.0e-2]}
    hidden_size: 8
    num_atoms: 8
    batch_size_episodes: 8
    learning_starts_episodes: 8
    min_sample_timesteps_per_iteration: 100
    evaluation_duration: 4
"""


# The checks. Each one runs in its own process, with the checked version of Ray.


def configuration(runners: int = 0) -> Any:
    """Returns the configuration of a short training of RMIX on ``two_step``."""
    from rllib_risk.algorithms import RMIXConfig

    config = (
        RMIXConfig()
        .environment("two_step")
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=4)
        .training(
            hidden_size=16,
            num_atoms=8,
            batch_size_episodes=8,
            learning_starts_episodes=8,
            updates_per_episode=0.5,
            epsilon_anneal_env_steps=400,
        )
        .evaluation(evaluation_duration=8, evaluation_num_env_runners=runners)
        .debugging(seed=3)
    )
    config.min_sample_timesteps_per_iteration = 200
    return config


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a result that must be equal in all versions of Ray."""
    flat = _flatten({key.split("/")[0]: result[key.split("/")[0]] for key in COMPARED})
    return {
        key: value
        for key, value in flat.items()
        if key.startswith(COMPARED) and not key.endswith(TIMES)
    }


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat.update(_flatten(item, f"{prefix}{key}/"))
        elif isinstance(item, (int, float)):
            # Compared as text: NaN equals itself, and no digit is lost.
            flat[prefix + key] = repr(float(item))
    return flat


def check_local(reference: Path) -> Any:
    """Trains in one process; the reference version also saves its checkpoint."""
    algorithm = configuration().build_algo()
    results = [numbers(algorithm.train()) for _ in range(ITERATIONS)]
    if not (reference / "checkpoint").exists():
        (reference / "checkpoint").mkdir()
        algorithm.save_checkpoint(str(reference / "checkpoint"))
    return results


def check_remote_runner(reference: Path) -> Any:
    """Trains and evaluates on remote runners."""
    algorithm = configuration(runners=1).build_algo()
    return [numbers(algorithm.train()) for _ in range(ITERATIONS)]


def check_resume(reference: Path) -> Any:
    """Compares a resumed run with a run without a stop."""
    import rllib_risk

    whole = configuration().build_algo()
    whole.train()
    with tempfile.TemporaryDirectory() as folder:
        whole.save_checkpoint(folder)
        resumed = rllib_risk.load(folder)
    expected, found = numbers(whole.train()), numbers(resumed.train())
    if expected != found:
        raise AssertionError(
            f"the resumed run gives {found}, but the run without a stop gives"
            f" {expected}"
        )
    return found


def check_sweep(reference: Path) -> Any:
    """Runs a sweep with a scheduler through the command line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sweep.yaml")
        file.write_text(SWEEP)
        command = [sys.executable, "-m", "rllib_risk", "train", "file", str(file)]
        done = subprocess.run(
            [*command, "--storage-path", folder, "--ray-num-cpus", "2"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
        trials = [
            [json.loads(line) for line in log.read_text().splitlines()]
            for log in Path(folder, "sweep").glob("*/result.json")
        ]
        lengths = sorted(len(trial) for trial in trials)
        rates = {trial[0]["config"]["lr"] for trial in trials}
        kept = len(list(Path(folder, "sweep").glob("*/checkpoint_*")))
    if len(rates) != 3 or lengths[-1] != 3 or kept < sum(lengths):
        raise AssertionError(
            "Expected 3 learning rates, 3 results of the best trial and a checkpoint"
            f" for each result, but got {rates}, {lengths}, {kept}."
        )
    return None


def check_evaluate(reference: Path) -> Any:
    """Evaluates the reference's checkpoint and continues its training."""
    import rllib_risk

    algorithm = rllib_risk.load(reference / "checkpoint")
    returns = algorithm.evaluate_episodes(16, seed=5)["returns"]
    return [[float(value) for value in returns], numbers(algorithm.train())]


CHECKS: dict[str, Callable[[Path], Any]] = {
    "local": check_local,
    "remote runner": check_remote_runner,
    "resume": check_resume,
    "Tune sweep": check_sweep,
    "evaluate": check_evaluate,
}


def run_check(name: str, ray_version: str, reference: Path) -> None:
    """Runs one check in this process and prints its numbers as the last line."""
    import ray

    import rllib_risk

    if ray.__version__ != ray_version:
        raise RuntimeError(f"Imported Ray {ray.__version__} instead of {ray_version}.")
    if name != "Tune sweep":
        ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
        rllib_risk.register()
    value = CHECKS[name](reference)
    ray.shutdown()
    print(json.dumps(value), flush=True)


# Everything below runs in the main process, which does not import Ray.


def install(ray_version: str, folder: Path) -> Path:
    """Unpacks a version of Ray and its dependencies that the environment lacks.

    Args:
        ray_version: The version.
        folder: Folder that contains one folder per version.

    Returns:
        The folder of the version.
    """
    target = folder / ray_version
    if (target / "complete").exists():
        return target
    shutil.rmtree(target, ignore_errors=True)
    _pip(target, f"ray=={ray_version}")
    (info,) = target.glob("ray-*.dist-info")
    needs = map(Requirement, PathDistribution(info).requires or [])
    missing = {
        f"{need.name}{need.specifier}"
        for need in needs
        if (need.marker is None or _applies(need)) and not _installed(need)
    }
    if missing:
        _pip(target, *sorted(missing))
    (target / "complete").touch()
    return target


def _pip(target: Path, *packages: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", str(target), *packages], check=True)


def _applies(need: Requirement) -> bool:
    return any(need.marker.evaluate({"extra": extra}) for extra in ("", *EXTRAS))


def _installed(need: Requirement) -> bool:
    try:
        return need.specifier.contains(version(need.name), prereleases=True)
    except PackageNotFoundError:
        return False


def environment(target: Path) -> dict[str, str]:
    """Returns the environment variables of a process with a version of Ray."""
    paths = [str(target), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def check_version(
    target: Path, reference: Path, expected: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Runs the five checks with one version.

    Args:
        target: Folder of the version.
        reference: Folder for the checkpoint of the reference version.
        expected: Numbers of the reference; None if this is the reference.

    Returns:
        The numbers of each finished check, and the cause of each failed one.
    """
    found: dict[str, Any] = {}
    failures: dict[str, str] = {}
    for name in CHECKS:
        start = time.monotonic()
        command = [sys.executable, __file__, target.name, "--check", name]
        try:
            done = subprocess.run(
                [*command, "--folder", str(reference)],
                env=environment(target),
                cwd=reference,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            failures[name] = f"did not end within {TIMEOUT_S} s"
            continue
        if done.returncode:
            failures[name] = _cause(done.stderr)
            (target / f"{name}.log").write_text(done.stdout + done.stderr)
        else:
            found[name] = json.loads(done.stdout.splitlines()[-1])
            if expected is not None and found[name] != expected.get(name):
                failures[name] = "numbers differ from the reference"
        print(
            f"  {name}: {failures.get(name, 'ok')} ({time.monotonic() - start:.0f} s)",
            file=sys.stderr,
        )
    return found, failures


def _cause(text: str) -> str:
    """Returns the last line of a text that names an exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [
        line
        for line in lines
        if line.split(":")[0].replace(".", "").isidentifier() and "Error" in line
    ]
    return (named or lines or ["no message"])[-1][:300]


def run_tests(target: Path, tests: Sequence[str]) -> str:
    """Runs some tests with one version; returns the summary of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command,
        env=environment(target),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TESTS_TIMEOUT_S,
    )
    (target / "tests.log").write_text(done.stdout + done.stderr)
    summary = done.stdout.strip().splitlines()[-1:] or ["no output"]
    return summary[0].strip("= ").split(" in ")[0]


def table(rows: Sequence[tuple[str, dict[str, str], str]], reference: str) -> str:
    """Formats the Markdown table.

    Args:
        rows: For each version: its number, the causes of failed checks, and the summary
            of its tests (empty if none ran).
        reference: Version whose checkpoint was evaluated.
    """
    *others, _ = CHECKS
    titles = [*others, f"evaluate a {reference} checkpoint"]
    titles += ["tests"] if any(tests for _, _, tests in rows) else []
    lines = [f"| Ray | {' | '.join(titles)} |", "| --- " * (len(titles) + 1) + "|"]
    notes = []
    for ray_version, failures, tests in rows:
        cells = ["fails" if name in failures else "works" for name in CHECKS]
        cells += [tests] if tests else []
        lines.append(f"| {ray_version} | {' | '.join(cells)} |")
        notes += [f"- {ray_version}, {n}: `{cause}`" for n, cause in failures.items()]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def pinned_ray() -> str:
    """Returns the version of Ray in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    (pin,) = [line.split("==")[1] for line in lines if line.startswith("ray==")]
    return pin


def main() -> int:
    """Checks the given versions; returns 1 if a check or test failed, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "versions",
        nargs="*",
        metavar="VERSION",
        help="Versions of Ray to check, besides the reference in constraints.txt.",
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="Folder for the versions of Ray."
    )
    parser.add_argument(
        "--tests",
        nargs="*",
        default=TESTS,
        help=f"Tests to run with each version (default: {' '.join(TESTS)}).",
    )
    parser.add_argument("--check", choices=CHECKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:
        run_check(options.check, options.versions[0], options.folder)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    pinned = pinned_ray()
    rows = []
    expected: dict[str, Any] | None = None
    with tempfile.TemporaryDirectory() as reference:
        for ray_version in dict.fromkeys([pinned, *options.versions]):
            print(f"Ray {ray_version}", file=sys.stderr)
            target = install(ray_version, options.folder)
            found, failures = check_version(target, Path(reference), expected)
            expected = found if expected is None else expected
            tests = run_tests(target, options.tests) if options.tests else ""
            print(f"  tests: {tests or 'none'}", file=sys.stderr)
            rows.append((ray_version, failures, tests))
    rows.sort(key=lambda row: [int(part) for part in row[0].split(".")], reverse=True)
    print(table(rows, pinned))
    failed = any(failures or "failed" in tests for _, failures, tests in rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
