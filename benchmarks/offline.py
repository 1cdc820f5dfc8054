"""Measures one offline update of MA-CCQR on ``uav`` against plain PyTorch without Ray.

The reference is a simple script with arrays of transitions, an index per minibatch and
two networks per agent. Its update has the sum over agents, the quantile Huber loss, the
penalty, clipping, Adam and Polyak targets. First both start from the same weights and
learn from the same minibatches. All parameters must then agree within 1e-4. After that
both run in turns, so that other work on the machine affects both.

Run: ``python benchmarks/offline.py``
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import ray
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rllib_risk
from rllib_risk.algorithms.ma_cqr import MACQRConfig
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.dataset import Dataset, write_dataset
from rllib_risk.env_wrappers.scripted import reference_policies

GAMMA, KAPPA, WEIGHT, TAU, CLIP = 0.99, 1.0, 1.0, 5e-3, 1.0
EPISODES, BATCH = 48, 128


class Plain:
    """MA-CCQR without Ray."""

    def __init__(self, policy: ValuePolicy, seed: int) -> None:
        """Copies the policy's networks."""
        self.online = self._copy(policy.network)
        self.target = self._copy(policy.target_network)
        self.parameters = [p for net in self.online for p in net.parameters()]
        self.adam = torch.optim.Adam(self.parameters, 1e-4)
        self.shape = (policy.network.sizes.num_actions, policy.network.num_atoms)
        self.rng = np.random.default_rng(seed)

    @staticmethod
    def _copy(network: nn.Module) -> list[nn.Sequential]:
        return [
            nn.Sequential(
                *copy.deepcopy([a.encoder.fc1, nn.ReLU(), a.encoder.body, nn.ReLU()]),
                copy.deepcopy(a.head),
            )
            for a in network.agents
        ]

    def load(self, dataset: Dataset) -> None:
        """Concatenates the transitions of all episodes."""
        episodes = list(dataset.episodes())
        self.states = np.concatenate([e.state[:-1] for e in episodes])
        self.next_states = np.concatenate([e.state[1:] for e in episodes])
        self.actions = np.concatenate([e.actions for e in episodes]).astype(np.int64)
        self.rewards = np.concatenate([e.rewards for e in episodes])

    def update(self, rows: np.ndarray | None = None) -> None:
        """Makes one update on the given transitions; None: random transitions."""
        if rows is None:
            rows = self.rng.integers(len(self.rewards), size=BATCH)
        state = torch.from_numpy(self.states[rows])
        after = torch.from_numpy(self.next_states[rows])
        actions = torch.from_numpy(self.actions[rows])
        rewards = torch.from_numpy(self.rewards[rows])
        atoms = [net(state).unflatten(-1, self.shape) for net in self.online]
        taken = sum(self._taken(q, actions[:, i]) for i, q in enumerate(atoms))
        with torch.no_grad():
            later = [net(after).unflatten(-1, self.shape) for net in self.target]
            best = sum(self._taken(q, q.mean(-1).argmax(-1)) for q in later)
            targets = rewards[:, None] + GAMMA * best
        m = self.shape[1]
        levels = (torch.arange(m) + 0.5) / m
        delta = targets[:, None, :] - taken[:, :, None]
        huber = F.huber_loss(
            delta, torch.zeros_like(delta), reduction="none", delta=KAPPA
        )
        weights = (levels[:, None] - (delta.detach() < 0).float()).abs()
        loss = (weights * huber / KAPPA).sum((1, 2)).mean() / (2 * m * m)
        penalty = sum(
            (q.logsumexp(1) - self._taken(q, actions[:, i])).mean()
            for i, q in enumerate(atoms)
        )
        self.adam.zero_grad()
        (loss + WEIGHT * penalty).backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.adam.step()
        with torch.no_grad():
            for slow, fast in zip(self.target, self.online, strict=True):
                for p, q in zip(slow.parameters(), fast.parameters(), strict=True):
                    p.lerp_(q, TAU)

    @staticmethod
    def _taken(atoms: Tensor, actions: Tensor) -> Tensor:
        return atoms[torch.arange(len(actions)), actions]


def main() -> None:
    """Prints milliseconds per update and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--updates", type=int, default=250, help="updates per turn (default 250)"
    )
    parser.add_argument(
        "--turns", type=int, default=8, help="number of turns (default 8)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    rllib_risk.register()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        config = TeamConfig().environment("uav")
        player = scripted_player(reference_policies("uav")["greedy"], 0.05)
        write_dataset(
            path,
            record(config, [player], EPISODES, seed=0),
            env="uav",
            env_config={},
            agents=["uav_0", "uav_1"],
            behaviour={"policy": "greedy"},
            seed=0,
        )
        algorithm = (
            MACQRConfig()
            .environment("uav")
            .training(dataset=str(path), updates_per_iteration=arguments.updates)
            .evaluation(evaluation_interval=0)
            .debugging(seed=0)
            .build_algo()
        )
        plain = Plain(algorithm.team_policy, seed=0)
        plain.load(Dataset(path))
        agree(algorithm, plain)
        ours, theirs = [], []
        for _ in range(arguments.turns):
            start = time.process_time()
            algorithm.train()
            ours.append(time.process_time() - start)
            start = time.process_time()
            for _ in range(arguments.updates):
                plain.update()
            theirs.append(time.process_time() - start)
        algorithm.stop()
    scale = 1e3 / arguments.updates
    for name, seconds in (("ours, in the training loop", ours), ("plain", theirs)):
        print(f"{name:<28} {statistics.median(seconds) * scale:6.2f} ms per update")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"{'ratio':<28} {statistics.median(ratios):6.2f}")
    ray.shutdown()


def agree(algorithm: rllib_risk.core.algorithm.TeamAlgorithm, plain: Plain) -> None:
    """Checks that ten updates on the same transitions give the same weights."""
    policy, replay = algorithm.team_policy, algorithm.replay
    for _ in range(10):
        batch = replay.sample_sequences(BATCH, 1, 0)
        rows = [
            np.flatnonzero(
                (plain.states == before).all(1) & (plain.next_states == after).all(1)
            )[0]
            for before, after in batch["state"]
        ]
        policy.learn_on_batch(batch)
        policy.update_target(TAU)
        plain.update(np.array(rows))
    for network, nets in (
        (policy.network, plain.online),
        (policy.target_network, plain.target),
    ):
        for agent, net in zip(network.agents, nets, strict=True):
            ours = [*agent.encoder.parameters(), *agent.head.parameters()]
            for p, q in zip(ours, net.parameters(), strict=True):
                torch.testing.assert_close(p, q, atol=1e-4, rtol=0)


if __name__ == "__main__":
    main()
