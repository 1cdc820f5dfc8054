"""Measures one RMIX update at the size of 5m_vs_6m against a step-by-step reference.

The reference works like the released code. It has a ``GRUCell`` in a loop over time, a
full ``torch.sort`` of the atoms of all actions at every step, and cumulative sums for
all risk levels. It forms all atoms of the history branch, and for quantile regression
an ``M x M`` tensor per step and agent. It computes the same mathematics as our policy,
without the mistakes of the released code. It starts from a copy of the same weights,
and its loss must equal ours to a relative 1e-5. Then both make whole steps in turns:
forward, backward, clip, optimizer step.

Run: ``python benchmarks/update.py``
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.algorithms.rmix import RMIXConfig
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.networks.agent import AgentNetwork
from rllib_risk.networks.encoders import Encoder
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.mixers import MixerInputs
from rllib_risk.parts.team import TeamNetwork

# B episodes, T steps, N agents, A actions, D observation, S state, M atoms, K levels.
B, T, N, A, D, S, M, K = 32, 70, 5, 12, 55, 98, 100, 10
H = 64


def random_episodes(rng: np.random.Generator) -> list[Episode]:
    """Returns episodes of random lengths with random legal actions.

    Args:
        rng: Random generator.

    Returns:
        The episodes.
    """
    episodes = []
    for b in range(B):
        steps = T if b == 0 else int(rng.integers(T // 3, T + 1))
        action_mask = (rng.random((steps + 1, N, A)) < 0.6).astype(np.uint8)
        action_mask[..., 0] = 1
        noise = rng.random((steps, N, A)) * action_mask[:-1]
        episodes.append(
            Episode(
                obs=rng.standard_normal((steps + 1, N, D)).astype(np.float32),
                state=rng.standard_normal((steps + 1, S)).astype(np.float32),
                action_mask=action_mask,
                actions=noise.argmax(axis=-1).astype(np.int16),
                rewards=rng.standard_normal(steps).astype(np.float32),
                terminated=bool(b % 2),
                risk_levels=np.ones((steps, N), np.float32),
            )
        )
    return episodes


def make_policy() -> ValuePolicy:
    """Builds our policy, with a target network that differs from the online one."""
    torch.manual_seed(0)
    team = spaces.Dict(
        obs=spaces.Box(-np.inf, np.inf, (N, D), np.float32),
        state=spaces.Box(-np.inf, np.inf, (S,), np.float32),
        action_mask=spaces.Box(0, 1, (N, A), np.uint8),
    )
    config = RMIXConfig().training(qr_gate="step", num_atoms=M, risk_levels=K)
    policy = ValuePolicy(team, spaces.MultiDiscrete([A] * N), config.to_dict())
    with torch.no_grad():
        for parameter in policy.target_network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy


class ReferenceAgents(nn.Module):
    """The agents one step at a time, with the weights of a :class:`TeamNetwork`."""

    def __init__(self, network: TeamNetwork) -> None:
        """Initializes the agents and the mixer with copies of a network's weights.

        Args:
            network: The network.
        """
        super().__init__()
        agent = copy.deepcopy(network.agents[0])
        assert isinstance(agent, AgentNetwork) and agent.predictor is not None
        assert agent.predictor.embed_current is not None
        self.fc1, self.gru = _cell(agent.encoder)
        self.fc2 = agent.head
        self.history_fc1, self.history_gru = _cell(agent.predictor.history)
        self.embed_current = agent.predictor.embed_current
        self.embed_history = agent.predictor.embed_history
        self.mixer = copy.deepcopy(network.mixer)
        kept = [-(-k * M // K) for k in range(1, K + 1)]
        self.register_buffer("kept", torch.tensor(kept))

    kept: Tensor

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Computes all steps of a batch.

        Args:
            batch: The batch.

        Returns:
            CVaR of all actions ``[B, T+1, N, A]``, with a straight-through gradient for
            the chosen risk level, and all atoms ``[B, T+1, N, A, M]``.
        """
        hidden = batch.obs.new_zeros(B * N, H)
        history = batch.obs.new_zeros(B * N, H)
        previous = None
        values, atoms = [], []
        for t in range(batch.obs.shape[1]):
            last = torch.zeros(B, N, A)
            if t > 0:
                last = F.one_hot(batch.actions[:, t - 1], A).float()
            ids = torch.eye(N).expand(B, N, N)
            inputs = torch.cat([batch.obs[:, t], last, ids], dim=-1).flatten(0, 1)
            past = inputs if previous is None else previous
            previous = inputs
            hidden = self.gru(F.relu(self.fc1(inputs)), hidden)
            current = self.fc2(hidden).flatten(1)  # [B N, A M]
            history = self.history_gru(F.relu(self.history_fc1(past)), history)
            expected = F.linear(
                history, self.fc2.weight.detach(), self.fc2.bias.detach()
            )
            query = self.embed_current(current.detach())  # [B N, d]
            keys = self.embed_history(expected).view(B * N, -1, K)
            probs = (torch.bmm(query.unsqueeze(1), keys).squeeze(1) / H**0.5).softmax(
                -1
            )
            theta = current.view(B, N, A, M)
            values.append(self.cvar(theta, probs.view(B, N, K)))
            atoms.append(theta)
        return torch.stack(values, dim=1), torch.stack(atoms, dim=1)

    def cvar(self, theta: Tensor, probs: Tensor) -> Tensor:
        """Returns CVaR ``[B, N, A]`` of the atoms at the most likely risk level."""
        sums = torch.sort(theta, dim=-1).values.cumsum(dim=-1)
        levels = sums[..., self.kept - 1] / self.kept  # [B, N, A, K]
        choice = probs.argmax(dim=-1)[..., None, None].expand(B, N, A, 1)
        hard = levels.gather(-1, choice).squeeze(-1)
        soft = (probs.unsqueeze(-2) * levels.detach()).sum(dim=-1)
        return hard + soft - soft.detach()


def _cell(encoder: Encoder) -> tuple[nn.Linear, nn.GRUCell]:
    cell = nn.GRUCell(H, H)
    weights = list(encoder.body.parameters())
    with torch.no_grad():
        for mine, theirs in zip(cell.parameters(), weights, strict=True):
            mine.copy_(theirs)
    return encoder.fc1, cell


class Reference:
    """Both steps of the reference, each with its own Adam as in the released code."""

    def __init__(self, policy: ValuePolicy) -> None:
        """Initializes with a policy's weights and settings.

        Args:
            policy: Our policy.
        """
        self.config = policy.config
        self.online = ReferenceAgents(policy.network)
        self.target = ReferenceAgents(policy.target_network)
        parameters = list(self.online.parameters())
        c = policy.config
        self.td_optimizer = torch.optim.Adam(parameters, c["lr"])
        self.qr_optimizer = torch.optim.Adam(parameters, c["qr_lr"], eps=c["qr_eps"])

    def td_loss(self, batch: Batch) -> Tensor:
        """Returns the mean squared error of the mixed values; RMIX, Eq. 5 and 6."""
        values, _ = self.online(batch)
        with torch.no_grad():
            target_values, _ = self.target(batch)
        legal = batch.action_mask.bool()
        greedy = values.detach().masked_fill(~legal, -9_999_999.0).argmax(-1)
        chosen = values[:, :-1].gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        following = target_values.gather(-1, greedy.unsqueeze(-1)).squeeze(-1)[:, 1:]
        with torch.no_grad():
            team = MixerInputs(following, batch.state[:, 1:], greedy[:, 1:])
            bootstrap = self.target.mixer(team)
        targets = (
            batch.rewards + self.config["gamma"] * (1.0 - batch.terminateds) * bootstrap
        )
        team = MixerInputs(chosen, batch.state[:, :-1], batch.actions)
        error = self.online.mixer(team) - targets
        return ((error * batch.mask) ** 2).sum() / batch.mask.sum()

    def qr_loss(self, batch: Batch) -> Tensor:
        """Returns the quantile regression loss over ``M x M`` pairs; Eq. 7 and 8."""
        values, atoms = self.online(batch)
        with torch.no_grad():
            _, target_atoms = self.target(batch)
        legal = batch.action_mask.bool()
        greedy = values.detach().masked_fill(~legal, -9_999_999.0).argmax(-1)
        index = batch.actions[..., None, None].expand(-1, -1, -1, 1, M)
        theta = atoms[:, :-1].gather(-2, index).squeeze(-2)  # [B, T, N, M]
        index = greedy[:, 1:, :, None, None].expand(-1, -1, -1, 1, M)
        following = target_atoms[:, 1:].gather(-2, index).squeeze(-2)
        dummy = values[:, :-1].gather(-1, batch.actions.unsqueeze(-1)).detach()
        discount = self.config["gamma"] * (1.0 - batch.terminateds).unsqueeze(-1)
        targets = dummy + discount * following  # [B, T, N, M]
        error = targets.unsqueeze(-2) - theta.unsqueeze(-1)  # [B, T, N, M, M]
        size = error.abs()
        huber = torch.where(size <= 1.0, 0.5 * error**2, size - 0.5)
        tau = (2 * torch.arange(M) + 1) / (2 * M)
        weight = (tau.unsqueeze(-1) - (error.detach() < 0).float()).abs()
        loss = (weight * huber).mean(dim=-1).sum(dim=-1)  # [B, T, N]
        return (loss * batch.mask).sum() / (N * batch.mask.sum())

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
        """Makes one step: backward, clip, optimizer step.

        Args:
            loss: A loss of this class.
            optimizer: Optimizer of this loss.

        Returns:
            The value of the loss.
        """
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), self.config["grad_clip"])
        optimizer.step()
        return loss.item()


def check_same_loss(policy: ValuePolicy, reference: Reference, batch: Batch) -> None:
    """Checks both losses and the norms of their gradients, before the first step.

    Args:
        policy: Our policy.
        reference: The reference with the same weights.
        batch: The batch.

    Raises:
        AssertionError: If a loss differs by more than 1e-5 of its size, or a norm by
            more than 1e-4.
    """
    pairs = {
        "CVaR": (policy.td_targets_and_loss(batch)[0], reference.td_loss(batch)),
        "quantile": (policy.quantile_regression_loss(batch), reference.qr_loss(batch)),
    }
    for name, (ours, theirs) in pairs.items():
        loss = abs(ours.item() / theirs.item() - 1.0)
        our_norm = gradient_norm(ours, policy.network)
        norm = abs(our_norm / gradient_norm(theirs, reference.online) - 1.0)
        print(
            f"{name} loss {ours.item():.7g}, relative difference {loss:.1e};"
            f" gradient norm {our_norm:.6g}, relative difference {norm:.1e}"
        )
        assert loss < 1e-5, name
        assert norm < 1e-4, name


def gradient_norm(loss: Tensor, module: nn.Module) -> float:
    """Returns the norm of a loss's gradient over all parameters of a module."""
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.stack([g.norm() for g in gradients]).norm().item()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repetitions", type=int, default=5, help="number of turns (default 5)"
    )
    repetitions = parser.parse_args().repetitions
    rng = np.random.default_rng(0)
    samples = collate(random_episodes(rng))
    policy = make_policy()
    reference = Reference(policy)
    batch = policy.tensors(samples)
    print(f"torch threads: {torch.get_num_threads()}; median of {repetitions} turns")
    check_same_loss(policy, reference, batch)
    steps = {
        "CVaR": (
            lambda: policy.learn_on_batch(samples),
            lambda: reference.step(reference.td_loss(batch), reference.td_optimizer),
            repetitions,
        ),
        "quantile": (
            lambda: policy.learn_quantiles_on_batch(samples),
            lambda: reference.step(reference.qr_loss(batch), reference.qr_optimizer),
            max(repetitions // 2, 3),
        ),
    }
    print("| step | ours, s | reference, s | ratio |")
    print("|---|---|---|---|")
    for name, (ours, theirs, turns) in steps.items():
        ours()  # the first step allocates the optimizer's moments
        times = []
        for _ in range(turns):
            start = time.perf_counter()
            ours()
            middle = time.perf_counter()
            theirs()
            times.append((middle - start, time.perf_counter() - middle))
        fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(s / f for f, s in times)
        print(f"| {name} | {fast:.3f} | {slow:.3f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
