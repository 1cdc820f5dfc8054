"""Compares robust VDN and QMIX, for contamination and total variation."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from official.common import (
    ACTIONS,
    AGENTS,
    OBS,
    STATE,
    UPDATES,
    Case,
    Names,
    Pair,
    make_policy,
)

WINDOW, ROWS, RHO = 8, 64, 0.2


class Stub(ModuleType):
    """Replaces a module that updates do not need, such as the environment's."""

    def __getattr__(self, name: str) -> None:
        """Returns None for every name."""
        if name.startswith("__"):
            raise AttributeError(name)


def windows(seed: int, ends: bool) -> dict[str, np.ndarray]:
    """Returns windows of 8 steps; only the last step has a loss.

    Every third window begins with padding.
    """
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(ROWS, WINDOW + 1, AGENTS, OBS)).astype(np.float32)
    actions = rng.integers(ACTIONS, size=(ROWS, WINDOW, AGENTS))
    previous = rng.integers(ACTIONS, size=(ROWS, AGENTS))
    first = np.full(ROWS, 10)
    for row in range(0, ROWS, 3):
        padding = rng.integers(1, WINDOW)
        obs[row, :padding] = actions[row, :padding] = previous[row] = 0
        first[row] = -padding
    terminateds = np.zeros((ROWS, WINDOW), np.float32)
    terminateds[:, -1] = (rng.random(ROWS) < 0.2) * ends
    mask = np.zeros((ROWS, WINDOW), np.float32)
    mask[:, -1] = 1
    return {
        "obs": obs,
        "state": rng.normal(size=(ROWS, WINDOW + 1, STATE)).astype(np.float32),
        "action_mask": np.ones((ROWS, WINDOW + 1, AGENTS, ACTIONS), np.uint8),
        "actions": actions,
        "rewards": rng.normal(size=(ROWS, WINDOW)).astype(np.float32),
        "terminateds": terminateds,
        "mask": mask,
        "previous": previous,
        "first": first,
    }


def transitions(batch: dict[str, np.ndarray]) -> list[tuple]:
    """Returns the windows as entries of the released replay."""
    obs, actions, state = batch["obs"], batch["actions"], batch["state"]
    history = np.concatenate([batch["previous"][:, None], actions], axis=1)
    agents = range(AGENTS)
    return [
        (
            [obs[b, :WINDOW, i] for i in agents],
            [history[b, :WINDOW, i] for i in agents],
            actions[b, -1].tolist(),
            float(batch["rewards"][b, -1]),
            [obs[b, 1:, i] for i in agents],
            [history[b, 1:, i] for i in agents],
            bool(batch["terminateds"][b, -1]),
            state[b, WINDOW - 1],
            state[b, WINDOW],
        )
        for b in range(ROWS)
    ]


def make_learner(module: str, name: str) -> Any:
    """Builds the released learner without environment and replay."""
    made = getattr(importlib.import_module(f"algorithms.{module}"), name)
    config = importlib.import_module("configs.config")
    learner = made.__new__(made)
    learner.rho_value, learner.device, learner.global_step = RHO, "cpu", 0
    sizes = {"obs_dim": OBS, "state_dim": STATE, "batch_size": ROWS}
    learner.network_params = {**config.get_network_params(), **sizes}
    learner.agent_info = {
        "n_agents": AGENTS,
        "n_actions": ACTIONS,
        "obs_dims": [OBS] * AGENTS,
    }
    learner.q_nets, learner.target_nets = learner._initialize_networks()
    if hasattr(learner, "_initialize_mixers"):
        learner.mixer, learner.target_mixer = learner._initialize_mixers()
    else:
        learner.mixer = lambda values: values.sum(dim=-2)
    if hasattr(learner, "_initialize_g_network"):
        learner.g_net = learner._initialize_g_network()
    if module == "qmix":
        learner.optimizer = learner._initialize_optimizer()
    elif module == "qmix_g":
        both = learner._initialize_optimizers()
        learner.all_optimizer, learner.g_optimizer = both
    else:
        learner.optimizers = learner._initialize_optimizers()

    def keep(loss: Tensor, *_: Any) -> None:
        learner.loss = loss.item()

    # The learners log at step 0, and the counter stays at 0.
    learner._log_training_progress = learner._log_q_training_progress = keep
    learner._log_g_training_progress = keep
    return learner


def robust_pairs(learner: Any, policy: Any) -> tuple[Pair, ...]:
    """Returns the pairs of online, target and, if there is one, dual networks."""
    names: Names = [
        (r"mixer\.hyper_w_1\.(.*)", r"mixer.hyper_w1.0.\1"),
        (r"mixer\.hyper_b_1\.(.*)", r"mixer.hyper_b1.\1"),
        (r"mixer\.hyper_w_final\.(.*)", r"mixer.hyper_w2.0.\1"),
        (r"mixer\.V\.(.*)", r"mixer.value.\1"),
    ]
    for k in range(AGENTS):
        names += [
            (rf"agent{k}\.fc1\.(.*)", rf"agents.{k}.encoder.fc1.\1"),
            (rf"agent{k}\.lstm\.(.*)", rf"agents.{k}.encoder.body.\1"),
            (rf"agent{k}\.fc_out\.(.*)", rf"agents.{k}.head.\1"),
        ]
    pairs = []
    for nets, mixer, network in (
        (learner.q_nets, "mixer", policy.network),
        (learner.target_nets, "target_mixer", policy.target_network),
    ):
        theirs = {f"agent{k}": net for k, net in enumerate(nets)}
        if isinstance(getattr(learner, mixer, None), nn.Module):
            theirs["mixer"] = getattr(learner, mixer)
        pairs.append(Pair(theirs, {"": network}, names))
    if policy.dual is not None:
        layers = {"state": "state", "joint_action": "joint"}
        layers |= {"combined": "hidden", "output": "output"}
        rules = [(rf"dual\.{a}_fc\.(.*)", rf"dual.{b}.\1") for a, b in layers.items()]
        pairs.append(Pair({"dual": learner.g_net}, {"dual": policy.dual}, rules))
    return tuple(pairs)


def compare_robust() -> None:
    """Compares the preset ``paper`` of RobustVDN and RobustQMIX.

    With total variation, no episode ends: there the released code treats terminal steps
    differently and never stores one.
    """
    for module in ("environments.env_utils", "utils.evaluation"):
        sys.modules[module] = Stub(module)
    for mixer, name in (("vdn", "RobustVDN"), ("qmix", "RobustQMIX")):
        keys: dict[str, Any] = {"preset": "paper", "rho": RHO}
        learner = make_learner(mixer, f"Robust{mixer.upper()}")
        policy = make_policy(name, target="contamination", **keys)
        values, *others = robust_pairs(learner, policy)
        case = Case(f"{name}, contamination", [values, *others])
        for step in range(UPDATES):
            batch = windows(step, ends=True)
            learner.buffer = buffer_of(batch)
            learner._update_networks()
            case.add(learner.loss, policy.learn_on_batch(batch)["td_loss"])
        case.show()
        learner = make_learner(f"{mixer}_g", f"Robust{mixer.upper()}G")
        policy = make_policy(name, dual_loss="squared_released", **keys)
        spread(policy, windows(0, ends=False))
        values, targets, dual = robust_pairs(learner, policy)
        case = Case(f"{name}, total variation", [values, targets, dual])
        dual_case = Case(f"{name}, its dual variable", [dual])
        for step in range(2 * UPDATES):
            batch = windows(step, ends=False)
            learner.buffer = buffer_of(batch)
            if step % 2 == 0:
                learner._update_g_network()
                stats = policy.learn_dual_on_batch(batch, 0)
                if not 0.0 < stats["dual_coverage"] < 1.0:
                    raise ValueError(
                        f"the dual variable is on one side of all next values: {stats}"
                    )
                dual_case.add(learner.loss, stats["dual_loss"])
            else:
                learner._update_q_networks()
                case.add(learner.loss, policy.learn_on_batch(batch)["td_loss"])
        case.show()
        dual_case.show()


@torch.no_grad()
def spread(policy: Any, batch: dict[str, np.ndarray]) -> None:
    """Scales the dual variable so that it is below some next values and above others.

    If it is below all of them, neither loss depends on them.
    """
    tensors = policy.tensors(batch)
    state, actions = tensors.state[:, [-2]], tensors.actions[:, [-1]]
    target = policy.target_network
    inputs = target.inputs(tensors.obs, tensors.actions, tensors.previous)
    following = target.unroll(inputs[:, 1:]).at(slice(-1, None))
    greedy = target.greedy_actions(following, tensors.action_mask[:, [-1]])
    values = target.values_of(
        following, greedy, tensors.state[:, [-1]], tensors.action_mask[:, [-1]]
    )
    # The spread is larger than the changes in the few updates of a comparison.
    policy.dual.output.weight.mul_(0.3 / policy.dual(state, actions).std())
    policy.dual.output.bias.add_((values - policy.dual(state, actions)).mean())


def buffer_of(batch: dict[str, np.ndarray]) -> SimpleNamespace:
    """Returns a replay that always samples these windows."""
    entries = transitions(batch)
    return SimpleNamespace(is_ready=lambda _: True, sample=lambda _: entries)
