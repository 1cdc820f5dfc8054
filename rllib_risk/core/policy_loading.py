"""Loads the policy of a checkpoint without its algorithm.

This needs no running Ray, no environment and no replay. The caller gives the sizes of
the team, for example from the card of a dataset. The loaded policy acts like the policy
of the algorithm.
"""

from __future__ import annotations

from pathlib import Path

from rllib_risk.core import checkpoint as ckpt
from rllib_risk.core import ray_internals
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.record import from_record
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.env_wrappers.team_env import team_spaces
from rllib_risk.parts.objectives.static import Static


def load_policy(
    folder: Path, sizes: TeamSizes, *, trust_code: bool = False
) -> TeamPolicy:
    """Builds the policy of a checkpoint with its weights, schedules and threshold.

    Args:
        folder: Folder of a verified checkpoint.
        sizes: Sizes of the team with which the policy was trained.
        trust_code: Whether code that the checkpoint names may be imported and called.

    Returns:
        The policy, on the CPU.

    Raises:
        CheckpointError: If the checkpoint was written for other sizes, has contents
            that this version does not write, or names code that is not trusted.
    """
    with ckpt.reading(folder):
        record = ckpt.read_config(folder)
        state = ckpt.read_state(folder)
        config = from_record(record, trust_code=trust_code)
        config.num_gpus = 0
        spaces = team_spaces(sizes)
        policy: TeamPolicy = config.algo_class.get_default_policy_class(config)(
            *spaces, config.to_dict()
        )
        tensors = {
            f"{name}.{key}": tensor
            for name, module in policy.modules().items()
            for key, tensor in module.named_parameters()
        }
        ckpt.load_parameters(folder, tensors)
        objective = policy.network.objective
        if isinstance(objective, Static):
            objective.load(state["objective"])
        # Schedules follow the trained steps with a dataset, else the sampled steps.
        learned = record["config"].get("dataset") is not None
        steps = ray_internals.counted_steps(state["counters"], trained=learned)
        policy.on_global_var_update({"timestep": steps})
    return policy
