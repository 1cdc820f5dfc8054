"""Estimates the behaviour policy of a log by cloning.

One network for all agents maps an agent's observation, previous action and index to
probabilities of its actions. Training stops at the lowest held-out cross-entropy. Then
a temperature and the share of a uniform policy are fitted to the held-out episodes.
They calibrate the probabilities and give every available action a positive one. The
agents are assumed to act independently, given their observations.

Source: Hanna, Niekum and Stone (2021), "Importance Sampling in Reinforcement Learning
with an Estimated Behavior Policy"; Guo et al. (2017), "On Calibration of Modern Neural
Networks", temperature scaling.

Letters: ``M`` steps of all episodes, ``N`` agents, ``A`` actions, ``I`` input size.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.core.off_policy.log import Log
from rllib_risk.ops.ratio_terms import Floats

_HIDDEN = 64
_LEARNING_RATE = 1e-3
_BATCH = 512
_EPOCHS = 60
_MIN_UPDATES = 400
_PATIENCE = 3
_HELD_OUT = 0.2
_TEMPERATURES = np.geomspace(0.5, 3.0, 25)
# Shares of the uniform policy. The lowest keeps every available action possible.
_CHANCES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_BINS = 10
# Steps of one forward pass without gradients.
_BLOCK = 2**14


@dataclass(frozen=True)
class Behaviour:
    """An estimate of the behaviour policy.

    Attributes:
        probabilities: Probability of every action in every step, float64 ``[M, N, A]``.
        cross_entropy: Mean of ``-log b`` over agents and held-out steps, in nats.
        calibration_error: Mean gap between predicted and observed probability over
            held-out steps, in ten bins of the predicted probability.
    """

    probabilities: Floats
    cross_entropy: float
    calibration_error: float


def clone_behaviour(log: Log, *, seed: int = 0) -> Behaviour:
    """Estimates the behaviour policy of a log.

    Args:
        log: At least two episodes.
        seed: Seed of the held-out episodes, the network and its batches.

    Returns:
        The estimate.

    Raises:
        ValueError: If there is only one episode.
    """
    if len(log.lengths) < 2:
        raise ValueError("cloning needs two episodes: one is held out")
    generator = torch.Generator().manual_seed(seed)
    number = len(log.lengths)
    order = torch.randperm(number, generator=generator).numpy()
    held_episodes = np.zeros(number, bool)
    held_episodes[order[: max(int(_HELD_OUT * number), 1)]] = True
    held = torch.from_numpy(held_episodes[log.episode])
    inputs, legal = _inputs(log), torch.from_numpy(log.action_mask != 0)
    actions = torch.from_numpy(log.actions)
    net = _fit(inputs, legal, actions, held, generator)
    with torch.no_grad():
        logits = torch.cat([net(part) for part in _parts(inputs, _BLOCK)])
    logits = logits.masked_fill(~legal, -torch.inf).double()
    temperature, chance = _calibrate(logits[held], legal[held], actions[held])
    probabilities = _mixed(logits, legal, temperature, chance)
    taken = probabilities.gather(-1, actions[..., None])
    return Behaviour(
        probabilities.numpy(),
        float(-taken[held].log().mean()),
        _calibration_error(probabilities[held], actions[held], legal[held]),
    )


def _inputs(log: Log) -> Tensor:
    """Builds the inputs of the network for each agent, float32 ``[M, N, I]``."""
    rows, agents, size = log.action_mask.shape
    previous = np.zeros((rows, agents, size), np.float32)
    before = np.eye(size, dtype=np.float32)[log.actions[:-1]]
    previous[1:] = before * (log.time[1:] > 0)[:, None, None]
    spread = log.obs.std((0, 1))
    obs = (log.obs - log.obs.mean((0, 1))) / np.where(spread > 1e-6, spread, 1.0)
    ids = np.broadcast_to(np.eye(agents, dtype=np.float32), (rows, agents, agents))
    return torch.from_numpy(
        np.concatenate([obs, previous, ids], axis=-1, dtype=np.float32)
    )


def _fit(
    inputs: Tensor,
    legal: Tensor,
    actions: Tensor,
    held: Tensor,
    generator: torch.Generator,
) -> nn.Module:
    """Trains until the held-out cross-entropy no longer falls."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        net = nn.Sequential(
            nn.Linear(inputs.shape[-1], _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, legal.shape[-1]),
        )
    adam = torch.optim.Adam(net.parameters(), _LEARNING_RATE)
    train = torch.nonzero(~held).squeeze(-1)

    def loss(rows: Tensor) -> Tensor:
        logits = net(inputs[rows]).masked_fill(~legal[rows], -torch.inf)
        return F.cross_entropy(logits.flatten(0, 1), actions[rows].flatten())

    held_rows = torch.nonzero(held).squeeze(-1)
    least, best, waited = torch.inf, copy.deepcopy(net.state_dict()), 0
    per_epoch = -(-len(train) // _BATCH)
    # An epoch of a small log is too short to show progress.
    repeats = max(-(-_MIN_UPDATES // (per_epoch * _PATIENCE)), 1)
    for _ in range(_EPOCHS):
        for _ in range(repeats):
            shuffled = train[torch.randperm(len(train), generator=generator)]
            for rows in _parts(shuffled, _BATCH):
                adam.zero_grad()
                torch.autograd.backward(loss(rows))
                adam.step()
        with torch.no_grad():
            parts = _parts(held_rows, _BLOCK)
            now = sum(float(loss(p)) * len(p) for p in parts) / len(held_rows)
        if now < least - 1e-4:
            least, best, waited = now, copy.deepcopy(net.state_dict()), 0
        else:
            waited += 1
        if waited == _PATIENCE:
            break
    net.load_state_dict(best)
    return net


def _parts(rows: Tensor, size: int) -> list[Tensor]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _mixed(logits: Tensor, legal: Tensor, temperature: float, chance: float) -> Tensor:
    """``(1 - c) softmax(logits / temperature) + c / (legal actions)``."""
    uniform = legal / legal.sum(-1, keepdim=True)
    return (1.0 - chance) * (logits / temperature).softmax(-1) + chance * uniform


def _calibrate(logits: Tensor, legal: Tensor, actions: Tensor) -> tuple[float, float]:
    """Finds the temperature and uniform share with the lowest cross-entropy."""
    found = {}
    for temperature in _TEMPERATURES.tolist():
        for chance in _CHANCES:
            mixed = _mixed(logits, legal, temperature, chance)
            taken = mixed.gather(-1, actions[..., None])
            found[float(-taken.log().mean())] = temperature, chance
    return found[min(found)]


def _calibration_error(probabilities: Tensor, actions: Tensor, legal: Tensor) -> float:
    """Computes the expected calibration error over all available actions."""
    happened = F.one_hot(actions, probabilities.shape[-1])[legal].double().numpy()
    stated = probabilities[legal].numpy()
    bins = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, stated - happened, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(stated))
