"""Writes a trained team as an artefact that acts without Ray and PyTorch.

:mod:`rllib_risk.deploy` reads the artefact. It holds numbers and names of operations,
but no code. The exported team must agree with the trained team on random inputs;
otherwise the artefact is deleted.
"""

from __future__ import annotations

import copy
import math
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save

from rllib_risk.config.schema import ConfigError
from rllib_risk.core.envs import start_env, variants_of
from rllib_risk.core.source_version import source_version
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.rows import DatasetError
from rllib_risk.deploy.acting import Team
from rllib_risk.deploy.errors import ArtefactError
from rllib_risk.deploy.files import (
    FORMAT_VERSION,
    POLICY,
    TENSORS,
    as_json,
    write_manifest,
)
from rllib_risk.networks.tracing import UntraceableError
from rllib_risk.ops.statistics import mean_interval
from rllib_risk.parts.acting import make_actor
from rllib_risk.parts.objectives.static import Static
from rllib_risk.parts.traced_team import TracedTeam, trace_team

if TYPE_CHECKING:
    from rllib_risk.core.algorithm import TeamAlgorithm
    from rllib_risk.core.policy import TeamPolicy

FORMATS = ("safetensors", "onnx")
# Comparison on random inputs: environments, steps, and tolerance of the utilities.
_TRIAL_ENVS, _TRIAL_STEPS, _TOLERANCE = 4, 12, 1e-4
# How the interval of the last evaluation's mean was computed.
_INTERVAL = (
    "mean +- t * return_std / sqrt(episodes), t the 0.975 quantile of Student's"
    " distribution with episodes - 1 degrees of freedom"
)


def export_team(
    algorithm: TeamAlgorithm,
    folder: Path,
    file_format: str = "safetensors",
    *,
    alpha: float | None = None,
) -> dict[str, Any]:
    """Writes a team's greedy policy, and its sampled policy if it is stochastic.

    Args:
        algorithm: Algorithm with the team. Its environment is built once, to read its
            spaces. Without an environment, action masks are read from the dataset.
        folder: Folder to write. It must be empty or not exist.
        file_format: ``safetensors`` or ``onnx``.
        alpha: Risk level of objective ``static`` for which the threshold was chosen.
            None: the configuration's.

    Returns:
        The contents of ``policy.json``.

    Raises:
        ConfigError: If the folder is not empty, a custom part cannot be exported, a
            team of objective ``static`` has no threshold, the exported team acts
            differently, ``onnx`` is not installed, or the dataset of a team that
            learned without an environment is missing or damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not empty; choose another folder.")
    policy = algorithm.team_policy
    try:
        traced = _trace(policy)
    except UntraceableError as error:
        raise ConfigError(str(error)) from error
    record = {
        "format": FORMAT_VERSION,
        "contract": _contract(algorithm, policy),
        "first_action": traced.first_action,
        **_of_policy(algorithm, policy, traced, alpha),
        "provenance": _provenance(algorithm),
    }
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _write(folder, record, traced, file_format)
        _compare(Team.load(folder, _TRIAL_ENVS), policy)
    except BaseException as error:
        shutil.rmtree(folder)
        if existed:
            folder.mkdir()
        if isinstance(error, ArtefactError):
            raise ConfigError(str(error)) from error
        raise
    return record


def _trace(policy: TeamPolicy) -> TracedTeam:
    network = policy.network
    if network.device.type != "cpu":
        network = copy.deepcopy(network).cpu()
    return trace_team(network, **policy.window())


def _write(
    folder: Path, record: dict[str, Any], traced: TracedTeam, file_format: str
) -> None:
    tensors = {"memory": traced.memory}
    names = [POLICY, TENSORS]
    if file_format == "onnx":
        files = _write_onnx(folder, record, traced)
        names += files
    else:
        record["networks"] = traced.networks
        tensors |= traced.tensors
    (folder / TENSORS).write_bytes(save(tensors))
    (folder / POLICY).write_text(as_json(record), encoding="utf-8")
    write_manifest(folder, names)


def _write_onnx(folder: Path, record: dict[str, Any], traced: TracedTeam) -> list[str]:
    try:
        import onnx

        from rllib_risk.deploy.onnx_export import OPSET, to_onnx
    except ImportError as error:
        raise ConfigError(
            "--format onnx needs the package onnx, and onnxruntime to try the result:"
            ' pip install "rllib-risk[onnx]".'
        ) from error
    contract = record["contract"]
    sizes = {
        "obs": contract["obs_size"],
        "action_mask": contract["num_actions"],
        "memory": traced.memory.shape[1],
    }
    names = [agent["name"] for agent in contract["agents"]]
    shared = len(traced.networks) == 1
    files = []
    for k, network in enumerate(traced.networks):
        files.append("team.onnx" if shared else f"agent_{k}.onnx")
        title = "team" if shared else names[k]
        onnx.save(to_onnx(network, traced.tensors, sizes, title), folder / files[-1])
    record["onnx"] = {"files": files, "opset": OPSET, "onnx": onnx.__version__}
    return files


def _contract(algorithm: TeamAlgorithm, policy: TeamPolicy) -> dict[str, Any]:
    """Returns the contract; see :class:`rllib_risk.deploy.contract.Contract`."""
    network, config = policy.network, algorithm.config
    needs_return = isinstance(network.objective, Static)
    obs_size = network.sizes.obs_size - needs_return
    agents: list[dict[str, Any]]
    if config.env is None:  # a run that learned from a dataset alone
        agents, needs_mask = _agents_of(config.open_dataset(), obs_size)
    else:
        env = start_env(variants_of(config)[0])
        try:
            env.reset(seed=0)  # shows whether infos hold masks
            agents, needs_mask = env.describe_agents(), env.masks.source != "none"
        finally:
            env.close()
    for agent in agents:
        for key in ("observation_low", "observation_high"):
            if key in agent:
                finite = [x if math.isfinite(x) else None for x in agent[key]]
                agent[key] = finite
    return {
        "agents": agents,
        "obs_size": obs_size,
        "num_actions": network.sizes.num_actions,
        "needs_mask": needs_mask,
        "needs_return": needs_return,
    }


def _agents_of(dataset: Dataset, obs_size: int) -> tuple[list[dict[str, Any]], bool]:
    """Returns the agents of a dataset, and whether their actions are masked.

    Actions after the last one that was ever available to an agent are padding. If any
    other action is unavailable in a step, the environment masks actions.

    Raises:
        ConfigError: If the dataset cannot be read.
    """
    try:
        ever, always = dataset.availability()
    except DatasetError as error:
        raise ConfigError(f"dataset: {error}.") from error
    exists = np.flip(np.maximum.accumulate(np.flip(ever, -1), -1), -1)
    agents = [
        {"name": name, "obs_size": obs_size, "num_actions": int(own.sum())}
        for name, own in zip(dataset.card.agents, exists, strict=True)
    ]
    return agents, bool((exists & ~always).any())


def _of_policy(
    algorithm: TeamAlgorithm,
    policy: TeamPolicy,
    traced: TracedTeam,
    alpha: float | None,
) -> dict[str, Any]:
    """Describes the policy: algorithm, exploration, memory, risk."""
    config, network = algorithm.config, policy.network
    if alpha is not None:
        config = config.copy(copy_frozen=False)
        config.alpha = alpha
    share = policy.epsilon_at(algorithm.env_steps) if policy.stochastic else 0.0
    risk: dict[str, Any] = {
        "objective": config.objective,
        "means": type(network.objective).risk(config),
        "levels": [float(level) for level in network.risk.levels],
        "predicted": network.level.predicted,
    }
    if isinstance(network.objective, Static):
        risk |= {
            "alpha": config.alpha,
            "threshold": network.objective.threshold,
            "return_discount": config.gamma,
        }
    return {
        "algorithm": type(algorithm).__name__,
        "stochastic": policy.stochastic,
        "epsilon": share,
        "memory_size": traced.memory.shape[1],
        "window": policy.window(),
        "risk": risk,
    }


def _provenance(algorithm: TeamAlgorithm) -> dict[str, Any]:
    """Returns the origin of the team: code, data, seeds, and the last evaluation."""
    config = algorithm.config
    ours = source_version()
    trained = algorithm.restored_versions or ours
    log = config.open_dataset() if getattr(config, "dataset", None) else None
    evaluated = algorithm.evaluation_config or config
    return {
        # Checkpoints of earlier versions do not hold a commit.
        "training": {key: trained.get(key) for key in ours},
        "export": {
            **ours,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "env": config.env,
        "env_config": config.env_config,
        # Evaluations may play in other settings, or in another environment.
        "evaluation": {"env": evaluated.env, "env_config": evaluated.env_config},
        "dataset": None
        if log is None
        else {"folder": str(log.folder), "content_hash": log.card.content_hash},
        "seeds": {
            "training": config.seed,
            # The environment seeds of evaluations follow from this seed. They are
            # never those of training.
            "evaluation": config.seed,
            "dataset": None if log is None else log.card.seed,
        },
        "env_steps": algorithm.env_steps,
        "iteration": algorithm.iteration,
        "last_evaluation": _last_evaluation(algorithm),
    }


def _last_evaluation(algorithm: TeamAlgorithm) -> dict[str, Any] | None:
    """Returns the statistics of the last evaluation, with an interval of the mean."""
    found = {
        key: value
        for key, value in algorithm._last_evaluation.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }
    if not found:
        return None
    # Checkpoints of earlier versions do not hold the standard deviation.
    interval = None
    if found.get("return_std") is not None:
        interval = mean_interval(
            found["return_mean"], found["return_std"], int(found["episodes"])
        )
    return {
        **found,
        "age_iterations": algorithm._evaluation_age,
        "return_mean_ci95": interval and list(interval),
        "return_mean_ci95_method": None if interval is None else _INTERVAL,
    }


def _compare(team: Team, policy: TeamPolicy) -> None:
    """Checks that the exported team acts like the trained team.

    Raises:
        ConfigError: If utilities differ on random inputs.
    """
    network = policy.network
    objective, sizes = network.objective, network.sizes
    actor = make_actor(network, _TRIAL_ENVS, **policy.window())
    rng = np.random.default_rng(0)
    contract = team.artefact.contract
    own = contract.own_actions()
    shape = (_TRIAL_ENVS, sizes.num_agents)
    for _ in range(_TRIAL_STEPS):
        seen = rng.normal(size=(*shape, contract.obs_size)).astype(np.float32)
        mask = (rng.random((*shape, sizes.num_actions)) < 0.7) & own
        mask[..., 0] = True
        extra: Mapping[str, Any] = {}
        shown = seen
        if isinstance(objective, Static):
            returns = rng.normal(size=_TRIAL_ENVS)
            extra = {"return_so_far": returns}
            beside = objective.shown(returns - objective.chosen_threshold())
            beside = np.broadcast_to(beside[:, None, None], (*shape, 1))
            shown = np.concatenate([seen, beside], axis=-1, dtype=np.float32)
        theirs, _ = actor.act(shown, mask.astype(np.uint8))
        ours = team.act(seen, mask, **extra)
        expected, found = theirs[mask], team.utilities[mask]
        if not np.allclose(expected, found, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ConfigError(
                "The exported team differs from the trained one by"
                f" {np.abs(expected - found).max():.2g}: a part of your own has a"
                " one_step(xp) that computes something else than its forward()."
            )
        actor.remember(ours)
