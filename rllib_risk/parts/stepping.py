"""A team's network in acting, one step at a time.

The state between steps is a list of tensors, the *carry*.

Letters: ``E`` environments, ``W`` steps of a window, ``N`` agents, ``A`` actions, ``D``
observation size, ``I`` input size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.parts.unroll import Decision, Unroll
from rllib_risk.parts.utilities import TeamUtilities


class ActingTeam(TeamUtilities):
    """Agents and risk measure with methods for acting."""

    def initial_carry(self, num_envs: int) -> list[Tensor]:
        """Creates the carry at the start of an episode, which is all zeros.

        It holds the last action (one-hot) and the encoder's hidden state. With a
        predicted level it also holds the history encoder's hidden state, the previous
        input, and a flag that is 0 at the first step. Hidden states have
        :attr:`Encoder.state_size` numbers.

        Args:
            num_envs: ``E``.

        Returns:
            Tensors ``[E, ...]``. To start a new episode, set an environment's rows to
            zero.
        """
        n, state_size = self.sizes.num_agents, self.agents[0].encoder.state_size
        shapes: list[tuple[int, ...]] = [(n, self.sizes.num_actions), (n, state_size)]
        if self.level.predicted:
            shapes += [(n, state_size), (n, self.input_size), (1, 1)]
        device = self.device
        return [torch.zeros(num_envs, *shape, device=device) for shape in shapes]

    def advance(self, obs: Tensor, carry: list[Tensor]) -> tuple[Unroll, list[Tensor]]:
        """Encodes one acting step.

        Args:
            obs: Observations, ``[E, N, D]``.
            carry: Carry from :meth:`initial_carry` or the previous step.

        Returns:
            The encoded step, as ``E`` episodes of ``T = 1`` steps, and the next carry.
            The caller writes the actions taken into the carry with :meth:`remember`.
        """
        last_action, memory = carry[:2]
        inputs = self.inputs.one_step(obs, last_action)
        logits = None
        if self.level.predicted:
            history, previous, started = carry[2:]
            past = inputs
            if self.level.history_lag:
                past = torch.where(started > 0, previous, inputs)
            memory, history, logits = self._step_agents(inputs, memory, past, history)
            carry = [last_action, memory, history, inputs, torch.ones_like(started)]
        else:
            (memory,) = self._step_agents(inputs, memory)
            carry = [last_action, memory]
        features = self.agents[0].encoder.features_of(memory).unsqueeze(1)
        step = None if logits is None else logits.unsqueeze(1)
        return Unroll(features, step), carry

    def _step_agents(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Calls :meth:`AgentNetwork.step` with ``[E, N, .]`` as rows."""
        if len(self.agents) == 1:
            shape = tensors[0].shape[:2]
            out = self.agents[0].step(*[t.flatten(0, 1) for t in tensors])
            return tuple([o.view(*shape, -1) for o in out])
        per_agent = [
            agent.step(*[t[:, i] for t in tensors])
            for i, agent in enumerate(self.agents)
        ]
        return tuple([torch.stack(o, dim=1) for o in zip(*per_agent, strict=True)])

    def remember(self, carry: list[Tensor], actions: Tensor) -> None:
        """Writes the actions taken into the carry.

        Args:
            carry: Carry from :meth:`step`; changed in place.
            actions: Actions taken, int64 ``[E, N]``.
        """
        carry[0] = F.one_hot(actions, self.sizes.num_actions).to(carry[0].dtype)

    @torch.no_grad()
    def step(
        self, obs: Tensor, action_mask: Tensor, carry: list[Tensor]
    ) -> tuple[Decision, list[Tensor]]:
        """Computes the utilities of one acting step.

        Args:
            obs: Observations, ``[E, N, D]``.
            action_mask: Nonzero where an action is available, ``[E, N, A]``.
            carry: Carry from :meth:`initial_carry` or the previous step.

        Returns:
            The decision, with unavailable actions at ``-inf``, and the next carry. The
            caller writes the actions taken into the carry with :meth:`remember`.
        """
        unroll, carry = self.advance(obs, carry)
        return self._decide(unroll, action_mask), carry

    @torch.no_grad()
    def decide(self, inputs: Tensor, steps: Tensor, action_mask: Tensor) -> Decision:
        """Computes the utilities at one step of each window, from zero hidden states.

        Args:
            inputs: Inputs of the windows, ``[E, W, N, I]``. Inputs after the step are
                ignored.
            steps: Index of the step in each window, int64 ``[E]``.
            action_mask: Nonzero where an action is available, ``[E, N, A]``.

        Returns:
            The decision, with unavailable actions at ``-inf``.
        """
        unroll = Unroll(*self.encode(inputs)).pick(steps.unsqueeze(-1))
        return self._decide(unroll, action_mask)

    def _decide(self, unroll: Unroll, action_mask: Tensor) -> Decision:
        """Decides at the single step of an unroll, with the most likely risk level."""
        if self.samples:
            unroll.fractions = self._acting_fractions(unroll.features)
        utilities, atoms = self._utilities_and_atoms(unroll)
        utilities = utilities.squeeze(1).masked_fill(action_mask == 0, -torch.inf)
        logits = unroll.level_logits
        level_index = None if logits is None else logits.squeeze(1).argmax(dim=-1)
        return Decision(utilities, level_index, atoms.squeeze(1))

    def _acting_fractions(self, features: Tensor) -> Tensor:
        """Midpoint fractions for acting, ``[E, 1, N, .]``."""
        m = self.acting_atoms
        return quantile_fractions(m).to(features).expand(*features.shape[:3], m)
