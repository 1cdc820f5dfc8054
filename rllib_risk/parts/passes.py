"""Encodes a batch with the online and the target network, in parallel over time.

Letters: ``B`` rows, ``T`` steps, ``N`` agents.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from rllib_risk.parts.batch import Batch
from rllib_risk.parts.outputs import FOLLOWING, TAKEN, EncodedBatch
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Unroll, pick_steps


def encode(
    network: TeamNetwork,
    target_network: TeamNetwork,
    batch: Batch,
    *,
    double_q: bool,
    window: int | None = None,
    generator: torch.Generator | None = None,
) -> EncodedBatch:
    """Encodes a batch with the online and the target network.

    With a ``window`` of ``W`` steps, the hidden state of the next values starts one
    step later than the row. The current and the next value of a row of ``W`` steps then
    both see ``W`` steps. A row at the start of its episode has fewer burn-in steps. Its
    hidden state starts with the row, so its next value sees one step more.

    Args:
        network: The online network. It may be the target network, if no output of the
            online network is needed.
        target_network: The target network; it gets no gradient.
        batch: The batch.
        double_q: Whether the online network chooses the greedy actions.
        window: ``W``. None: the hidden state of the next values starts with the row.
        generator: Generator of the fractions of sampled quantiles.

    Returns:
        The encoded batch, which all losses share.
    """
    if window is not None:
        return _encode_windows(
            network, target_network, batch, double_q, window, generator
        )
    inputs = network.inputs(batch.obs, batch.actions, batch.previous)
    learned = batch.learned
    # Without a hidden state, encode for the target network only the requested steps:
    # most losses need only the next ones.
    separable = network.is_memoryless and learned is None

    def run(which: TeamNetwork, steps: slice) -> Unroll:
        """Encodes some steps and drops the burn-in steps."""
        return which.unroll(inputs[:, steps], generator).pick(
            None if learned is None else learned[:, steps]
        )

    # The online network's last step is needed only if it chooses the next actions.
    whole = double_q or network is target_network
    online = run(network, slice(None) if whole else TAKEN)
    taken = online.at(TAKEN) if whole else online

    target_at: Callable[[slice], Unroll]
    if network is target_network:
        target_at = online.at
    elif separable:
        target_at = torch.no_grad()(functools.partial(run, target_network))
    else:
        with torch.no_grad():
            target_at = run(target_network, slice(None)).at

    def at_steps(which: TeamNetwork, steps: slice) -> Unroll:
        return online.at(steps) if which is network else target_at(steps)

    mask = pick_steps(batch.action_mask, learned)
    return EncodedBatch(
        network, target_network, double_q, lambda: taken, at_steps, mask
    )


def _encode_windows(
    network: TeamNetwork,
    target_network: TeamNetwork,
    batch: Batch,
    double_q: bool,
    window: int,
    generator: torch.Generator | None,
) -> EncodedBatch:
    """:func:`encode` with a window. Each encoding is computed when first needed."""
    inputs = network.inputs(batch.obs, batch.actions, batch.previous)
    rows = torch.arange(inputs.shape[1], device=inputs.device)
    learned = rows.expand(len(inputs), -1) if batch.learned is None else batch.learned
    action_mask = pick_steps(batch.action_mask, learned)

    def present(which: TeamNetwork) -> Unroll:
        unroll = which.unroll(inputs[:, TAKEN], generator)
        return unroll.pick(learned[:, TAKEN])

    @functools.cache
    @torch.no_grad()
    def following(which: TeamNetwork) -> Unroll:
        full = (learned[:, :1] == window - 1).long()  # [B, 1]; 1: start one step later
        later = inputs[:, 1:] if full.all() else pick_steps(inputs, rows + full)
        return which.unroll(later, generator).pick(learned[:, FOLLOWING] - full)

    without_gradient = functools.cache(torch.no_grad()(present))

    def at_steps(which: TeamNetwork, steps: slice) -> Unroll:
        if steps == FOLLOWING:
            return following(which)
        taken = without_gradient(which)
        return taken if steps == TAKEN else taken.at(steps)

    online = functools.partial(present, network)
    return EncodedBatch(
        network, target_network, double_q, online, at_steps, action_mask
    )
