"""Tries custom learning parts on a batch of zeros, before a run starts.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``G`` outputs of the
mixer (1, or ``N``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rllib_risk.config.options import fields_of
from rllib_risk.config.schema import MAX_WHOLE
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.parts.base import Choice
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.learning import Learning
from rllib_risk.parts.penalties.base import Penalty, without_weight
from rllib_risk.parts.regression import Gate, QuantileRegression
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.base import DualTarget, Target
from rllib_risk.parts.targets.plain import Plain
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.trial_calls import call_own, check_scalar
from rllib_risk.parts.trial_sampling import try_explorer, try_replay
from rllib_risk.parts.trial_split import check_splits
from rllib_risk.parts.view import View
from rllib_risk.parts.weights.base import TDWeighting

_B, _T = 2, 3
# Slots of the parts that learn from a batch, without the parts of the network.
_LEARNING = ("loss", "target", "td_weighting", "penalty", "qr_gate")


def try_own_parts(network: TeamNetwork, values: Mapping[str, Any]) -> None:
    """Computes the losses of one update with the custom parts, if there are any.

    Args:
        network: A network of this configuration. It gets gradients.
        values: The configuration's keys and values.

    Raises:
        ValueError: If a part fails or returns a wrong result, or a key has no effect
            with a custom loss. The message begins with the part's key.
    """
    chosen = VALUE_PARTS.choose(values)
    own = {key: choice for key, choice in chosen.items() if choice.is_own}
    if "exploration" in own:
        try_explorer(own["exploration"], network.sizes)
    if own.keys() & {*_LEARNING, "replay"}:
        _Trial(network, values, own).run()
    # Explorers and replays compute no gradient.
    learning = {k: v for k, v in own.items() if k not in ("exploration", "replay")}
    if learning and values.get("num_learners", 0) > 1:
        check_splits(
            network.sizes, learning, _Trial(network, values, learning).gradient
        )


def try_dual_target(network: TeamNetwork, values: Mapping[str, Any]) -> None:
    """Creates the dual variable of the target, if it has one.

    Args:
        network: A network of this configuration.
        values: The configuration's keys and values.

    Raises:
        NeedsStateError: If the target needs a state, and there is none.
        ValueError: If a custom target fails. The message begins with the key.
    """
    choice = VALUE_PARTS.slots["target"].choose(values)
    target = call_own(choice, "__init__", choice.make)
    if isinstance(target, DualTarget):
        sizes, num_values = network.sizes, network.count_values()
        call_own(choice, "make_dual", target.make_dual, sizes, num_values)


class _Trial:
    """A trial update of the networks on a batch of zeros."""

    def __init__(
        self, network: TeamNetwork, values: Mapping[str, Any], own: dict[str, Choice]
    ) -> None:
        for choice in own.values():
            if choice.key in _LEARNING:
                call_own(choice, "__init__", choice.make)
        self.network, self.values, self.own = network, values, own
        self.learning = Learning.of(values)
        self.following = copy.deepcopy(network).requires_grad_(False)
        self.num_values = network.count_values()
        if penalty := own.get("penalty"):
            call_own(penalty, "make_dual", self.learning.penalty.make_dual, network)
        self.dual = self.learning.make_dual(network)

    def view(
        self, env_steps: int = 0, batch: Batch | None = None, burn_in: int = 0
    ) -> View:
        return self.learning.view(
            self.network,
            self.following,
            batch or _zeros(self.network.sizes),
            burn_in=burn_in,
            gamma=self.values["gamma"],
            reward_scale=self.values["reward_scale"],
            env_steps=env_steps,
            dual=self.dual,
        )

    def gradient(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Gradient of all losses of a batch, as one vector."""
        view = self.learning.view(
            self.network,
            self.following,
            batch,
            generator=generator,
            gamma=self.values["gamma"],
            reward_scale=self.values["reward_scale"],
            dual=self.dual,
            draws=generator,
        )
        loss, learned = self.learning.team_loss(view), [*self.network.parameters()]
        if isinstance(self.learning.gate, QuantileRegression):
            loss = loss + self.learning.gate.loss(view)
        if self.dual is not None:
            loss = loss + self.learning.dual_learner.dual_loss(view)
            learned += self.dual.parameters()
        found = torch.autograd.grad(
            loss, learned, allow_unused=True, materialize_grads=True
        )
        return torch.cat([gradient.flatten() for gradient in found])

    def run(self) -> None:
        """Tries the parts in the order in which a loss uses them."""
        shape = (_B, _T, self.num_values)
        if target := self.own.get("target"):
            self._try_target(target, shape)
        if weighting := self.own.get("td_weighting"):
            errors, view = torch.zeros(shape), self.view()
            weights = call_own(
                weighting, "weights", self.learning.weighting.weights, errors, view
            )
            if weights is not None:
                weighting.check_shape(weights, shape, (_B, _T, 1), of="weights")
        if penalty := self.own.get("penalty"):
            self._try_penalty(penalty)
        if loss := self.own.get("loss"):
            self._try_loss(loss)
        if gate := self.own.get("qr_gate"):
            self._try_gate(gate)
        if replay := self.own.get("replay"):
            try_replay(replay, self.values, self.network.sizes, self._view_of)

    def _view_of(self, batch: Batch) -> View:
        return self.view(batch=batch, burn_in=self.values["burn_in"])

    def _try_target(self, choice: Choice, shape: tuple[int, ...]) -> None:
        target = self.learning.target
        with torch.no_grad():
            if self.learning.loss.fits_atoms:
                _refuse_ignored_targets(choice)
                call_own(choice, "target_atoms", getattr, self.view(), "target_atoms")
            else:
                targets = call_own(choice, "targets", target.targets, self.view())
                choice.check_shape(targets, shape, of="targets")
        if isinstance(target, DualTarget):
            self._try_dual(choice, target, "the dual variable")

    def _try_penalty(self, choice: Choice) -> None:
        penalty, n = self.learning.penalty, self.network.sizes.num_agents
        found = call_own(choice, "penalties", penalty.penalties, self.view())
        choice.check_shape(found, (_B, _T, 1), (_B, _T, n), of="penalties")
        weighted = call_own(choice, "of()", penalty.of, self.view())
        if weighted is None:
            raise ValueError(without_weight(choice.name))
        if penalty.options.conservative_weight > 0.0:
            of = "the weighted mean of penalties"
            check_scalar(choice, of, weighted, self.network, "the online network")
        if self.learning.dual_learner is penalty:
            self._try_dual(choice, penalty, "make_dual's module")

    def _try_dual(
        self, choice: Choice, learner: DualTarget | Penalty, owner: str
    ) -> None:
        if self.dual is None:
            return
        loss = call_own(choice, "dual_loss", learner.dual_loss, self.view())
        check_scalar(choice, "dual_loss", loss, self.dual, owner)
        call_own(choice, "auxiliary_lr", _make_optimizer, self.dual, learner)
        call_own(choice, "auxiliary_block", lambda: 1 % learner.auxiliary_block)

    def _try_loss(self, choice: Choice) -> None:
        loss, unused = self.learning.loss, {"td_weighting", "target"}
        # A loss may use a part only late in a run, so try the first and the last step.
        for env_steps in (0, MAX_WHOLE):
            view = self.view(env_steps)
            view.weighting = weighting = _Recorded(self.learning.weighting)
            result = call_own(choice, "loss", loss.loss, view)
            check_scalar(choice, "loss", result, self.network, "the online network")
            unused -= {"td_weighting"} if weighting.called else set()
            unused -= {"target"} if "targets" in vars(view) else set()
            if not unused:
                break
        if loss.uses_targets and self.network.joint_critic is not None:
            unused -= {"target"}
        for message in self._without_effect(choice, unused):
            raise ValueError(message)

    def _without_effect(self, choice: Choice, unused: set[str]) -> Iterator[str]:
        reasons: dict[str, str] = {}
        if not self.learning.loss.uses_targets:
            reasons = dict.fromkeys(
                ("joint_critic", "conservative_weight"), "has uses_targets = False"
            )
        if "target" in unused:
            keys = (
                "target",
                *fields_of(VALUE_PARTS.slots["target"].part("plain").Options),
            )
            why = "uses neither view.targets nor view.errors"
            reasons |= dict.fromkeys(keys, why)
        if "td_weighting" in unused:
            reasons["td_weighting"] = "does not call view.weigh()"
        fields = VALUE_PARTS.fields()
        for key, why in reasons.items():
            value, default = self.values[key], fields[key].default
            if value != default:
                unset = "null" if default is None else default
                yield (
                    f"{key}: {value!r} has no effect, because loss {choice.name!r}"
                    f" {why}. Change the loss, or set {key}: {unset}."
                )

    def _try_gate(self, choice: Choice) -> None:
        gate = self.learning.gate
        if not isinstance(gate, QuantileRegression):
            if type(gate).is_open is Gate.is_open:
                return  # It never opens, so it needs no regression.
            raise ValueError(
                f"qr_gate: {choice.name!r} must be a subclass of"
                f" {Gate.__module__}.QuantileRegression, which computes the regression."
            )
        for env_steps, success_rate in ((0, None), (MAX_WHOLE, 1.0)):
            opens = call_own(choice, "is_open", gate.is_open, env_steps, success_rate)
            if not isinstance(opens, bool | np.bool_):
                raise ValueError(
                    f"qr_gate: is_open of {choice.name!r} must return True or False,"
                    f" and is_open({env_steps}, {success_rate}) returned {opens!r}."
                )
        loss = call_own(choice, "loss", gate.loss, self.view())
        check_scalar(choice, "loss", loss, self.network, "the online network")
        call_own(choice, "optimizer", gate.optimizer, [*self.network.parameters()])


def _refuse_ignored_targets(choice: Choice) -> None:
    """Refuses an own ``targets`` if the loss reads ``target_atoms`` of a base class."""
    for base in choice.part.__mro__:
        if base in (Plain, Target) or "target_atoms" in vars(base):
            return
        if "targets" in vars(base):
            raise ValueError(
                f"target: the loss fits distributions and reads target_atoms(), and"
                f" {choice.name!r} defines only targets(). Define target_atoms() too."
            )


def _make_optimizer(dual: nn.Module, learner: DualTarget | Penalty) -> None:
    """Creates the optimizer of an auxiliary module, as the policy does."""
    torch.optim.Adam(dual.parameters(), schedule_value(learner.auxiliary_lr, 0))


class _Recorded(TDWeighting):
    """A TD weighting that records whether it was called."""

    def __init__(self, weighting: TDWeighting) -> None:
        super().__init__()
        self.weighting, self.called = weighting, False

    def weights(self, errors: Tensor, view: View) -> Tensor | None:
        self.called = True
        return self.weighting.weights(errors, view)


def _zeros(sizes: TeamSizes) -> Batch:
    n, steps = sizes.num_agents, torch.zeros(_B, _T, 1)
    return Batch(
        obs=torch.zeros(_B, _T + 1, n, sizes.obs_size),
        state=torch.zeros(_B, _T + 1, sizes.state_size),
        action_mask=torch.ones(_B, _T + 1, n, sizes.num_actions),
        actions=torch.zeros(_B, _T, n, dtype=torch.int64),
        rewards=steps,
        terminateds=steps.clone(),
        mask=torch.ones(_B, _T, 1),
    )
