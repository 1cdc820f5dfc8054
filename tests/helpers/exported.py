"""Artefacts for the tests of ``rllib_risk.deploy``."""

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from team_cases import make_network

from rllib_risk.deploy.files import (
    FORMAT_VERSION,
    POLICY,
    TENSORS,
    as_json,
    write_manifest,
)
from rllib_risk.parts.objectives.static import Static
from rllib_risk.parts.traced_team import trace_team

# Output of `rllib export tests/data/old_checkpoints/0.1.0/rmix` in the first version
# with format 1: two agents, nine observed numbers, four actions, no masks.
OLD_ARTEFACTS = Path(__file__).parents[1] / "data" / "old_artefacts"
FIRST_FORMAT = OLD_ARTEFACTS / "1"

# Keys of each kind of network.
ATOMS = {"num_atoms": 8}
DYNAMIC = {**ATOMS, "risk_measure": "cvar", "risk_mode": "dynamic"}
SAMPLED = {**ATOMS, "quantiles": "sampled"}
KINDS = {
    "gru": {},
    "feed-forward": {"recurrent": False},
    "lstm": {"rnn_cell": "lstm"},
    "layer norm": {"layer_norm": True},
    "layer norm, feed-forward": {"layer_norm": True, "recurrent": False},
    "observation alone": {"agent_ids": False, "obs_last_action": False},
    "a network each": {"parameter_sharing": False},
    "cvar": {**ATOMS, "risk_measure": "cvar", "alpha": 0.3},
    "var": {**ATOMS, "risk_measure": "var", "alpha": 0.3},
    "wang": {**ATOMS, "risk_measure": "wang"},
    "cpw": {**ATOMS, "risk_measure": "cpw"},
    "power": {**ATOMS, "risk_measure": "power"},
    "mean-variance": {**ATOMS, "risk_measure": "mean_variance"},
    "predicted level": DYNAMIC,
    "predicted level, no lag": {
        **DYNAMIC,
        "risk_history_lag": 0,
        "risk_tie_femb": True,
    },
    "predicted level, lstm": {**DYNAMIC, "rnn_cell": "lstm"},
    "predicted level, feed-forward": {**DYNAMIC, "recurrent": False},
    "sampled": SAMPLED,
    "sampled cvar": {**SAMPLED, "risk_measure": "cvar", "alpha": 0.3},
    "sampled var": {**SAMPLED, "risk_measure": "var", "alpha": 0.3},
    "sampled mean-variance": {**SAMPLED, "risk_measure": "mean_variance"},
    "sampled, no hidden layer": {
        **SAMPLED,
        "quantile_hidden_layer": False,
        "acting_atoms": 5,
        "parameter_sharing": False,
    },
}


def write_artefact(folder, *, masks=True, stochastic=False, seed=3, **keys):
    """Writes an artefact of a random network; returns the network.

    The agents are ``a``, ``b`` and ``c``. ``c`` observes three numbers and has two
    actions; the others observe five numbers and have four actions.
    """
    network = make_network(seed, num_agents=3, num_actions=4, obs_size=5, **keys)
    static = isinstance(network.objective, Static)
    if static:
        network.objective.observe([-2.0, 2.0])
        network.objective.choose(0.5)
    traced = trace_team(network)
    agents = [("a", 5, 4), ("b", 5, 4), ("c", 3, 2)]
    record = {
        "format": FORMAT_VERSION,
        "algorithm": "QMIX",
        "stochastic": stochastic,
        "epsilon": 0.1 * stochastic,
        "contract": {
            "agents": [
                {"name": n, "obs_size": d, "num_actions": a} for n, d, a in agents
            ],
            "obs_size": 5,
            "num_actions": 4,
            "needs_mask": masks,
            "needs_return": static,
        },
        "first_action": traced.first_action,
        "networks": traced.networks,
    }
    folder.mkdir(exist_ok=True)
    (folder / TENSORS).write_bytes(save({"memory": traced.memory, **traced.tensors}))
    (folder / POLICY).write_text(as_json(record))
    write_manifest(folder, [POLICY, TENSORS])
    return network


def copy_of_first_format(folder):
    """Copies the artefact of format 1, for tests that damage it."""
    return Path(shutil.copytree(FIRST_FORMAT, folder / "team"))


def inputs(steps, *lead, seed=0):
    """Yields random observations and masks for the team of ``write_artefact``."""
    rng = np.random.default_rng(seed)
    own = np.arange(4) < np.array([4, 4, 2])[:, None]
    for _ in range(steps):
        obs = rng.normal(size=(*lead, 3, 5)).astype(np.float32)
        obs[..., 2, 3:] = 0.0  # padding
        mask = (rng.random((*lead, 3, 4)) < 0.6) & own
        mask[..., 0] = True
        yield obs, mask
