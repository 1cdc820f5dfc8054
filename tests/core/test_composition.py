"""Free composition: some combinations are refused with a reason, all others learn."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from loss_cases import composition, random_episode, value_based
from side_by_side import gradient_error

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.value_config import ValueConfig
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import collate
from rllib_risk.env_wrappers.registry import make_team_env
from rllib_risk.parts.mixers import Mixer
from rllib_risk.parts.risk import RiskMeasure
from rllib_risk.parts.team import network_keys


class ScaledSum(Mixer):
    """A user's own mixer: a sum with one learned factor."""

    def __init__(self, sizes):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, team):
        return self.factor * team.utilities.sum(dim=-1, keepdim=True)


class Scaled(Mixer):
    """A user's own mixer with one value per agent."""

    def __init__(self, sizes):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, team):
        return self.factor * team.utilities


class MidRange(RiskMeasure):
    """A user's own risk measure, for fixed atoms and for sampled quantiles."""

    def forward(self, atoms, level_logits=None):
        return (atoms.amin(dim=-1) + atoms.amax(dim=-1)) / 2

    def distort(self, fractions):
        return fractions

    def of_samples(self, atoms):
        return self(atoms)


class FixedOnly(RiskMeasure):
    """A user's own risk measure without a map of fractions."""

    def forward(self, atoms, level_logits=None):
        return atoms.amin(dim=-1)


OWN_MIXER, OWN_MEASURE = f"{__name__}:ScaledSum", f"{__name__}:MidRange"

ATOMS = {"num_atoms": 4}
CVAR = ATOMS | {"risk_measure": "cvar"}
DYNAMIC = CVAR | {"risk_mode": "dynamic"}
SAMPLED = ATOMS | {"quantiles": "sampled"}
QUANTILE = ATOMS | {"loss": "quantile"}
WQMIX = {"mixer": "qmix", "joint_critic": "wqmix"}
QTRAN = {"mixer": "vdn", "joint_critic": "qtran", "loss": "qtran"}

# Keys that do not fit, and what the message must name: the key, and what to do.
REFUSED = [
    (
        {"evaluation_config": {"env_config": {}}, "evaluation_interval": None},
        r"evaluation_config.*evaluation_interval above 0",
    ),
    ({"risk_measure": "cvar"}, r"risk_measure.*'cvar'.*num_atoms above 1"),
    ({"risk_measure": OWN_MEASURE}, r"risk_measure.*num_atoms above 1"),
    ({"risk_measure": "lowest"}, r"risk_measure.*'lowest'"),
    ({"risk_mode": "neutral"}, r"risk_mode.*'neutral'"),
    (ATOMS | {"risk_mode": "dynamic"}, r"risk_mode.*'mean'.*risk_measure: cvar"),
    (DYNAMIC | {"risk_measure": "wang"}, r"risk_mode.*'wang'.*risk_mode: static"),
    (DYNAMIC | {"risk_measure": OWN_MEASURE}, r"risk_mode.*MidRange"),
    (DYNAMIC | {"quantiles": "sampled"}, r"risk_mode.*quantiles: fixed"),
    (DYNAMIC | {"alpha": 0.5}, r"alpha: belongs to .*risk_mode: static.*dynamic"),
    (ATOMS | {"alpha": 0.5}, r"alpha.*no effect.*mean"),
    (ATOMS | {"risk_measure": "wang", "alpha": 0.5}, r"alpha.*no effect.*wang"),
    (CVAR | {"alpha": 0.0}, r"alpha"),
    (CVAR | {"alpha": 1.1}, r"alpha"),
    (CVAR | {"alpha": [[0, 0.5], [10, 0.0]]}, r"alpha.*\(0, 1\]"),
    (CVAR | {"alpha": [[10, 0.5], [0, 0.7]]}, r"alpha.*ascending"),
    ({"td_lambda": [[0, 0.5], [0, 0.7]]}, r"td_lambda.*ascending"),
    ({"lr": [[0, 1e-3], [10, 0.0]]}, r"lr.*\(0, 100\]"),
    ({"lr": [[10, 1e-3], [0, 1e-4]]}, r"lr.*ascending"),
    ({"lr": [[0, "fast"]]}, r"lr.*points"),
    ({"lr": 0.0}, r"lr"),
    (
        WQMIX | {"td_weighting": "ow", "td_weighting_alpha": [[0, 1.5]]},
        r"td_weighting_alpha.*\[0, 1\]",
    ),
    (CVAR | {"risk_parameter": 0.5}, r"risk_parameter: belongs to.*wang.*'cvar'"),
    (ATOMS | {"risk_parameter": 0.5}, r"risk_parameter: belongs to.*wang.*'mean'"),
    (CVAR | {"risk_levels": 5}, r"risk_levels: belongs to risk_mode: dynamic"),
    ({"mixer": "vdn", "mixing_embed_dim": 8}, r"mixing_embed_dim: belongs.*: qmix"),
    ({"mixer": "qplex", "hypernet_embed_dim": 8}, r"hypernet_embed_dim.*mixer: qmix"),
    (CVAR | {"risk_kwargs": {"share": 1}}, r"risk_kwargs.*your own"),
    (ATOMS | {"risk_measure": "var"}, r"alpha.*highest atom"),
    (SAMPLED | CVAR | {"cvar_norm": "eq2_raw"}, r"cvar_norm.*fixed atoms"),
    (SAMPLED | CVAR | {"cvar_mode": "exact"}, r"cvar_mode.*fixed atoms"),
    (ATOMS | {"cvar_norm": "eq2_raw"}, r"cvar_norm: belongs to risk_measure: cvar"),
    (CVAR | {"cvar_mode": "exact", "cvar_norm": "eq2_raw"}, r"cvar_mode.*'count'"),
    ({"mixer": "vdn", "mixer_kwargs": {"a": 1}}, r"mixer_kwargs.*your own"),
    ({"mixer": "sum"}, r"mixer.*'sum'"),
    ({"joint_critic": "wqmix"}, r"joint_critic.*'none'.*another mixer"),
    ({"joint_critic": "qtran"}, r"joint_critic.*'none'.*another mixer"),
    (QUANTILE | WQMIX | {"mixer": "vdn"}, r"joint_critic.*joint_critic: none"),
    (WQMIX | {"double_q": False}, r"joint_critic.*double_q: true"),
    (QTRAN | {"joint_critic": "none"}, r"loss: 'qtran'.*joint_critic: qtran"),
    (QTRAN | {"joint_critic": "wqmix"}, r"loss: 'qtran'.*joint_critic: qtran"),
    (QTRAN | {"td_weighting": "ow"}, r"td_weighting.*td_weighting: none"),
    ({"mixer": "qmix", "td_weighting": "cw"}, r"td_weighting: 'cw'.*wqmix"),
    ({"td_weighting": "likelihood"}, r"td_weighting: 'likelihood'.*loss: quantile"),
    (QUANTILE | {"td_weighting": "cw"}, r"td_weighting: 'cw'"),
    ({"quantiles": "sampled"}, r"num_atoms.*above 1"),
    ({"loss": "quantile"}, r"num_atoms.*above 1"),
    ({"qr_gate": "step"}, r"num_atoms.*above 1.*qr_gate: never"),
    (QUANTILE | SAMPLED | {"mixer": "vdn"}, r"quantiles: 'sampled'.*shared_fractions"),
    (ATOMS | {"shared_fractions": True}, r"shared_fractions: belongs.*: sampled"),
    ({"tail_level": 0.2}, r"tail_level.*loss: quantile"),
    (QUANTILE | CVAR | {"tail_level": 0.2}, r"tail_level.*risk_measure: mean"),
    ({"conservative_on": "mean"}, r"conservative_on.*conservative_weight"),
    ({"conservative_weight": -1.0}, r"conservative_weight"),
    (QUANTILE | SAMPLED | {"td_lambda": 0.5}, r"td_lambda.*per quantile.*td_lambda: 0"),
    (
        QUANTILE | SAMPLED | {"td_lambda": [[0, 0.0], [9, 0.5]]},
        r"td_lambda.*quantiles: fixed, or td_lambda: 0",
    ),
    (QUANTILE | {"qr_gate": "step"}, r"qr_gate.*qr_gate: never"),
    (QUANTILE | DYNAMIC, r"risk_mode.*predictor.*risk_grad: frozen"),
    (
        SAMPLED | {"qr_gate": "step", "qr_loss": "official"},
        r"quantiles: 'sampled'.*qr_loss: qrdqn",
    ),
    (
        SAMPLED | {"loss": "quantile", "mixer": "none", "qr_fractions": "right_edge"},
        r"quantiles.*qr_fractions: midpoint",
    ),
    (
        SAMPLED | {"loss": "quantile", "mixer": "none", "tail_level": 0.2},
        r"tail_level.*quantiles: fixed",
    ),
    ({"qr_loss": "official"}, r"qr_loss: belongs to loss: quantile .*winrate.*never"),
    ({"qr_start_step": 5, "qr_gate": "winrate"}, r"qr_start_step.*qr_gate: step "),
    ({"td_weighting_alpha": 0.5}, r"td_weighting: ow, cw or likelihood"),
    ({"opt_weight": 2.0}, r"opt_weight: belongs to loss: qtran .*here it is 'td'"),
    (
        ATOMS | {"qr_gate": "winrate", "evaluation_interval": None},
        r"qr_gate.*evaluation_interval above 0",
    ),
]


def make_config(keys, base=ValueConfig):
    config = base()
    config.update_from_dict(keys)
    return config


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_what_makes_no_sense_is_refused_with_the_reason(keys, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        make_config(keys).validate()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"lr": [[0, 1e-3], [1000, 1e-4]]},
        {"mixer": "qmix", "conservative_weight": 0.0},
        QUANTILE | {"mixer": "vdn", "tail_level": 0.15, "conservative_weight": 1.0},
        QUANTILE | DYNAMIC | {"risk_grad": "frozen"},
        QUANTILE | {"mixer": "qmix", "td_lambda": 0.5},
        QUANTILE | {"mixer": OWN_MIXER, "qr_loss": "riskq_released"},
        SAMPLED | {"loss": "quantile", "mixer": "qplex", "shared_fractions": True},
        CVAR | {"alpha": [[0, 1.0], [1000, 0.2]]},
        SAMPLED | CVAR | {"alpha": 0.2},
        QTRAN | {"mixer": "qmix"},
        WQMIX | {"td_weighting": "none"},
        WQMIX | {"mixer": OWN_MIXER, "td_weighting": "cw"},
        {"mixer": "qmix", "td_weighting": "ow"},
        QUANTILE | {"td_weighting": "ow"},
        SAMPLED | {"qr_gate": "step", "mixer": "qmix"},
    ],
    ids=str,
)
def test_what_makes_sense_is_not_refused(keys):
    make_config(keys).validate()


def test_a_sweep_over_parts_may_give_each_its_keys():
    sweep = {"mixing_embed_dim": 8, "rho": 0.1, "unused_keys": "ignore"}
    config = make_config(sweep | {"mixer": "vdn"})
    config.validate()
    plain = make_config({"mixer": "vdn", "unused_keys": "ignore"})
    plain.validate()
    assert config == plain
    config = make_config(sweep | {"mixer": "qmix"})
    config.validate()
    assert (config.mixing_embed_dim, config.rho) == (8, 0.0)
    # A key that no part has is still an error.
    with pytest.raises(ConfigError, match=r"mixing_embed_dims.*Did you mean"):
        make_config(sweep | {"mixing_embed_dims": 8}).validate()


@pytest.mark.parametrize("name", value_based())
def test_any_key_may_be_given_to_any_algorithm(name):
    # Algorithms differ only in their defaults. Without these the plain one is left.
    fields = ValueConfig.fields()
    changed = config_class(name).overrides.keys() & fields.keys()
    undone = {key: fields[key].default for key in changed}
    config = make_config(undone, config_class(name))
    config.validate()
    assert network_keys(vars(config)) == network_keys(vars(ValueConfig()))


def test_parts_that_do_not_fit_the_environment_are_refused():
    with_state = make_team_env("macn", {})
    no_state = spaces.Box(-np.inf, np.inf, (0,), np.float32)
    without = SimpleNamespace(
        observation_space=spaces.Dict({**TEAM, "state": no_state}),
        action_space=spaces.MultiDiscrete([4] * 3),
    )
    for keys in ({"mixer": "qmix"}, {"mixer": "qplex"}):
        with pytest.raises(ConfigError, match=f"mixer: '{keys['mixer']}'.*mixer: vdn"):
            make_config(keys).check_env(without)
        make_config(keys).check_env(with_state)
    for critic in ("qtran", "wqmix"):
        keys = {"mixer": "vdn", "joint_critic": critic}
        with pytest.raises(ConfigError, match=f"joint_critic: '{critic}'"):
            make_config(keys).check_env(without)
        make_config(keys).check_env(with_state)
    keys = {"risk_measure": f"{__name__}:FixedOnly", "num_atoms": 4}
    make_config(keys).check_env(without)
    with pytest.raises(ConfigError, match="FixedOnly has no map of fractions"):
        make_config(keys | {"quantiles": "sampled"}).check_env(without)
    # A critic's targets are the team's; one value per agent would be broadcast to them.
    keys = {"mixer": f"{__name__}:Scaled", "joint_critic": "wqmix"}
    with pytest.raises(ConfigError, match=r"joint_critic: 'wqmix'.*Scaled'.*per agent"):
        make_config(keys).check_env(with_state)
    make_config(keys | {"joint_critic": "none"}).check_env(with_state)


TEAM = spaces.Dict(
    obs=spaces.Box(-np.inf, np.inf, (3, 5), np.float32),
    state=spaces.Box(-np.inf, np.inf, (6,), np.float32),
    action_mask=spaces.Box(0, 1, (3, 4), np.uint8),
)


def make_policy(keys, base=ValueConfig, seed=0):
    torch.manual_seed(seed)
    config = make_config({"hidden_size": 8, "seed": 5} | keys, base)
    config.validate()
    policy = ValuePolicy(TEAM, spaces.MultiDiscrete([4] * 3), config.to_dict())
    with torch.no_grad():
        for parameter in policy.target_network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    lengths = [(6, True), (3, False), (5, True), (4, False)]
    return collate([random_episode(rng, n, terminated=end) for n, end in lengths])


AXES = {
    "measure": {
        "mean": {},
        "cvar": {"risk_measure": "cvar", "alpha": 0.5},
        "cvar predicted": {"risk_measure": "cvar", "risk_mode": "dynamic"},
        "var": {"risk_measure": "var", "alpha": 0.5},
        "var predicted": {"risk_measure": "var", "risk_mode": "dynamic"},
        "wang": {"risk_measure": "wang"},
        "cpw": {"risk_measure": "cpw"},
        "power": {"risk_measure": "power"},
        "mean_variance": {"risk_measure": "mean_variance"},
        "own measure": {"risk_measure": OWN_MEASURE},
    },
    "mixer": {
        "no mixer": {"mixer": "none"},
        "vdn": {"mixer": "vdn"},
        "qmix": {"mixer": "qmix"},
        "qplex": {"mixer": "qplex"},
        "own mixer": {"mixer": OWN_MIXER},
    },
    "critic": {
        "no critic": {"joint_critic": "none"},
        "qtran critic": {"joint_critic": "qtran"},
        "wqmix critic": {"joint_critic": "wqmix"},
    },
    "loss": {
        "td": {"loss": "td"},
        "quantile": {"loss": "quantile"},
        "qtran": {"loss": "qtran"},
    },
    "weighting": {
        "even": {"td_weighting": "none"},
        "ow": {"td_weighting": "ow"},
        "cw": {"td_weighting": "cw"},
        "likelihood": {"td_weighting": "likelihood"},
    },
    "quantiles": {
        "fixed": {},
        "sampled": {"quantiles": "sampled", "shared_fractions": True},
    },
    "memory": {"gru": {"recurrent": True}, "no gru": {"recurrent": False}},
    "sharing": {"shared": {}, "separate": {"parameter_sharing": False}},
    "return": {
        "one step": {},
        "lambda": {"td_lambda": 0.5},
        "watkins": {"td_lambda": 0.5, "td_lambda_cut": "watkins"},
    },
}
LEVELS = {"cvar predicted", "var predicted"}
CRITICS = {"qtran critic", "wqmix critic"}
AXIS_OF = {name: axis for axis, names in AXES.items() for name in names}
# Pairs that are refused whatever the other choices.
NEVER = {
    frozenset(pair)
    for left, right in [
        (LEVELS, {"sampled", "quantile", "likelihood"}),
        (CRITICS, {"no mixer", "quantile", "likelihood"}),
        ({"quantile", "likelihood"}, {"td", "qtran", "cw"}),
        ({"qtran"}, {"no mixer", "no critic", "wqmix critic", "ow", "cw"}),
        ({"cw"}, {"no mixer", "no critic"}),
    ]
    for pair in itertools.product(left, right)
    if AXIS_OF[pair[0]] != AXIS_OF[pair[1]]
}


def keys_of(row):
    keys = {"num_atoms": 6}
    for part, name in zip(AXES.values(), row, strict=True):
        keys |= part[name]
    if keys.get("risk_mode") == "dynamic":
        keys["risk_levels"] = 3
    if keys["mixer"] == "qmix":
        keys["mixing_embed_dim"] = 4
    return keys


def pairs_of(row):
    return {frozenset(pair) for pair in itertools.combinations(row, 2)}


CONFIG = ValueConfig()
DEFAULTS = {key: field.default for key, field in CONFIG.fields().items()}


def is_accepted(row):
    # One object for all rows: making thousands would take minutes.
    vars(CONFIG).update(DEFAULTS | keys_of(row))
    try:
        CONFIG._check_combinations()
    except ConfigError:
        return False
    return True


def covering_rows():
    """Accepted rows that together contain every pair outside `NEVER`."""
    rng = random.Random(0)
    values = {axis: list(names) for axis, names in AXES.items()}
    missing = {
        frozenset(pair)
        for left, right in itertools.combinations(AXES.values(), 2)
        for pair in itertools.product(left, right)
    } - NEVER
    chosen = []
    while missing:
        pair, candidates = min(missing, key=sorted), []
        fixed = {AXIS_OF[name]: name for name in pair}
        for _ in range(10_000):
            row = tuple(fixed.get(a) or rng.choice(values[a]) for a in AXES)
            if not pairs_of(row) & NEVER and is_accepted(row):
                candidates.append(row)
            if len(candidates) == 12:
                break
        assert candidates, f"no row with {sorted(pair)} is accepted"
        chosen.append(max(candidates, key=lambda row: len(pairs_of(row) & missing)))
        missing -= pairs_of(chosen[-1])
    return chosen


ROWS = covering_rows()


def test_pairs_that_no_combination_contains():
    # No pair has a name of these axes, so one value of each stands for all.
    free = ("memory", "sharing", "return")
    assert not {AXIS_OF[name] for pair in NEVER for name in pair} & {*free}
    axes = (list(AXES[axis])[: 1 if axis in free else None] for axis in AXES)
    for row in itertools.product(*axes):
        assert not (pairs_of(row) & NEVER and is_accepted(row)), row


def ought_to_learn(name, keys):
    """All parameters learn, but V(s) of QTRAN's critic only in QTRAN's own loss."""
    of_value = name.startswith("joint_critic.value") and keys["loss"] != "qtran"
    return not (of_value and keys["joint_critic"] == "qtran")


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_every_accepted_pair_learns(row):
    keys = keys_of(row)
    policy = make_policy(keys)
    before = {k: v.detach().clone() for k, v in policy.network.named_parameters()}
    stats = policy.learn_on_batch(make_batch())
    assert all(np.isfinite(value) for value in stats.values()), stats
    for name, parameter in policy.network.named_parameters():
        if ought_to_learn(name, keys):
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any(), name
            assert not torch.equal(parameter, before[name]), name
        else:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
    for parameter in policy.target_network.parameters():
        assert parameter.grad is None


@pytest.mark.parametrize("name", value_based())
def test_every_algorithm_learns_with_its_own_defaults(name):
    policy = make_policy({}, config_class(name))
    stats = policy.learn_on_batch(make_batch())
    assert all(np.isfinite(value) for value in stats.values())
    for key, parameter in policy.network.named_parameters():
        assert parameter.grad.any(), key


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_the_gradients_of_two_learners_add_up_for_every_accepted_pair(row):
    policy = make_policy(keys_of(row) | {"grad_clip": None})
    assert gradient_error(policy, make_batch()) < 1e-6


@pytest.mark.parametrize("name", value_based())
def test_the_gradients_of_three_learners_add_up_for_every_algorithm(name):
    policy = make_policy({"grad_clip": None}, config_class(name))
    assert gradient_error(policy, make_batch(), learners=3) < 1e-6


def test_a_users_mixer_may_return_one_value_per_agent():
    policy = make_policy({"mixer": f"{__name__}:Scaled"})
    policy.learn_on_batch(make_batch())
    assert policy.network.mixer.factor.grad.any()


# Randomness and schedules


def test_fractions_follow_from_the_seed_and_the_number_of_the_update():
    # A resumed run must repeat the fractions; no two updates share them.
    keys = composition("LHIQN") | {"qr_gate": "never"}
    policy, other = (make_policy(keys, config_class("LHIQN")) for _ in range(2))
    batch = policy.tensors(make_batch())

    def update(policy, index):
        policy.update_index = index
        fractions = policy.view(batch, 0).online.fractions
        return fractions, policy.td_targets_and_loss(batch)[0].item()

    first, second = update(policy, 0), update(policy, 1)
    assert not torch.equal(first[0], second[0]) and first[1] != second[1]
    for index, expected in ((0, first), (1, second)):
        for again in (update(policy, index), update(other, index)):
            assert torch.equal(again[0], expected[0]) and again[1] == expected[1]
    reseeded = make_policy(keys | {"seed": 6}, config_class("LHIQN"))
    assert not torch.equal(update(reseeded, 0)[0], first[0])
    # A quantile step draws other fractions than the TD step of the same update.
    policy.update_index = 0
    assert not torch.equal(policy.view(batch, 1).online.fractions, first[0])


def test_drawing_fractions_does_not_disturb_other_randomness():
    policy = make_policy(composition("LHIQN"))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    policy.td_targets_and_loss(policy.tensors(make_batch()))
    assert torch.equal(torch.rand(1), expected)


def test_an_annealed_level_follows_the_env_steps():
    # The level falls from 1 to 0.2 over 1000 env steps and is 0.6 half way. The
    # ceil(5 level) lowest of five atoms count: 5, then 3, then 1.
    keys = {"num_atoms": 5, "risk_measure": "cvar", "mixer": "vdn"}
    policy = make_policy(keys | {"alpha": [[0, 1.0], [1000, 0.2]]})
    expected = {
        0: [0.2] * 5,
        500: [1 / 3] * 3 + [0.0] * 2,
        1000: [1.0] + [0.0] * 4,
        9999: [1.0] + [0.0] * 4,
    }
    batch = make_batch()
    obs, mask = batch["obs"][:, 0], batch["action_mask"][:, 0]
    for steps, weights in expected.items():
        policy.on_global_var_update({"timestep": steps})
        level = 1.0 - 0.8 * min(steps, 1000) / 1000
        for network in (policy.network, policy.target_network):
            assert network.risk.levels == pytest.approx((level,))
            assert network.risk.weights[0].tolist() == pytest.approx(weights)
        # Acting and learning give the same as a network that is built with this level.
        fixed = make_policy(keys | {"alpha": round(level, 9)})
        for ours, theirs in zip(
            policy.make_actor(4).act(obs, mask),
            fixed.make_actor(4).act(obs, mask),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
        losses = [p.td_targets_and_loss(p.tensors(batch))[0] for p in (policy, fixed)]
        assert losses[0].item() == losses[1].item()


def test_the_td_weight_schedule_follows_the_env_steps():
    # LH-IQN: 0.2 to 0.4 over 200 000 env steps.
    policy = make_policy({}, config_class("LHIQN"))
    batch = policy.tensors(make_batch())
    for steps, beta in ((0, 0.2), (50_000, 0.25), (200_000, 0.4), (300_000, 0.4)):
        policy.on_global_var_update({"timestep": steps})
        view = policy.view(batch, 0)
        assert view.weighting.lesser(view) == pytest.approx(beta)
