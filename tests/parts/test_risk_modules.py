"""Risk measures as modules: every named one, levels, a user's own, and refusals."""

import copy

import numpy as np
import pytest
import torch
from team_cases import choose

from rllib_risk.ops.risk import (
    cvar,
    distortion_weights,
    mean_variance,
    simple_level,
    sort_atoms,
)
from rllib_risk.parts.risk import (
    Cpw,
    Cvar,
    Mean,
    MeanVariance,
    Power,
    RiskMeasure,
    Var,
    Wang,
)
from rllib_risk.parts.risk.base import make_risk

NAMED = ["mean", "cvar", "var", "wang", "cpw", "power", "mean_variance"]


def make(kind, num_atoms=10, **keys):
    keys = {"risk_levels": 5, **keys}
    mode = keys.pop("risk_mode", "static")
    level = choose("risk_mode", mode, **keys).make()
    return make_risk(choose("risk_measure", kind, **keys), num_atoms, level)


def shuffled(num_rows=None, num_atoms=10):
    """The numbers 1 to M in random order, in one row or several."""
    torch.manual_seed(0)
    rows = [torch.randperm(num_atoms) + 1.0 for _ in range(num_rows or 1)]
    return torch.stack(rows) if num_rows else rows[0]


# Atoms 1..10. Mean 5.5. CVaR 0.3: (1 + 2 + 3)/3; VaR 0.3: the third. Power with eta -1
# has the weights (21 - 2 j)/100: 11 - 7.15. Mean-variance: 5.5 - 0.2 * 8.25.
@pytest.mark.parametrize(
    ("kind", "keys", "expected"),
    [
        ("mean", {}, 5.5),
        ("cvar", {"alpha": 0.3}, 2.0),
        ("cvar", {}, 5.5),
        ("var", {"alpha": 0.3}, 3.0),
        ("power", {"risk_parameter": -1}, 3.85),
        ("wang", {"risk_parameter": 0}, 5.5),
        ("cpw", {"risk_parameter": 1}, 5.5),
        ("mean_variance", {"risk_parameter": 0.2}, 3.85),
    ],
)
def test_values_by_hand(kind, keys, expected):
    risk = make(kind, **keys)
    assert risk(shuffled()).item() == pytest.approx(expected)
    actions = torch.stack([shuffled(), shuffled() + 1])  # [A, M]
    utilities = risk.of_all_actions(actions)
    assert utilities.tolist() == pytest.approx([expected, expected + 1])


def test_default_parameters():
    # IQN's parameters are -0.75, 0.71 and -2. The variance's default is our own.
    atoms = shuffled()
    for kind, parameter in (("wang", -0.75), ("cpw", 0.71), ("power", -2.0)):
        expected = sort_atoms(atoms) @ distortion_weights(kind, parameter, 10)
        assert torch.equal(make(kind)(atoms), expected)
    assert make("mean_variance")(atoms).item() == pytest.approx(5.5 - 0.1 * 8.25)


@pytest.mark.parametrize("kind", NAMED)
def test_one_action_and_all_actions_agree(kind):
    torch.manual_seed(1)
    risk = make(kind, alpha=0.4)
    atoms = torch.randn(3, 2, 4, 10, requires_grad=True)
    everything = risk.of_all_actions(atoms)
    assert everything.shape == (3, 2, 4)
    assert not everything.requires_grad
    for action in range(4):
        one = risk(atoms[:, :, action])
        torch.testing.assert_close(one, everything[:, :, action])
    one.sum().backward()
    assert atoms.grad[:, :, 3].any()
    assert not atoms.grad[:, :, :3].any()


@pytest.mark.parametrize("kind", NAMED)
def test_no_measure_has_anything_in_a_checkpoint(kind):
    risk = make(kind)
    assert risk.state_dict() == {}
    assert list(risk.parameters()) == []


@pytest.mark.parametrize("kind", NAMED)
def test_measures_can_be_copied(kind):
    risk = make(kind, alpha=0.4)
    twin = copy.deepcopy(risk)
    twin.set_level(0.1)
    assert risk.levels == ((0.4,) if kind in ("cvar", "var") else (1.0,))
    assert torch.equal(risk(shuffled()), make(kind, alpha=0.4)(shuffled()))
    assert torch.equal(twin(shuffled()), make(kind, alpha=0.1)(shuffled()))


def test_distorted_measures_have_one_row_of_weights():
    weights = make("power", num_atoms=4, risk_parameter=1).weights
    # g = u^2 at quarters: see the tests of the weights.
    expected = [1 / 16, 3 / 16, 5 / 16, 7 / 16]
    assert weights.shape == (1, 4)
    assert weights[0].tolist() == pytest.approx(expected)


# Predicted levels ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cvar", "var"])
@pytest.mark.parametrize("grad", ["straight_through", "frozen"])
def test_predicted_levels(kind, grad):
    torch.manual_seed(2)
    risk = make(kind, risk_mode="dynamic", risk_grad=grad)
    assert risk.levels == (0.2, 0.4, 0.6, 0.8, 1.0)
    atoms = shuffled(6).requires_grad_()
    logits = torch.randn(6, 5, requires_grad=True)
    # CVaR at k/5 is the mean of 1..2k, VaR is 2k.
    k = logits.argmax(dim=-1) + 1
    expected = (2 * k + 1) / 2 if kind == "cvar" else 2.0 * k
    values = risk(atoms, logits)
    torch.testing.assert_close(values.detach(), expected.float())
    values.sum().backward()
    rows = atoms.grad
    for row, number in enumerate((2 * k).tolist()):
        weights = torch.zeros(10)
        if kind == "cvar":
            weights[:number] = 1 / number
        else:
            weights[number - 1] = 1.0
        torch.testing.assert_close(rows[row][atoms[row].argsort()], weights)
    if grad == "frozen":
        assert logits.grad is None
    else:
        assert (logits.grad.abs().sum(dim=-1) > 1e-3).all()
        assert logits.grad.sum(dim=-1).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["cvar", "var"])
def test_all_actions_share_the_predicted_level(kind):
    torch.manual_seed(3)
    risk = make(kind, risk_mode="dynamic")
    atoms, logits = torch.randn(7, 3, 10), torch.randn(7, 5)
    everything = risk.of_all_actions(atoms, logits)
    for action in range(3):
        with torch.no_grad():
            one = risk(atoms[:, action], logits)
        torch.testing.assert_close(everything[:, action], one)


def test_predicted_levels_do_not_move():
    # This also holds for a single level.
    for risk_levels in (1, 5):
        risk = make("cvar", risk_mode="dynamic", risk_levels=risk_levels)
        levels, weights = risk.levels, risk.weights.clone()
        risk.set_level(0.3)
        assert risk.levels == levels
        assert torch.equal(risk.weights, weights)


# Scheduled levels ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cvar", "var"])
def test_a_level_moves_in_place(kind):
    risk = make(kind, alpha=1.0)
    held = risk.weights.numpy()  # an actor's view
    risk.set_level(0.3)
    assert risk.levels == (0.3,)
    fresh = make(kind, alpha=0.3)
    assert torch.equal(risk.weights, fresh.weights)
    np.testing.assert_array_equal(held, fresh.weights.numpy())
    assert risk(shuffled()).item() == pytest.approx(2.0 if kind == "cvar" else 3.0)
    torch.testing.assert_close(
        risk.distort(torch.tensor([0.5])), fresh.distort(torch.tensor([0.5]))
    )


def test_a_moved_level_keeps_its_form():
    for keys in ({"cvar_mode": "exact"}, {"cvar_norm": "eq2_raw"}):
        risk = make("cvar", num_atoms=7, alpha=1.0, **keys)
        risk.set_level(0.4)
        fresh = make("cvar", num_atoms=7, alpha=0.4, **keys)
        assert torch.equal(risk.weights, fresh.weights)


def test_a_schedule_starts_with_its_first_value():
    risk = make("cvar", alpha=[[0, 0.5], [1000, 0.1]])
    assert risk.levels == (0.5,)
    assert risk(shuffled()).item() == pytest.approx(3.0)


@pytest.mark.parametrize("kind", ["mean", "wang", "cpw", "power", "mean_variance"])
def test_measures_without_a_level_stay(kind):
    risk = make(kind)
    before = risk(shuffled())
    risk.set_level(0.1)
    assert torch.equal(risk(shuffled()), before)
    assert risk.levels == (1.0,)


# Rounding errors of binary arithmetic must not remove or add an atom.
@pytest.mark.parametrize(
    ("level", "kept"),
    [
        (0.1 + 0.2, 30),  # 0.30000000000000004
        (0.3, 30),
        (1 - 0.7, 30),  # 0.30000000000000004
        (1 - 0.4, 60),
        (2 / 3, 67),
        (1.0, 100),
        (0.301, 31),
        (1e-5, 1),
    ],
)
def test_levels_from_arithmetic(level, kept):
    risk = make("cvar", num_atoms=100, alpha=0.5)
    risk.set_level(level)
    assert (risk.weights > 0).sum() == kept
    assert torch.equal(risk.weights, make("cvar", 100, alpha=level).weights)


def test_two_thirds_of_99_atoms_are_66():
    # Rounded to six decimals, 0.666667 of them would be 67.
    assert simple_level(2 / 3) * 99 == 66


@pytest.mark.parametrize("level", [0.0, -0.1, 1.01, float("nan"), 1e-9])
def test_levels_outside_the_range_are_refused(level):
    risk = make("cvar", alpha=0.5)
    with pytest.raises(ValueError, match="risk level"):
        make("cvar", alpha=level)
    with pytest.raises(ValueError, match="risk level"):
        risk.set_level(level)
    assert risk.levels == (0.5,)


# Sampled quantiles --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("mean", {}),
        ("cvar", {"alpha": 0.3}),
        ("var", {"alpha": 0.3}),
        ("wang", {}),
        ("cpw", {}),
        ("power", {}),
        ("mean_variance", {}),
    ],
)
def test_sampled_quantiles_and_atoms_agree(kind, keys):
    # A normal distribution N(1, 2), by many atoms and by quantiles at distort().
    fractions = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    risk = make(kind, num_atoms=100_000, **keys)

    def quantile(u):
        return 1 + 2 * torch.special.ndtri(u)

    sampled = risk.of_samples(quantile(risk.distort(fractions))).item()
    weighted = risk(quantile(fractions).float()).item()
    assert sampled == pytest.approx(weighted, abs=2e-3)


def test_distorted_fractions_by_hand():
    fractions = torch.tensor([[0.1, 0.5], [0.9, 1.0]])
    assert torch.equal(make("mean").distort(fractions), fractions)
    assert torch.equal(make("mean_variance").distort(fractions), fractions)
    torch.testing.assert_close(
        make("cvar", alpha=0.4).distort(fractions), 0.4 * fractions
    )
    assert (make("var", alpha=0.4).distort(fractions) == 0.4).all()


def test_samples_of_mean_variance():
    risk = make("mean_variance", risk_parameter=0.2)
    atoms = torch.stack([shuffled(), shuffled() * 2])
    # 5.5 - 0.2 * 8.25, and 11 - 0.2 * 4 * 8.25.
    assert risk.of_samples(atoms).tolist() == pytest.approx([3.85, 4.4])


@pytest.mark.parametrize(
    "keys", [{"risk_mode": "dynamic"}, {"cvar_norm": "code_offby1"}]
)
def test_measures_that_no_map_of_fractions_makes_are_refused(keys):
    with pytest.raises(ValueError, match=r"static risk level|cvar_norm 'count'"):
        make("cvar", **keys).distort(torch.rand(3))


# A user's own -------------------------------------------------------------------------


class Median(RiskMeasure):
    """The simplest case: one method."""

    def forward(self, atoms, level_logits=None):
        return atoms.quantile(0.5, dim=-1)


class Worst(RiskMeasure):
    """A measure with an argument of its own and with a level."""

    def __init__(self, num_atoms, weight=1.0):
        super().__init__(num_atoms)
        self.weight = weight

    def forward(self, atoms, level_logits=None):
        lowest = self.weight * atoms.amin(dim=-1)
        if level_logits is None:
            return lowest
        return lowest + level_logits.argmax(dim=-1)


NOT_A_MEASURE = dict


def test_a_measure_of_ones_own():
    risk = make(f"{__name__}:Median")
    assert type(risk) is Median
    assert risk.num_atoms == 10
    assert risk.levels == (1.0,)
    assert risk(shuffled()).item() == 5.5
    atoms = torch.stack([shuffled(), shuffled() + 1]).requires_grad_()
    utilities = risk.of_all_actions(atoms)
    assert utilities.tolist() == [5.5, 6.5]
    assert not utilities.requires_grad
    risk.set_level(0.5)
    with pytest.raises(ValueError, match="Median has no map of fractions"):
        risk.distort(torch.rand(3))


def test_a_measure_of_ones_own_gets_its_arguments_and_the_level_of_every_action():
    risk = make(f"{__name__}:Worst", risk_kwargs={"weight": 2.0})
    atoms = torch.stack([shuffled(), shuffled() + 1]).expand(3, 2, 10)
    assert risk.of_all_actions(atoms).tolist() == [[2.0, 4.0]] * 3
    logits = torch.eye(3)  # [3, K], levels 0, 1 and 2
    expected = [[2.0, 4.0], [3.0, 5.0], [4.0, 6.0]]
    assert risk.of_all_actions(atoms, logits).tolist() == expected


@pytest.mark.parametrize("kwargs", [{"wait": 2.0}, {"num_atoms": 3}])
def test_arguments_that_a_measure_does_not_take_are_refused(kwargs):
    with pytest.raises(ValueError, match=rf"is called with.*{next(iter(kwargs))}"):
        make(f"{__name__}:Worst", risk_kwargs=kwargs)


class OverAgentsToo(RiskMeasure):
    """A mistake that broadcasting would hide."""

    def forward(self, atoms, level_logits=None):
        return atoms.mean(dim=(-2, -1), keepdim=True)


def test_a_measure_of_the_wrong_shape_is_refused():
    message = r"must return \[2, 3\] .* it returned \[2, 1, 1\]"
    with pytest.raises(ValueError, match=message):
        make(f"{__name__}:OverAgentsToo")


def test_a_measure_must_say_what_it_is():
    with pytest.raises(NotImplementedError, match="RiskMeasure must define forward"):
        RiskMeasure(3)(torch.zeros(3))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("cvarr", "risk_measure: 'cvarr' is not a known name.*'pkg.module:Class'"),
        ("package.module", "must have the form 'pkg.module:Class'"),
        (":Median", "must have the form"),
        ("module:", "must have the form"),
        ("no_such_package.risk:Mine", "No module named.*PYTHONPATH"),
        (f"{__name__}:Medium", "has no class 'Medium'"),
        (f"{__name__}:NOT_A_MEASURE", "subclass of rllib_risk.parts.risk.RiskMeasure"),
        (f"{__name__}:NAMED", "must be a subclass of"),
    ],
)
def test_import_paths_that_lead_nowhere(path, message):
    with pytest.raises(ValueError, match=message):
        make(path)


# Refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parameter", "message"),
    [
        ("cpw", 0.2, "cpw must be at least"),
        ("wang", float("inf"), "wang must be finite"),
        ("mean_variance", -1.0, "penalty of mean_variance"),
    ],
)
def test_parameters_out_of_range_are_refused(kind, parameter, message):
    with pytest.raises(ValueError, match=message):
        make(kind, risk_parameter=parameter)


def test_zero_is_a_parameter_and_no_missing_one():
    atoms = torch.arange(5.0)
    wang, mean = (make(kind, 5, risk_parameter=0) for kind in ("wang", "mean_variance"))
    assert wang(atoms).item() == pytest.approx(2.0)
    assert mean(atoms).item() == 2.0


def test_names_lead_to_their_classes():
    kinds = [Mean, Cvar, Var, Wang, Cpw, Power, MeanVariance]
    assert [type(make(name)) for name in NAMED] == kinds


def test_modules_compute_what_the_functions_do():
    torch.manual_seed(4)
    atoms = torch.randn(6, 10)
    expected = cvar(atoms, 0.4)
    torch.testing.assert_close(make("cvar", alpha=0.4)(atoms), expected)
    expected = mean_variance(atoms, 0.1)
    torch.testing.assert_close(make("mean_variance")(atoms), expected)
