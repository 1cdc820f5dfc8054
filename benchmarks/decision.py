"""Measures the time of one decision: exported team, NumPy, PyTorch and RLlib.

There is one environment and one decision at a time, as in a controller. All sides have
the same weights, get the same observations, and run in turns. RLlib's side calls
``Algorithm.compute_single_action`` with the state from its last call. ONNX is measured
if onnx and onnxruntime are installed.

Run: ``OMP_NUM_THREADS=1 python benchmarks/decision.py``
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.export import export_team
from rllib_risk.deploy import Team
from rllib_risk.parts.acting import NumpyActor, TorchActor

# Algorithm and environment by description of the team.
CASES = {
    "2 agents, 100 atoms, predicted level": ("RMIX", "macn"),
    "6 agents, 200 actions": ("QMIX", "hvac"),
}
DECISIONS = 200


def build(name: str, env: str) -> TeamAlgorithm:
    """Builds an algorithm with initial weights."""
    config = config_class(name)().environment(env).debugging(seed=0)
    config.env_runners(num_env_runners=0).evaluation(evaluation_num_env_runners=0)
    return config.build_algo()


def sides(algorithm: TeamAlgorithm, folder: Path) -> dict[str, Callable[[int], None]]:
    """Returns each side as a function that makes a number of decisions."""
    network = algorithm.team_policy.network
    sizes = network.sizes
    rng = np.random.default_rng(0)
    shape = (sizes.num_agents, sizes.obs_size)
    obs = rng.normal(size=(DECISIONS, *shape)).astype(np.float32)
    mask = np.ones((sizes.num_agents, sizes.num_actions), np.uint8)
    team_obs = {"state": np.zeros(sizes.state_size, np.float32), "action_mask": mask}
    found: dict[str, Callable[[int], None]] = {}

    def exported(file_format: str) -> Callable[[int], None]:
        export_team(algorithm, folder / file_format, file_format)
        team = Team.load(folder / file_format)

        def decide(number: int) -> None:
            for k in range(number):
                team.act(obs[k], mask)

        return decide

    def ours(kind: Any) -> Callable[[int], None]:
        actor = kind(network, 1)

        def decide(number: int) -> None:
            for k in range(number):
                utilities, _ = actor.act(obs[k][None], mask[None])
                actor.remember(utilities.argmax(axis=-1))

        return decide

    def rllib(number: int) -> None:
        state = algorithm.team_policy.get_initial_state()
        for k in range(number):
            _, state, _ = algorithm.compute_single_action(
                {"obs": obs[k], **team_obs}, state=state, explore=False
            )

    found["exported, NumPy"] = exported("safetensors")
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        found["exported, ONNX"] = exported("onnx")
    found["NumpyActor"], found["TorchActor"] = ours(NumpyActor), ours(TorchActor)
    found["RLlib compute_single_action"] = rllib
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repetitions", type=int, default=15, help="number of turns (default 15)"
    )
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    rllib_risk.register()
    print("| team | side | ms per decision | CPU ms |", flush=True)
    print("|---|---|---|---|")
    for case, (name, env) in CASES.items():
        algorithm = build(name, env)
        with tempfile.TemporaryDirectory() as folder:
            measured: dict[str, list[tuple[float, float]]] = {}
            decide = sides(algorithm, Path(folder))
            for _ in range(repetitions):
                for side, function in decide.items():
                    function(5)
                    wall, cpu = time.perf_counter(), time.process_time()
                    function(DECISIONS)
                    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                    measured.setdefault(side, []).append((wall, cpu))
        for side, times in measured.items():
            walls, cpus = zip(*times, strict=True)
            ms = [statistics.median(t) / DECISIONS * 1e3 for t in (walls, cpus)]
            print(
                f"| {name}, {env}: {case} | {side} | {ms[0]:.3f} | {ms[1]:.3f} |",
                flush=True,
            )
        algorithm.stop()


if __name__ == "__main__":
    main()
