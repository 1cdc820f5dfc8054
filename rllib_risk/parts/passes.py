"""Runs both networks over a batch, parallel over time.

Letters: ``B`` rows, ``T`` steps, ``N`` agents.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from rllib_risk.parts.batch import Batch
from rllib_risk.parts.outputs import FOLLOWING, TAKEN, Pass
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
) -> Pass:
    """Runs both networks over a batch.

    With a ``window`` of ``W`` steps the memory behind the next values begins one step
    later than the row, so that the present and the next value of a row of ``W`` steps
    look through ``W`` steps each. A row that begins with its episode, and so has fewer
    steps before the first learned one, stays as it is: its next window is one longer.

    Args:
        network: The online network; the target network too, where nothing of the online
            one is asked.
        target_network: The target network; it gets no gradient.
        batch: The batch.
        double_q: Whether the online network picks the greedy actions.
        window: See above; None: the memory behind the next values begins with the row.
        generator: Source of the fractions of sampled quantiles.

    Returns:
        What the losses share.
    """
    if window is not None:
        return _encode_windows(
            network, target_network, batch, double_q, window, generator
        )
    inputs = network.inputs(batch.obs, batch.actions, batch.previous)
    learned = batch.learned
    # Where every step stands for itself, most losses ask the target for one end only.
    apart = network.is_memoryless and learned is None

    def run(which: TeamNetwork, steps: slice) -> Unroll:
        """Some steps, without those that only fill a memory."""
        return which.unroll(inputs[:, steps], generator).pick(
            None if learned is None else learned[:, steps]
        )

    # The online network's last step is asked for only where it chooses there.
    whole = double_q or network is target_network
    online = run(network, slice(None) if whole else TAKEN)
    taken = online.at(TAKEN) if whole else online

    target_at: Callable[[slice], Unroll]
    if network is target_network:
        target_at = online.at
    elif apart:
        target_at = torch.no_grad()(functools.partial(run, target_network))
    else:
        with torch.no_grad():
            target_at = run(target_network, slice(None)).at

    def look(which: TeamNetwork, steps: slice) -> Unroll:
        return online.at(steps) if which is network else target_at(steps)

    mask = pick_steps(batch.action_mask, learned)
    return Pass(network, target_network, double_q, lambda: taken, look, mask)


def _encode_windows(
    network: TeamNetwork,
    target_network: TeamNetwork,
    batch: Batch,
    double_q: bool,
    window: int,
    generator: torch.Generator | None,
) -> Pass:
    """:func:`encode` with a window; each view is made when it is asked for."""
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
        full = (learned[:, :1] == window - 1).long()  # [B, 1]; these begin one later
        later = inputs[:, 1:] if full.all() else pick_steps(inputs, rows + full)
        return which.unroll(later, generator).pick(learned[:, FOLLOWING] - full)

    without_gradient = functools.cache(torch.no_grad()(present))

    def look(which: TeamNetwork, steps: slice) -> Unroll:
        if steps == FOLLOWING:
            return following(which)
        taken = without_gradient(which)
        return taken if steps == TAKEN else taken.at(steps)

    online = functools.partial(present, network)
    return Pass(network, target_network, double_q, online, look, action_mask)
