"""Writes small checkpoints and a dataset of the installed version of rllib_risk.

Run this once when a minor version is released, from a checkout of that version:

    PYTHONPATH=. python tests/data/old_checkpoints/make.py /data/VERSION

Then move the folder to ``tests/data/old_checkpoints/VERSION``. From then on
``tests/core/test_old_checkpoints.py`` loads it with every later version.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data.dataset import write_dataset
from rllib_risk.env_wrappers.scripted import reference_policies
from rllib_risk.evaluation.trace_runs import trace_episode

SEED, EPISODES = 7, 3
LOG = Path("uav-log")
SMALL = {
    "hidden_size": 8,
    "batch_size_episodes": 4,
    "learning_starts_episodes": 4,
    "buffer_size_episodes": 6,
    "updates_per_episode": 1.0,
    "target_update_interval_episodes": 8,
}
MIXER = {"mixing_embed_dim": 4, "hypernet_embed_dim": 4}
MACN = ("macn", {"width": 5, "episode_limit": 12})
UAV = {"num_uavs": 2, "episode_steps": 6}
# A preset is recorded with the values that it set. A later version may give the preset
# other values; a checkpoint keeps its own.
RUNS: dict[str, dict[str, Any]] = {
    "rmix": {
        "name": "RMIX",
        "env": MACN,
        "keys": {"preset": "rmix_official", "num_atoms": 8, **SMALL, **MIXER},
    },
    "robust_vdn": {
        "name": "RobustVDN",
        "env": ("two_step", {}),
        "keys": {"preset": "paper", **SMALL},
    },
    "robust_qmix": {
        "name": "RobustQMIX",
        "env": MACN,
        "keys": {"target": "contamination", **SMALL, **MIXER},
    },
    "qplex": {
        "name": "QPLEX",
        "env": ("two_step", {}),
        "keys": {"rnn_cell": "lstm", **SMALL, **MIXER},
    },
    "coma": {
        "name": "COMA",
        "env": ("two_step", {}),
        "keys": {"hidden_size": 8, "critic_hidden_size": 8},
    },
    "ma_cqr": {
        "name": "MACQR",
        "env": ("uav", UAV),
        "keys": {
            "preset": "ma_ccqr",
            "num_atoms": 8,
            "hidden_size": 8,
            "batch_size_episodes": 2,
            "updates_per_iteration": 20,
        },
    },
}


def write_uav_log(folder: Path) -> None:
    """Writes a dataset of two shards."""
    config = TeamConfig().environment("uav", env_config=UAV)
    player = scripted_player(reference_policies("uav")["greedy"], 0.3)
    write_dataset(
        folder,
        record(config, [player], 4, seed=SEED),
        env="uav",
        env_config=UAV,
        agents=["uav_0", "uav_1"],
        behaviour={"policy": "greedy", "epsilon": 0.3},
        seed=SEED,
        rows_per_shard=12,
    )


def write_run(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Trains one iteration, saves a checkpoint and plays greedy episodes."""
    env, env_config = run["env"]
    config = config_class(run["name"])()
    config.environment(env, env_config=env_config).debugging(seed=SEED)
    config.training(**run["keys"])
    config.min_sample_timesteps_per_iteration = 60
    config.evaluation_duration = EPISODES
    if run["name"] == "MACQR":
        config.training(dataset=str(LOG))
    algorithm = config.build_algo()
    algorithm.train()
    folder.mkdir(parents=True)
    algorithm.save_checkpoint(str(folder))
    played = algorithm.env_runner.evaluate_episodes(range(EPISODES), SEED)
    trace = trace_episode(algorithm.team_policy, algorithm.evaluation_config, SEED)
    values = np.where(trace.action_mask, trace.values, 0.0)  # [L, N, A]
    state = json.loads((folder / "state.json").read_text())
    algorithm.stop()
    return {
        "algorithm": run["name"],
        "updates": state["counters"]["num_updates_lifetime"],
        "actions": [episode.actions.tolist() for episode in played],
        "values": values.astype(float).round(5).tolist(),
        "returns": [episode.episode_return for episode in played],
    }


def main(target: Path) -> None:
    """Writes everything below ``target``."""
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    rllib_risk.register()
    target.mkdir(parents=True)
    os.chdir(target)
    write_uav_log(LOG)
    expected = {name: write_run(Path(name), run) for name, run in RUNS.items()}
    facts = {"version": rllib_risk.__version__, "seed": SEED, "runs": expected}
    Path("expected.json").write_text(json.dumps(facts) + "\n")
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
