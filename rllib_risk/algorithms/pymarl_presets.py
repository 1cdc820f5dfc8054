"""Presets with the hyper-parameters of EPyMARL and of PyMARL2, for QMIX, VDN and IQL.

``epymarl`` is Papoudakis et al., "Benchmarking Multi-Agent Deep Reinforcement Learning
Algorithms in Cooperative Tasks", NeurIPS 2021 (Datasets and Benchmarks): the files
``src/config/algs/{iql,vdn,qmix}.yaml`` of ``uoe-agents/epymarl``, commit cbc38c0.

``tuned`` is Hu et al., "Rethinking the Implementation Tricks and Monotonicity
Constraint in Cooperative Multi-Agent Reinforcement Learning", 2021: the same files of
``hijkzzz/pymarl2``, commit 8ccac7c.

Both start from PyMARL's values, which are this package's defaults, so a preset names
only what differs. ``docs/algorithms/qmix.md`` lists the differences that remain.
"""

from __future__ import annotations

from typing import Any

_EPYMARL: dict[str, Any] = {"optimizer": "adam", "obs_last_action": False}
_TUNED: dict[str, Any] = {
    "optimizer": "adam",
    "epsilon_anneal_env_steps": 100_000,
    "num_envs_per_env_runner": 8,
    # One update after the episodes of eight environments.
    "updates_per_episode": 0.125,
    # PyMARL2 clips the gradient of half the squared error at 10.
    "grad_clip": 20.0,
}

# Presets of VDN and QMIX.
MIXED: dict[str, dict[str, Any]] = {
    "epymarl": {**_EPYMARL, "recurrent": False},
    "tuned": {
        **_TUNED,
        "lr": 1e-3,
        "td_lambda": 0.6,
        "batch_size_episodes": 128,
        "learning_starts_episodes": 128,
    },
}
INDEPENDENT: dict[str, dict[str, Any]] = {
    "epymarl": {
        **_EPYMARL,
        "lr": 3e-4,
        "hidden_size": 128,
        "epsilon_anneal_env_steps": 200_000,
    },
    "tuned": _TUNED,
}
