"""Both networks over a batch, parallel over time, and the windows they look through.

Both see an episode from its first step to the observation after its last.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Unroll, pick_steps

# Steps of an episode: those at which something was done, and those that followed.
_TAKEN, _FOLLOWING = slice(None, -1), slice(1, None)


@dataclass(frozen=True)
class PaddingOptions:
    """What stands before an episode, where the replay and acting look there."""

    window_padding: Literal["none", "zeros"] = option(
        "none",
        "What stands before an episode's first step, in burn_in and in acting_window:"
        " nothing, so that windows are shorter there (none), or zero observations and"
        " action 0 (zeros; DrIGM's code).",
    )


class Encoding(Part):
    """How the networks go through a batch; in every composition."""

    @dataclass(frozen=True)
    class Options(PaddingOptions):
        acting_window: int | None = option(
            None,
            "Act on this number of last steps alone, with a memory that begins at 0;"
            " null: on the whole episode so far.",
            low=1,
            unit="steps",
        )
        target_window: Literal["carried", "shifted"] = option(
            "carried",
            "Step at which the memory behind the next value begins: the first of the"
            " sequence, as for the present value (carried), or one later, so that both"
            " look through the same number of steps (shifted; DrIGM's code).",
        )
        double_q: bool = option(True, "Online network picks the next action.")

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        stretches = config.sequence_length is not None
        if config.acting_window is not None and not config.recurrent:
            yield (
                "acting_window: cuts a memory; set recurrent: true, or acting_window:"
                " null."
            )
        shifted = config.target_window != "carried"
        if shifted and not (stretches and config.recurrent):
            yield (
                "target_window: 'shifted' moves the first step of a sequence's memory;"
                " set sequence_length and recurrent: true, or target_window: carried."
            )
        windows = stretches and config.acting_window is not None
        if config.window_padding != "none" and not windows:
            yield (
                "window_padding: 'zeros' fills windows in training and in acting; set"
                " sequence_length and acting_window, or window_padding: none."
            )

    def encode(
        self,
        network: TeamNetwork,
        target_network: TeamNetwork,
        batch: Batch,
        *,
        burn_in: int = 0,
        generator: torch.Generator | None = None,
    ) -> Pass:
        """Runs both networks over a batch; see :func:`encode`.

        Args:
            network: The online network.
            target_network: The target network.
            batch: The batch.
            burn_in: Steps in front that fill a memory.
            generator: Source of the fractions of sampled quantiles.

        Returns:
            What the losses share.
        """
        shifted = self.options.target_window == "shifted"
        return encode(
            network,
            target_network,
            batch,
            double_q=self.options.double_q,
            window=burn_in + 1 if shifted else None,
            generator=generator,
        )


@dataclass
class Pass:
    """The outputs of the online and the target network for one batch.

    Attributes:
        encode_online: Gives :attr:`online`.
        look: Gives any of the ``T+1`` steps, encoded by the target network.
        choose: Gives the actions of the target's maximum, int64 ``[B, ., N]``, at any
            of these steps.
    """

    encode_online: Callable[[], Unroll]
    look: Callable[[slice], Unroll]
    choose: Callable[[slice, Unroll | None], Tensor]

    @functools.cached_property
    def online(self) -> Unroll:
        """The ``T`` steps with an action, encoded by the online network.

        Steps that only fill a memory are left out.
        """
        return self.encode_online()

    @functools.cached_property
    def target(self) -> Unroll:
        """The same steps as :attr:`online`, encoded by the target network."""
        return self.look(_TAKEN)

    @functools.cached_property
    def following(self) -> Unroll:
        """What followed each of these steps, encoded by the target network."""
        return self.look(_FOLLOWING)

    @functools.cached_property
    def greedy(self) -> Tensor:
        """The actions of the target's maximum at each step, int64 ``[B, T, N]``."""
        first = self.choose(slice(1), None)
        return torch.cat([first, self.greedy_following[:, :-1]], dim=1)

    @functools.cached_property
    def greedy_following(self) -> Tensor:
        """The same where each step led to, int64 ``[B, T, N]``."""
        return self.choose(_FOLLOWING, self.following)


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
    learned, action_mask = batch.learned, batch.action_mask
    if learned is not None:
        action_mask = pick_steps(action_mask, learned)

    def values_at(unroll: Unroll) -> Unroll:
        """Without the steps that have done their work once the memory is filled."""
        if learned is None:
            return unroll
        every = unroll.features.shape[1] == inputs.shape[1]
        return unroll.pick(learned if every else learned[:, _TAKEN])

    # The online network's last step is asked for only where it chooses there.
    whole = double_q or network is target_network
    online = network.unroll(inputs if whole else inputs[:, _TAKEN], generator)
    online = values_at(online)
    taken = online.at(_TAKEN) if whole else online

    if network is target_network:
        look = online.at
    elif network.is_memoryless and learned is None:
        # Every step stands for itself, and most losses ask for one end only.
        def look(steps: slice) -> Unroll:
            with torch.no_grad():
                return target_network.unroll(inputs[:, steps])
    else:
        with torch.no_grad():
            look = values_at(target_network.unroll(inputs, generator)).at

    @torch.no_grad()
    def choose(steps: slice, target: Unroll | None) -> Tensor:
        mask = action_mask[:, steps]
        if double_q:
            return network.greedy_actions(online.at(steps), mask)
        return target_network.greedy_actions(target or look(steps), mask)

    return Pass(lambda: taken, look, choose)


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
        unroll = which.unroll(inputs[:, _TAKEN], generator)
        return unroll.pick(learned[:, _TAKEN])

    @functools.cache
    @torch.no_grad()
    def following(which: TeamNetwork) -> Unroll:
        full = (learned[:, :1] == window - 1).long()  # [B, 1]; these begin one later
        later = inputs[:, 1:] if full.all() else pick_steps(inputs, rows + full)
        return which.unroll(later, generator).pick(learned[:, _FOLLOWING] - full)

    without_gradient = functools.cache(torch.no_grad()(present))

    def look_with(which: TeamNetwork, steps: slice) -> Unroll:
        if steps == _FOLLOWING:
            return following(which)
        taken = without_gradient(which)
        return taken if steps == _TAKEN else taken.at(steps)

    @torch.no_grad()
    def choose(steps: slice, target: Unroll | None) -> Tensor:
        mask = action_mask[:, steps]
        if double_q:
            return network.greedy_actions(look_with(network, steps), mask)
        view = target or look_with(target_network, steps)
        return target_network.greedy_actions(view, mask)

    look = functools.partial(look_with, target_network)
    return Pass(functools.partial(present, network), look, choose)
