"""Shared code of all comparisons: equal weights, batches, rows of the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rllib_risk.algorithms import algorithm_class, config_class
from rllib_risk.data.episodes import Episode
from rllib_risk.networks.layers import StackedMLPs

AGENTS, ACTIONS, OBS, STATE, LONGEST = 3, 5, 6, 7, 8
# Number of consecutive optimizer steps.
UPDATES = 4

# Rules from the name of a released parameter to ours. None: no released loss uses it.
Names = list[tuple[str, Any]]


def named(parts: dict[str, nn.Module], what: str) -> dict[str, Tensor]:
    """Returns parameters or gradients by name, with QPLEX's networks unstacked."""

    def value(parameter: nn.Parameter) -> Tensor:
        if what == "data":
            return parameter.data
        gradient = parameter.grad
        return torch.zeros_like(parameter) if gradient is None else gradient

    found = {}
    for part, module in parts.items():
        prefix = f"{part}." if part else ""
        for name, parameter in module.named_parameters():
            found[prefix + name] = value(parameter)
        for name, stack in module.named_modules():
            if not isinstance(stack, StackedMLPs):
                continue
            layers = zip(stack.weights, stack.biases, strict=True)
            for layer, (weight, bias) in enumerate(layers):
                for head in range(len(weight)):
                    # nn.Sequential counts the ReLUs between linear layers.
                    place = f".{2 * layer}" if len(stack.weights) > 1 else ""
                    key = f"{prefix}{name}.{head}{place}"
                    found[f"{key}.weight"] = value(weight)[head].T
                    found[f"{key}.bias"] = value(bias)[head, 0]
    for key in [key for key in found if key.startswith("critic.body.4.")]:
        # DOP's critic has one output layer here and two in the released code.
        found[f"{key}.actions"], found[f"{key}.value"] = (
            found[key][:-1],
            found[key][-1:],
        )
    for key in [
        key for key in found if re.fullmatch(r"agents\.\d\.head\.(weight|bias)", key)
    ]:
        # MA-CQR's heads are ordered by action here, and by quantile in its release.
        by_action = found[key].unflatten(0, (ACTIONS, -1))
        found[f"{key}.by_quantile"] = by_action.transpose(0, 1)
    return found


class Pair:
    """The same networks in the released code and in this package.

    Attributes:
        theirs: Released modules, by the names in ``names``.
        ours: Our modules; the empty name is the team's network.
    """

    def __init__(
        self, theirs: dict[str, nn.Module], ours: dict[str, nn.Module], names: Names
    ) -> None:
        """Initializes the pair.

        Args:
            theirs: Released modules, by the names in ``names``.
            ours: Our modules; the empty name is the team's network.
            names: Rules from released names to ours.
        """
        self.theirs, self.ours, self._names = theirs, ours, names

    def _matched(self, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        ours = named(self.ours, what)
        for name, tensor in named(self.theirs, what).items():
            (rule,) = [r for r in self._names if re.fullmatch(r[0], name)]
            if rule[1] is not None:
                own = ours[re.sub(*rule, name)]
                yield tensor, own.reshape(tensor.shape)

    def copy(self) -> None:
        """Copies our weights into the released modules."""
        for theirs, ours in self._matched("data"):
            theirs.copy_(ours)

    def vectors(self, what: str) -> tuple[Tensor, Tensor]:
        """Returns parameters (``data``) or gradients (``grad``) of both as vectors."""
        flat = [(t.flatten(), o.flatten()) for t, o in self._matched(what)]
        theirs, ours = zip(*flat, strict=True)
        return torch.cat(theirs).double(), torch.cat(ours).double()


class Logger:
    """Logger that stores what the released learners log.

    Attributes:
        last: Last value by name.
    """

    def __init__(self) -> None:
        """Initializes the logger."""
        self.last: dict[str, Any] = {}
        self.console_logger = self

    def log_stat(self, key: str, value: Any, t: int) -> None:
        """Stores a value."""
        self.last[key] = value

    def info(self, *_: Any) -> None:
        """Ignores a message."""


class Case:
    """One comparison, which collects the differences of all steps."""

    def __init__(self, title: str, pairs: list[Pair]) -> None:
        """Initializes the case and copies our weights.

        Args:
            title: Title of the row.
            pairs: Pairs of networks, the online networks first.
        """
        self.title, self._pair = title, pairs[0]
        self._loss = self._gradient = 0.0
        for pair in pairs:
            pair.copy()

    def add(self, theirs: float, ours: float, scale: float = 1.0) -> None:
        """Adds a step: losses of both sides, and a factor on our gradients."""
        gradient, own = self._pair.vectors("grad")
        difference = (gradient - scale * own).norm() / gradient.norm()
        found = (abs(theirs - ours) / abs(theirs), difference.item())
        if not np.isfinite(found).all():
            raise ValueError(f"{self.title}: losses {theirs} and {ours}, {found}")
        self._loss = max(self._loss, found[0])
        self._gradient = max(self._gradient, found[1])

    def show(self) -> None:
        """Prints the row of the table."""
        theirs, ours = self._pair.vectors("data")
        difference = (theirs - ours).abs().max().item()
        print(
            f"{self.title:44} {self._loss:9.1e} {self._gradient:9.1e} {difference:9.1e}"
        )


def random_episodes(seed: int, available: float = 0.6) -> list[Episode]:
    """Returns two episodes cut off by the time limit, and four that end.

    Three of the four end early. PyMARL assumes that an episode which is cut off has the
    maximum length.
    """
    rng = np.random.default_rng(seed)
    plan = [(LONGEST, False), (LONGEST, True), (LONGEST, False), (5, True), (1, True)]
    episodes = []
    for length, terminated in [*plan, (3, True)]:
        mask = (rng.random((length + 1, AGENTS, ACTIONS)) < available).astype(np.uint8)
        mask[..., 0] |= mask.sum(axis=-1) == 0
        noise = rng.random((length, AGENTS, ACTIONS)) * mask[:-1]
        episodes.append(
            Episode(
                obs=rng.normal(size=(length + 1, AGENTS, OBS)).astype(np.float32),
                state=rng.normal(size=(length + 1, STATE)).astype(np.float32),
                action_mask=mask,
                actions=noise.argmax(axis=-1).astype(np.int16),
                rewards=rng.normal(size=length).astype(np.float32),
                terminated=terminated,
                risk_levels=np.ones((length, AGENTS), np.float32),
            )
        )
    return episodes


def make_policy(
    name: str, agents: int = AGENTS, obs_size: int = OBS, **keys: Any
) -> Any:
    """Builds our policy, with target networks that differ from the online ones."""
    obs = spaces.Box(-np.inf, np.inf, (agents, obs_size), np.float32)
    state = spaces.Box(-np.inf, np.inf, (STATE,), np.float32)
    mask = spaces.Box(0, 1, (agents, ACTIONS), np.uint8)
    torch.manual_seed(0)
    config = config_class(name)().debugging(seed=0)
    config.training(**keys)
    config.validate()
    policy = algorithm_class(name).policy_class(
        spaces.Dict(obs=obs, state=state, action_mask=mask),
        spaces.MultiDiscrete([ACTIONS] * agents),
        config.to_dict(),
    )
    with torch.no_grad():
        for role, module in policy.modules().items():
            if role.startswith("target"):
                for parameter in module.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return policy
