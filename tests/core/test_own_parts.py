"""A user's own parts declare keys as the package's do: YAML, checks, checkpoints."""

import dataclasses
import json
import sys
import textwrap

import numpy as np
import pytest
import torch

from rllib_risk.algorithms import IndependentQConfig
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.preflight import build_config, check_combinations
from rllib_risk.config.loading import parse_document
from rllib_risk.config.options import fields_of, option
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import concrete_configs
from rllib_risk.config.yaml_reader import read_yaml
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.checkpoint import CheckpointError
from rllib_risk.core.record import from_record, to_record
from rllib_risk.parts.mixers import Mixer
from rllib_risk.parts.penalties.base import Penalty
from rllib_risk.parts.regression import QuantileRegression
from rllib_risk.parts.risk import RiskMeasure
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.base import DualTarget
from rllib_risk.parts.targets.plain import Plain
from rllib_risk.parts.weights.base import TDWeighting

EXPLORER = """
    from dataclasses import dataclass

    import numpy as np

    from rllib_risk.config.options import option
    from rllib_risk.parts.exploration import Explorer


    class Stubborn(Explorer):
        \"\"\"Always the same action.\"\"\"

        @dataclass(frozen=True)
        class Options:
            favourite: int = option(0, "The action.", low=0, high=9)

        def explore(self, utilities, action_mask, epsilon, rng):
            return np.full(self.shape, self.options.favourite)
"""
WEIGHTING = """
    from dataclasses import dataclass

    from rllib_risk.config.options import option
    from rllib_risk.parts.weights.base import TDWeighting


    class Expectile(TDWeighting):
        \"\"\"|expectile - 1[error < 0]|, Newey and Powell (1987).\"\"\"

        @dataclass(frozen=True)
        class Options:
            expectile: float = option(0.5, "Of positive errors.", low=0.0, high=1.0)

        def weights(self, errors, view):
            return (self.options.expectile - (errors < 0).to(errors)).abs()
"""
LOSS = """
    import math
    from dataclasses import dataclass

    from torch.nn.functional import softplus

    from rllib_risk.config.options import option
    from rllib_risk.parts.losses.base import Loss


    class LogCosh(Loss):
        \"\"\"The logarithm of the hyperbolic cosine of the error.\"\"\"

        @dataclass(frozen=True)
        class Options:
            cosh_width: float = option(1.0, "Of the parabola.", low=0, low_open=True)

        def loss(self, view):
            errors = view.errors / self.options.cosh_width
            losses = errors.abs() + softplus(-2 * errors.abs()) - math.log(2)
            loss = view.mean(view.weigh(losses, errors.detach()))
            view.log("log_cosh", loss)
            view.log("highest_target", view.targets.max())
            return loss
"""
TARGET = """
    from dataclasses import dataclass

    from rllib_risk.config.options import option
    from rllib_risk.parts.targets.base import Target


    class Capped(Target):
        \"\"\"No target is above a limit.\"\"\"

        @dataclass(frozen=True)
        class Options:
            most: float | list = option(9.0, "The limit, or a schedule.", low=0.0)

        def targets(self, view):
            targets = view.rewards + view.discount * view.next_values
            return targets.clamp(max=view.now(self.options.most))
"""
REPLAY = """
    from dataclasses import dataclass

    import numpy as np

    from rllib_risk.config.options import option
    from rllib_risk.data.episodes import collate
    from rllib_risk.parts.replay import Replay


    class Prioritised(Replay):
        \"\"\"Episodes by their last TD errors, after Schaul et al. (2016).\"\"\"

        @dataclass(frozen=True)
        class Options:
            priority: float = option(0.6, "Exponent; 0: uniform.", low=0.0, high=1.0)

        def __init__(self, seed, options=None):
            super().__init__(seed, options)
            self.errors = np.ones(self.capacity)

        def add(self, episodes):
            super().add(episodes)
            self.errors[self.newest_places(len(episodes))] = self.errors.max()

        def draw(self, size):
            chances = self.errors[: len(self)] ** self.options.priority
            places = self.next_rng().choice(len(self), size, p=chances / chances.sum())
            samples = collate(self.at(places))
            samples["places"] = places
            return samples

        def learned(self, samples, view):
            errors = (view.errors.detach() * view.mask).abs().mean(dim=(1, 2))
            self.errors[samples["places"]] = errors.numpy() + 1e-3

        def state_arrays(self):
            return super().state_arrays() | {"errors": self.errors}

        def load_arrays(self, arrays):
            super().load_arrays(arrays)
            self.errors = arrays["errors"]
"""
PENALTY = """
    from dataclasses import dataclass

    from rllib_risk.config.options import option
    from rllib_risk.parts.penalties.base import Penalty


    class Squared(Penalty):
        \"\"\"The square of the values' distance to a limit.\"\"\"

        @dataclass(frozen=True)
        class Options:
            lowest: float = option(0.0, "The limit.", high=5.0)

        def penalties(self, view):
            return (view.values - self.options.lowest).square()
"""
GATE = """
    from dataclasses import dataclass

    from rllib_risk.config.options import option
    from rllib_risk.parts.regression import QuantileRegression


    class Later(QuantileRegression):
        \"\"\"Opens after a number of env steps.\"\"\"

        @dataclass(frozen=True)
        class Options:
            later_than: int = option(0, "The number.", low=0, unit="env steps")

        def is_open(self, env_steps, success_rate):
            return env_steps > self.options.later_than
"""
OBJECTIVE = """
    from dataclasses import dataclass

    from rllib_risk.config.options import option
    from rllib_risk.parts.objectives.base import Objective


    class Nearsighted(Objective):
        \"\"\"The mean return with a lower discount.\"\"\"

        @dataclass(frozen=True)
        class Options:
            discount_factor: float = option(1.0, "Of gamma.", low=0.0, high=1.0)

        def gamma(self, gamma):
            return self.options.discount_factor * gamma
"""
# Slot -> file, class, key, a value of the key and a value out of range.
OWN = {
    "exploration": (EXPLORER, "my_explorer:Stubborn", "favourite", 1, 11),
    "td_weighting": (WEIGHTING, "my_weighting:Expectile", "expectile", 0.1, 1.5),
    "loss": (LOSS, "my_loss:LogCosh", "cosh_width", 2.0, 0.0),
    "target": (TARGET, "my_target:Capped", "most", 3.5, -1.0),
    "replay": (REPLAY, "my_replay:Prioritised", "priority", 0.9, 2.0),
    "penalty": (PENALTY, "my_penalty:Squared", "lowest", -2.0, 6.0),
    "qr_gate": (GATE, "my_gate:Later", "later_than", 8, -1),
    "objective": (OBJECTIVE, "my_objective:Nearsighted", "discount_factor", 0.5, 1.5),
}
# Further keys that a part needs, or has from its base class.
BESIDE = {
    "penalty": {"conservative_weight": 1.0},
    "qr_gate": {"num_atoms": 2, "qr_interval": 1},
    "replay": {"buffer_size_episodes": 40},
}
YAML = """
own:
  run: IndependentQ
  env: two_step
  config:
    {slot}: {part}
    {key}: {value}
"""
SLOTS = pytest.mark.parametrize("slot", OWN)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Writes the files to a folder on Python's path."""
    for source, part, *_ in OWN.values():
        module = part.partition(":")[0]
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)


def config(**keys):
    return IndependentQConfig().environment("two_step").training(hidden_size=8, **keys)


def load(folder, slot, **other):
    _, part, key, value, _ = OWN[slot]
    given = {"slot": slot, "part": part, "key": key, "value": value} | other
    (folder / "own.yaml").write_text(YAML.format(**given))
    return parse_document(read_yaml(folder / "own.yaml"), RLlibCatalog())


@SLOTS
def test_yaml_takes_its_keys_and_refuses_a_mistyped_one(slot, tmp_path):
    _, part, key, value, wrong = OWN[slot]
    name = part.partition(":")[2]
    (spec,) = load(tmp_path, slot)
    assert spec.config[key] == value
    with pytest.raises(ConfigError, match=rf"own.yaml:7.*{key}x.*'{key}'"):
        load(tmp_path, slot, key=f"{key}x")
    with pytest.raises(ConfigError, match=rf"own.yaml:7.*{key}: must be in"):
        load(tmp_path, slot, value=wrong)
    with pytest.raises(ConfigError, match=rf"own.yaml:6.*{slot}: .*{name}x'"):
        load(tmp_path, slot, part=f"{part}x")
    # A class of another slot.
    other = OWN["target" if slot == "loss" else "loss"][1]
    with pytest.raises(ConfigError, match=rf"own.yaml:6.*{slot}: .*must be a subclass"):
        load(tmp_path, slot, part=other)


@SLOTS
def test_python_takes_its_keys(slot):
    _, part, key, value, wrong = OWN[slot]
    assert hasattr(config(**{slot: part}), key)
    assert getattr(config(**{slot: part, key: value}), key) == value
    with pytest.raises(ConfigError, match=key):
        config(**{key: value})
    with pytest.raises(ConfigError, match=f"{key}: must be in"):
        config(**{slot: part, key: wrong})
    config(**{slot: part}, **BESIDE.get(slot, {})).validate()


OWN_KEY = dataclasses.make_dataclass(
    "Options", [("own_key", int, option(3, "A key."))], frozen=True
)


@pytest.mark.parametrize(
    ("slot", "base"),
    [(key, name) for key, slot in VALUE_PARTS.slots.items() for name in slot.builtin],
)
def test_a_subclass_has_the_options_of_its_base_class(slot, base):
    base = VALUE_PARTS.slots[slot].part(base)
    part = type("Own", (base,), {"Options": OWN_KEY})
    fields = fields_of(part.Options)
    assert fields == {"own_key": fields["own_key"]} | fields_of(base.Options)
    made = part.read({"own_key": 5})
    assert vars(made) == {"own_key": 5} | vars(base.Options())
    assert fields_of(OWN_KEY).keys() == {"own_key"}


@pytest.mark.parametrize("base", [Penalty, DualTarget, QuantileRegression])
def test_a_subclass_has_the_options_of_an_abstract_base_class(base):
    part = type("Own", (base,), {"Options": OWN_KEY})
    assert fields_of(part.Options).keys() == {"own_key", *fields_of(base.Options)}


def test_a_class_without_its_own_options_has_those_of_all_base_classes():
    class Both(Plain, DualTarget):
        pass

    every = fields_of(Plain.Options).keys() | fields_of(DualTarget.Options)
    assert fields_of(Both.Options).keys() == every


@pytest.mark.parametrize("base", [Mixer, RiskMeasure])
def test_only_a_class_without_options_takes_keyword_arguments(base):
    assert type("Own", (base,), {}).Options is base.Options
    assert type("Own", (base,), {"Options": OWN_KEY}).Options is OWN_KEY


def test_a_schedule_of_an_own_key_is_checked():
    wrong = config(target="my_target:Capped", most=[[0, 1.0], [0, 2.0]])
    with pytest.raises(ConfigError, match=r"most: .*ascending order"):
        wrong.validate()


def parameters(algorithm):
    return [p.detach().clone() for p in algorithm.team_policy.network.parameters()]


def test_they_play_and_learn_and_come_back_from_a_checkpoint(tmp_path, ray_local):
    keys = {slot: part for slot, (_, part, *_) in OWN.items()}
    keys |= {key: value for _, _, key, value, _ in OWN.values()}
    keys |= {key: value for beside in BESIDE.values() for key, value in beside.items()}
    made = config(**keys, batch_size_episodes=4, learning_starts_episodes=4)
    made.min_sample_timesteps_per_iteration = 16
    made.evaluation_duration = 1
    algorithm = made.build_algo()
    learner = algorithm.train()["learner"]
    assert learner["log_cosh"] > 0 and learner["highest_target"] <= 3.5
    # Logged for every loss that reads values and targets.
    assert learner["target_mean"] <= 3.5
    distance = abs(learner["target_mean"] - learner["q_taken_mean"])
    assert 0 < distance <= learner["td_error_abs"] + 1e-6
    # A positive error has the weight 0.1, a negative one 0.9.
    assert 0.1 <= learner["td_weight_mean"] <= 0.9
    (episode, *_) = algorithm.env_runner.sample(0)
    np.testing.assert_array_equal(episode.actions, 1)
    # Some episodes were learned from, and the replay keeps their errors.
    assert len(np.unique(algorithm.replay.errors[: len(algorithm.replay)])) > 2
    assert algorithm.replay.capacity == 40
    assert learner["conservative_penalty"] > 0
    assert learner["qr_loss"] > 0
    assert algorithm.team_policy.gamma == 0.5 * algorithm.config.gamma
    assert made.risk() == "my_objective:Nearsighted"
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.train()
    expected = parameters(algorithm), algorithm.replay.errors
    algorithm.stop()
    with pytest.raises(CheckpointError, match="my_"):
        TeamAlgorithm.from_checkpoint(tmp_path)
    again = TeamAlgorithm.from_checkpoint(tmp_path, trust_code=True)
    assert {key: getattr(again.config, key) for key in keys} == keys
    again.train()
    assert all(map(torch.equal, parameters(again), expected[0]))
    np.testing.assert_array_equal(again.replay.errors, expected[1])
    again.stop()


def test_a_users_weighting_learns_the_known_expectile(ray_local):
    # Joint risky pays -5 with probability 0.2, else 4. Its mean is 2.2. The expectile e
    # at 0.1: 0.1 * 0.8 (4 - e) = 0.9 * 0.2 (e + 5), so e = -0.58 / 0.26.
    answer = -0.58 / 0.26
    made = config(
        exploration="my_explorer:Stubborn",
        favourite=1,
        td_weighting="my_weighting:Expectile",
        expectile=0.1,
        recurrent=False,
        optimizer="adam",
        lr=[[0, 0.02], [1500, 0.001]],
        batch_size_episodes=128,
        learning_starts_episodes=128,
    )
    made.environment("risky_bandit").debugging(seed=1)
    made.env_runners(num_envs_per_env_runner=8)
    made.min_sample_timesteps_per_iteration = 1600
    made.evaluation_interval = None
    algorithm = made.build_algo()
    learner = algorithm.train()["learner"]
    algorithm.stop()
    assert learner["q_taken_mean"] == pytest.approx(answer, abs=0.3)


def test_a_key_of_a_part_that_is_not_in_use_is_refused_by_naming_it():
    wrong = config(epsilon_z_exponent=3.0)
    with pytest.raises(
        ConfigError,
        match=r"epsilon_z_exponent: belongs to exploration: epsilon_z_greedy.*"
        "'epsilon_greedy'",
    ):
        wrong.validate()
    # A checkpoint may have such a key: an earlier version accepted it.
    record = json.loads(json.dumps(to_record("IndependentQ", wrong)))
    from_record(record, trust_code=False).validate()


def test_a_key_at_its_default_may_stay_where_no_part_reads_it():
    config(epsilon_z_exponent=2.0, td_weighting_alpha=0.1).validate()
    # An own target reads no key that it does not declare.
    with pytest.raises(ConfigError, match="td_lambda: belongs to target: plain or"):
        config(target="my_target:Capped", td_lambda=0.5).validate()


class Named(TDWeighting):
    """A weighting whose option gets its name from the test."""

    Options: type

    def weights(self, errors, view):
        return torch.ones_like(errors)


@pytest.mark.parametrize("key", ["qr_kappa", "batch_size_episodes", "gamma", "preset"])
def test_an_option_with_the_name_of_another_key_is_refused(key, monkeypatch):
    declared = [(key, float, option(5.0, "Another meaning.", low=2.0))]
    options = dataclasses.make_dataclass("Options", declared, frozen=True)
    monkeypatch.setattr(Named, "Options", options)
    config = IndependentQConfig()
    message = f"td_weighting: '{__name__}:Named' declares '{key}', but another key"
    with pytest.raises(ConfigError, match=message):
        config.training(td_weighting=f"{__name__}:Named")


def test_an_unknown_key_beside_own_parts_names_theirs():
    with pytest.raises(ConfigError, match=r"'cosh_widht' .*Did you mean 'cosh_width'"):
        config(loss="my_loss:LogCosh", cosh_widht=2.0)
    with pytest.raises(ConfigError, match=r"'zzz' .*own parts declare cosh_width\."):
        config(loss="my_loss:LogCosh", zzz=2.0)


def test_a_key_of_another_method_is_not_suggested_under_its_own_name():
    key = "min_sample_timesteps_per_iteration"
    with pytest.raises(ConfigError, match=rf"^{key}: .*call reporting\({key}=\.\.\.\)"):
        config(**{key: 5})


def test_the_error_for_a_bad_default_names_the_users_class(monkeypatch):
    declared = [("steepness", float, option(-1.0, "Of nothing.", low=0.0))]
    options = dataclasses.make_dataclass("Options", declared, frozen=True)
    monkeypatch.setattr(Named, "Options", options)
    part = f"{__name__}:Named"
    message = f"^td_weighting: '{part}' declares the option 'steepness' with a default"
    with pytest.raises(ConfigError, match=rf"{message}.*\[0, inf\), not -1.0"):
        config(td_weighting=part).validate()
    # If the user sets the key, only that value is checked.
    config(td_weighting=part, steepness=1.0).validate()
    with pytest.raises(ConfigError, match=r"^steepness: must be in"):
        config(td_weighting=part, steepness=-2.0)


SWEEP = """
own:
  run: IndependentQ
  env: two_step
  config:
    loss: {grid_search: [td, "my_loss:LogCosh"]}
    cosh_width: 2.0
"""


def test_keys_of_own_parts_in_a_sweep(tmp_path):
    def check(text):
        (tmp_path / "own.yaml").write_text(text)
        (spec,) = parse_document(read_yaml(tmp_path / "own.yaml"), RLlibCatalog())
        check_combinations(spec)
        values = concrete_configs(spec.config, 9)
        return [build_config(spec, chosen) for chosen in values]

    with pytest.raises(
        ConfigError, match=r"own.yaml:7: cosh_width: belongs to loss: my"
    ):
        check(SWEEP)
    with_it = check(f"{SWEEP}    unused_keys: ignore\n")
    assert [getattr(c, "cosh_width", None) for c in with_it] == [None, 2.0]
    # A key of no part is still an error.
    with pytest.raises(ConfigError, match=r"own.yaml:8: unknown key 'cosh'"):
        check(f"{SWEEP}    cosh: 1\n    unused_keys: ignore\n")
