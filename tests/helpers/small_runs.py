"""Small runs of every algorithm on MACN, and fingerprints of their state."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.core.algorithm import TeamAlgorithm

VALUE_BASED = {
    "batch_size_episodes": 8,
    "learning_starts_episodes": 8,
    "target_update_interval_episodes": 20,
}
QUANTILES = {"num_atoms": 10, "qr_gate": "step", "qr_start_step": 50, "qr_interval": 30}
ACTOR_CRITIC = {"critic_hidden_size": 16, "target_update_interval_critic_steps": 50}
# An update every third round.
PPO = {
    "critic_hidden_size": 16,
    "batch_size_episodes": 12,
    "epochs_per_update": 3,
    "minibatches_per_epoch": 2,
    "lr": 1e-2,
}
# Actor-critic algorithms, whose episodes are shorter.
POLICIES = ("COMA", "DOP", "MAPPO", "IPPO")
KEYS: dict[str, dict[str, Any]] = {
    "RMIX": VALUE_BASED | QUANTILES,
    "RDN": VALUE_BASED | QUANTILES,
    # Its schedules change with the env steps, as in a longer run.
    "LHIQN": VALUE_BASED
    | {
        "num_atoms": 8,
        "td_weighting_alpha": [[0, 0.2], [600, 0.4]],
        "lr": [[0, 1e-3], [600, 1e-4]],
    },
    "COMA": ACTOR_CRITIC | {"batch_size_episodes": 8, "updates_per_episode": 0.25},
    # It learns from the four environments on-policy, and from replay off-policy.
    "DOP": ACTOR_CRITIC
    | {
        "batch_size_episodes": 4,
        "on_policy_episodes": 8,
        "off_policy_batch_size_episodes": 6,
        "learning_starts_episodes": 8,
        "buffer_size_episodes": 20,
    },
    # Two epochs over each round of four episodes.
    "PQN": {"batch_size_episodes": 2, "learning_starts_episodes": 2}
    | {"updates_per_episode": 1.0},
    "MAPPO": PPO,
    "IPPO": PPO | {"parameter_sharing": False, "critic_recurrent": False},
    # Two groups that differ in the cost of a fall; a phase has about three iterations.
    "GroupDR": VALUE_BASED
    | {
        "env_variants": [{"cliff_reward": -100.0}, {"cliff_reward": -20.0}],
        "sequence_length": 3,
        "burn_in": 2,
        "behaviour_env_steps": 180,
        "estimator_env_steps": 180,
        "estimator_updates": 2,
        "estimator_batch_size_steps": 16,
        "td_lambda": [[0, 0.0], [300, 0.5]],
    },
}


def small_config(name: str, **training: Any) -> Any:
    """Four environments, episodes of 20 steps (`POLICIES`: 12), 60 steps per iteration.

    An iteration plays whole episodes, so it may have more steps.
    """
    config = config_class(name)()
    limit = 12 if name in POLICIES else 20
    config.environment("macn", env_config={"episode_limit": limit})
    config.env_runners(num_envs_per_env_runner=4).debugging(seed=3)
    config.training(hidden_size=16, epsilon_anneal_env_steps=1000)
    config.training(**KEYS.get(name, VALUE_BASED) | training)
    config.min_sample_timesteps_per_iteration = 60
    config.evaluation_duration = 3
    return config


def fingerprint(algorithm: TeamAlgorithm) -> bytes:
    """Bytes of the parameters, optimizer moments, replay and counters."""
    policy = algorithm.team_policy
    modules = policy.modules().values()
    parts = [p.detach().numpy() for m in modules for p in m.parameters()]
    for optimizer in policy._optimizers:
        for _, entries in sorted(optimizer.state_dict()["state"].items()):
            parts += [np.asarray(entries[key]) for key in sorted(entries)]
    parts += list(algorithm.replay.state_arrays().values())
    counters = dict(sorted(algorithm._counters.items()))
    owed = algorithm._updates_owed
    words = json.dumps([counters, algorithm._last, owed], default=str, sort_keys=True)
    return b"".join(np.ascontiguousarray(p).tobytes() for p in parts) + words.encode()


def straight_and_resumed(
    name: str, folder: Path, **training: Any
) -> tuple[list, list, TeamAlgorithm]:
    """Compares a run of six iterations with one that stops after three and resumes.

    Returns:
        Results of the first run, results after the resume, and the resumed algorithm.
    """
    straight = small_config(name, **training).build_algo()
    results = [straight.train() for _ in range(6)]
    first = small_config(name, **training).build_algo()
    for _ in range(3):
        first.train()
    first.save_checkpoint(str(folder))
    first.stop()
    resumed = rllib_risk.load(folder)
    assert type(resumed).__name__ == name
    again = [resumed.train() for _ in range(3)]
    assert fingerprint(resumed) == fingerprint(straight)
    straight.stop()
    return results, again, resumed
