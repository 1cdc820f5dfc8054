"""A user's own learning parts are tried on zeros before a run starts."""

import re

import numpy as np
import pytest
import torch

from rllib_risk.algorithms import IndependentQConfig, QMIXConfig
from rllib_risk.config.schema import ConfigError
from rllib_risk.parts.exploration import Explorer
from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.penalties.base import Penalty
from rllib_risk.parts.penalties.per_agent import PerAgent
from rllib_risk.parts.regression import Gate, QuantileRegression
from rllib_risk.parts.replay import Replay
from rllib_risk.parts.targets.base import DualTarget, Target
from rllib_risk.parts.weights.base import TDWeighting


class Fine(Loss):
    def loss(self, view):
        return view.mean(view.weigh(view.errors.square(), view.errors.detach()))


class Undefined(Loss):
    pass


class Vector(Loss):
    def loss(self, view):
        return view.errors.square()


class Forgotten(Loss):
    def loss(self, view):
        view.mean(view.errors.square())


class Number(Loss):
    def loss(self, view):
        return view.mean(view.errors.square()).item()


class Detached(Loss):
    def loss(self, view):
        return view.mean(view.errors.detach().square())


class Elsewhere(Loss):
    def loss(self, view):
        return torch.zeros((), requires_grad=True) * view.rewards.sum()


class Mistyped(Loss):
    def loss(self, view):
        return view.mean(view.eror)


class Unweighted(Loss):
    def loss(self, view):
        return view.mean(view.errors.square())


class LateWeighted(Loss):
    """Weighs the errors only after 1000 env steps."""

    def loss(self, view):
        losses = view.errors.square()
        if view.env_steps > 1000:
            losses = view.weigh(losses, view.errors.detach())
        return view.mean(losses)


class Imitation(Loss):
    uses_targets = False

    def loss(self, view):
        return view.mean(view.values)


class Flat(Target):
    def targets(self, view):
        return view.rewards.squeeze(-1)


class NoDual(DualTarget):
    def make_dual(self, sizes, num_values):
        return torch.nn.Linear(1, 1)

    def targets(self, view):
        return view.rewards.expand_as(view.next_values)

    def dual_loss(self, view):
        return view.rewards.sum()


class Dual(NoDual):
    def dual_loss(self, view):
        return view.dual.weight.sum()


class NoRate(Dual):
    auxiliary_lr = "fast"


class NoBlock(Dual):
    auxiliary_block = 0


class Unmade(Dual):
    def make_dual(self, sizes, num_values):
        return self.layers(num_values)


class AtomsUnlike(Target):
    def targets(self, view):
        return view.rewards.expand_as(view.next_values)

    def target_atoms(self, view, next_atoms):
        return next_atoms + view.shifts


class Low(Penalty):
    def penalties(self, view):
        return view.values

    @classmethod
    def refusals(cls, config):
        yield from ()


class LowDetached(Low):
    def penalties(self, view):
        return view.values.detach()


class Overridden(Low):
    def of(self, view):
        return view.values.mean(axis=9)


class Modelled(Low):
    def make_dual(self, network):
        return network.agent


class PerAgentLow(PerAgent):
    pass


class Unsized(Replay):
    def __init__(self, seed, options=None):
        super().__init__(seed, options)
        self.sizes = self.options.sizes


class Unsorted(Replay):
    def add(self, episodes):
        super().add(episodes.sort())


class Column(Replay):
    def draw(self, size):
        batch = super().draw(size)
        del batch["mask"]
        return batch


class Learned(Replay):
    def learned(self, samples, view):
        self.errors[samples["places"]] = view.errors


class Lists(Replay):
    def state_arrays(self):
        return super().state_arrays() | {"names": ["a", None]}


class Unloaded(Replay):
    def load_arrays(self, arrays):
        super().load_arrays(arrays)
        self.errors = arrays["errors"]


class OfSuccess(Replay):
    """Reads metrics, which a checkpoint does not hold."""

    def add(self, episodes):
        assert all(episode.metrics["is_success"] == 0 for episode in episodes)
        super().add(episodes)


class Complete(Replay):
    def add(self, episodes):
        assert all(episode.metrics.get("is_success", 0) == 0 for episode in episodes)
        super().add(episodes)

    def learned(self, samples, view):
        assert view.errors.shape[:2] == view.mask.shape[:2]


class Summed(TDWeighting):
    def weights(self, errors, view):
        return errors.sum(dim=-1)


class Unsure(QuantileRegression):
    def is_open(self, env_steps, success_rate):
        if env_steps > 10:
            return True


class Unoptimized(QuantileRegression):
    def is_open(self, env_steps, success_rate):
        return False

    def optimizer(self, parameters):
        return torch.optim.Adam(parameters, self.options.rate)


class NoRegression(Gate):
    def is_open(self, env_steps, success_rate):
        return True


class OfTheTeam(Explorer):
    def explore(self, utilities, action_mask, epsilon, rng):
        return np.zeros(len(utilities), np.int64)


class Fractional(Explorer):
    def explore(self, utilities, action_mask, epsilon, rng):
        return np.zeros(utilities.shape[:2])


def preflight(base=IndependentQConfig, **keys):
    keys = {
        key: f"{__name__}:{value.__name__}" if isinstance(value, type) else value
        for key, value in keys.items()
    }
    config = base().environment("two_step").training(hidden_size=8, **keys)
    config.validate()
    config.preflight()


WEIGHT = {"conservative_weight": 1.0}
MUST = "must return a scalar tensor with gradients of the online network"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss": Undefined}, "Undefined' fails .*Undefined must define loss"),
        ({"loss": Vector}, rf"{MUST}.*returned a tensor of shape \[2, 3, 2\]"),
        ({"loss": Forgotten}, f"{MUST} .*returned None"),
        ({"loss": Number}, f"{MUST} .*returned float"),
        ({"loss": Detached}, f"{MUST} .*returned a tensor without gradient"),
        ({"loss": Elsewhere}, f"{MUST} .*does not depend on the online network"),
        ({"loss": Mistyped}, r"AttributeError: .*'eror'.*\(.*test_trial.py:\d+\)"),
        ({"target": Target}, "must define targets"),
        ({"target": Flat}, r"targets of .* \[2, 3, 2\] .*returned \[2, 3\]"),
        ({"target": NoDual}, "dual_loss of .*the dual variable.*without gradient"),
        ({"td_weighting": TDWeighting}, "must define weights"),
        ({"td_weighting": Summed}, r"weights of .* \[2, 3, 2\].*returned \[2, 3\]"),
        ({"num_atoms": 4, "qr_gate": Unsure}, r"is_open\(0, None\) returned None"),
        ({"num_atoms": 4, "qr_gate": Unoptimized}, "optimizer of .*'rate'"),
        ({"target": NoRate}, "auxiliary_lr of .*NoRate' fails"),
        ({"target": NoBlock}, "auxiliary_block of .*NoBlock' fails .*ZeroDivision"),
        (
            {"num_atoms": 4, "loss": "quantile", "target": AtomsUnlike},
            "target_atoms of .*'shifts'",
        ),
        (
            {"num_atoms": 4, "loss": "quantile", "target": Flat},
            r"Flat' defines only targets\(\)",
        ),
        ({"penalty": Penalty}, "'.*:Penalty' needs a weight. Set conservative_weight"),
        ({"penalty": PerAgentLow}, "'.*:PerAgentLow' needs a weight"),
        ({"penalty": Low}, "'.*:Low' needs a weight. Set conservative_weight"),
        (
            WEIGHT | {"penalty": Overridden},
            r"of\(\) of .*Overridden' .*IndexError",
        ),
        (WEIGHT | {"penalty": LowDetached}, "mean of penalties of .* without gradient"),
        (WEIGHT | {"penalty": Modelled}, "make_dual of .*'agent'"),
        ({"replay": Unsized}, "__init__ of .*'sizes'"),
        ({"replay": Unsorted}, "add of .*TypeError"),
        ({"replay": Column}, "draw of .*mask"),
        ({"replay": Learned}, "learned of .*'errors'"),
        ({"replay": Lists}, "state_arrays of "),
        ({"replay": Unloaded}, "load_arrays of .*errors"),
        ({"replay": OfSuccess}, "load_arrays of .*is_success"),
        ({"qr_gate": NoRegression}, "must be a subclass of .*QuantileRegression"),
        ({"exploration": OfTheTeam}, r"explore of .* \[2, 2\].*returned \[2\]"),
        ({"exploration": Fractional}, "must return whole numbers.* float64"),
        (
            {"loss": Unweighted, "td_weighting": "ow"},
            r"'ow' has no effect, .*Unweighted' does not call view.weigh\(\).*none",
        ),
        ({"loss": Imitation, "target": "contamination"}, "uses neither"),
        ({"loss": Imitation, "td_lambda": 0.5}, "uses neither view.targets nor"),
        ({"loss": Imitation, "conservative_weight": 1.0}, "has uses_targets = False"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_what_an_update_could_not_use_is_refused(keys, message):
    key = list(keys)[-1]  # the part's key, or the one without effect
    with pytest.raises(ConfigError, match=rf"^{key}: .*{message}"):
        preflight(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"loss": Fine},
        {"loss": Fine, "td_weighting": "ow", "target": "contamination", "rho": 0.1},
        {"loss": LateWeighted, "td_weighting": "ow"},
        {"loss": Unweighted, "td_lambda": 0.5},
        {"loss": Imitation},
        {"loss": Fine, "base": QMIXConfig, "joint_critic": "wqmix"},
        {"loss": Fine, "base": QMIXConfig, "target": "tv", "rho": 0.2},
        {"loss": Fine, "recurrent": False, "sequence_length": 1},
        {"target": Dual},
        {"penalty": Low, "conservative_weight": 0.0},
        {"penalty": Low, "conservative_weight": 0.5, "base": QMIXConfig},
        {"replay": Complete, "buffer_size_episodes": 40, "compact_replay": True},
        {"replay": Complete, "sequence_length": 2, "burn_in": 1},
    ],
    ids=str,
)
def test_what_works_is_let_through(keys):
    preflight(**keys)


def test_the_weighting_of_a_named_algorithm_must_have_an_effect_too():
    with pytest.raises(ConfigError, match=r"^td_weighting: .*Unweighted"):
        preflight(QMIXConfig, loss=Unweighted, joint_critic="wqmix", td_weighting="cw")


def test_a_dual_variable_that_cannot_be_made_names_the_target():
    with pytest.raises(ConfigError, match=r"target: make_dual of .*Unmade' .*'layers'"):
        preflight(target=Unmade)


def test_the_messages_are_one_line():
    with pytest.raises(ConfigError) as error:
        preflight(loss=Vector)
    assert re.fullmatch(r"loss: [^\n]*\.", str(error.value))
