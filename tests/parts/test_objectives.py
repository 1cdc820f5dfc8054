"""Objectives: refusals, descriptions, and the return so far of `static`."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from loss_cases import as_tensors, plain_batch, plain_networks, random_episode, view_of

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.record import from_record, to_record
from rllib_risk.data.episodes import collate
from rllib_risk.data.replay import EpisodeReplay, SequenceSettings
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.dual import DualNetwork
from rllib_risk.parts.objectives.static import ReturnWatch, Static
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.cvar import NestedCvar
from rllib_risk.parts.team import TeamNetwork


def configured(run, **keys):
    config = config_class(run)().environment("two_step").training(**keys)
    config.validate()
    return config


# Each entry: algorithm, keys, beginning of the message, and its advice.
REFUSED = [
    ("QMIX", {"objective": "nested", "td_lambda": 0.6}, "td_lambda: ", "td_lambda: 0"),
    ("RobustVDN", {"objective": "nested"}, "objective: 'nested' sets", "Leave target"),
    ("MACQR", {"objective": "nested", "target": "cvar"}, "target: 'cvar' learns", ""),
    (
        "MACQR",
        {"objective": "nested", "risk_measure": "var", "alpha": 0.5},
        "risk_measure: target 'cvar_atoms' is CVaR",
        "risk_measure: cvar",
    ),
    ("DDN", {"objective": "nested"}, "quantiles: target 'cvar_atoms'", "fixed"),
    ("QMIX", {"target": "cvar_atoms"}, "target: 'cvar_atoms' is CVaR", "quantile"),
    ("MACQR", {"target": "cvar_atoms"}, "risk_measure: target", "cvar"),
    (
        "VDN",
        {
            "objective": "markov",
            "loss": "quantile",
            "num_atoms": 4,
            "alpha": 0.5,
            "risk_measure": "cvar",
            "target": "cvar_atoms",
        },
        "target: 'cvar_atoms' belongs to objective: nested",
        "Leave target out",
    ),
    ("QMIX", {"objective": "nested", "loss": "bc"}, "objective: ", "loss: td"),
    ("COMA", {"objective": "nested"}, "objective: 'nested' is for", "mean or static"),
    ("QMIX", {"objective": "markov"}, "objective: 'markov' is", "loss: quantile"),
    ("MACQR", {"objective": "markov", "alpha": 1.0}, "objective: 'markov' needs", ""),
    ("DOP", {"objective": "markov"}, "objective: 'markov' is for", "mean or static"),
    ("QMIX", {"objective": "static", "alpha": [[0, 1.0], [9, 0.5]]}, "alpha: ", ""),
    ("QMIX", {"objective": "static", "threshold_range": [1, 1]}, "threshold_", ""),
    (
        "QMIX",
        {"objective": "mean", "threshold_episodes": 4},
        "threshold_episodes: ",
        "",
    ),
    ("QMIX", {"objective": "static", "loss": "bc"}, "objective: ", "loss: td"),
    ("QMIX", {"objective": "mean", "alpha": 0.5}, "alpha: has no effect", ""),
    (
        "QMIX",
        {"objective": "mean", "target": "cvar"},
        "target: 'cvar' belongs",
        "Leave",
    ),
    ("RobustVDN", {"objective": "static", "v_min": -1.0}, "v_min: ", "v_min: 0"),
    (
        "QMIX",
        {"objective": "static", "risk_measure": "cvar", "num_atoms": 4, "alpha": 0.5},
        "risk_measure: 'cvar' would",
        "risk_measure: mean",
    ),
    (
        "IndependentQ",
        {
            "objective": "mean",
            "loss": "quantile",
            "risk_measure": "cvar",
            "num_atoms": 4,
            "alpha": 0.5,
        },
        "risk_measure: with loss 'quantile'",
        "risk_measure: mean",
    ),
]


@pytest.mark.parametrize(("run", "keys", "begins", "advice"), REFUSED)
def test_objectives_refuse_unsupported_compositions(run, keys, begins, advice):
    with pytest.raises(ConfigError) as caught:
        configured(run, **keys)
    assert str(caught.value).startswith(begins), caught.value
    assert advice in str(caught.value)


QUANTILE = {"loss": "quantile", "num_atoms": 4, "alpha": 0.25}


@pytest.mark.parametrize(
    ("run", "keys", "text"),
    [
        ("QMIX", {}, "none; the team maximizes the mean return"),
        ("COMA", {}, "none; the team maximizes the mean return"),
        ("RMIX", {}, "none; the team maximizes the mean return: cvar at predicted"),
        ("RobustVDN", {}, "none; the team maximizes the mean return under the worst"),
        ("VDN", {**QUANTILE, "risk_measure": "cvar"}, "markov; every step is greedy"),
        ("VDN", {"loss": "quantile", "num_atoms": 4}, "none; the team maximizes the"),
        ("QMIX", {"objective": "mean"}, "the team maximizes the mean return"),
        ("RMIX", {"objective": "static", "alpha": 0.1}, "static; CVaR at level 0.1"),
        ("QTRAN", {"objective": "nested", "alpha": 0.1}, "nested; CVaR at level 0.1"),
        ("VDN", {"target": "cvar", "alpha": 0.1}, "nested; CVaR at level 0.1"),
        ("VDN", {**QUANTILE, "objective": "nested"}, "nested; CVaR at level 0.25"),
        ("DOP", {"objective": "static", "alpha": 0.1}, "static; CVaR at level 0.1"),
    ],
)
def test_each_run_says_which_risk_it_controls(run, keys, text):
    assert configured(run, **keys).risk().startswith(text)


@pytest.mark.parametrize("run", ["QMIX", "RiskQ"])
def test_nested_needs_no_other_keys_and_survives_its_checkpoint(run):
    """RiskQ's own default, td_lambda .6, is replaced, also when the record is read."""
    keys = {"alpha": 0.25} | ({"risk_measure": "cvar"} if run == "RiskQ" else {})
    config = configured(run, objective="nested", **keys)
    again = from_record(to_record("x", config), trust_code=False)
    again.validate()
    target = {"QMIX": "cvar", "RiskQ": "cvar_atoms"}[run]
    for one in (config, again):
        assert (one.target, one.td_lambda, one.alpha) == (target, 0.0, 0.25)


def test_cloning_controls_nothing():
    config = config_class("QMIX")().training(loss="bc")
    assert config.risk().startswith("none; the policy imitates the dataset")


# CVaR as a maximum: outcomes and chances, level, eta -> value of eta. The maximum is
# CVaR: 2 of (0, 10) at .5 with chances (.4, .6): (.4 * 0 + .1 * 10) / .5.
FACTS = [
    ((0, 10), (0.4, 0.6), 0.5, {10: 2, -2: -2, 0: 0, 5: 1, 12: 0}),
    ((0, 10), (0.25, 0.75), 0.25, {0: 0, 3: 0, 10: 0}),
    ((0, 10), (0.6, 0.4), 0.5, {0: 0, 10: -2}),
    ((0, 10), (0.2, 0.8), 0.25, {10: 2, 12: -4}),
]


def constant_dual(eta):
    dual = DualNetwork(TeamSizes(2, 2, 8, 1))
    with torch.no_grad():
        dual.output.weight.zero_()
        dual.output.bias.fill_(eta)
    return dual


@pytest.mark.parametrize(("outcomes", "chances", "alpha", "values"), FACTS)
def test_cvar_is_a_maximum_over_the_dual_variable(outcomes, chances, alpha, values):
    """The step ends the episode, so its outcome is its reward."""
    target = VALUE_PARTS.make("target", {"target": "cvar", "alpha": alpha})
    networks = plain_networks(mixer="vdn")
    last = plain_batch(terminated=True)
    for eta, value in values.items():
        found = []
        for outcome in outcomes:
            batch = dataclasses.replace(
                last, rewards=torch.full_like(last.rewards, outcome)
            )
            view = view_of(networks, batch, dual=constant_dual(eta), gamma=1.0)
            found.append(target.targets(view)[0, -1, 0].item())
        assert np.dot(chances, found) == pytest.approx(value, abs=1e-4)


def test_nested_targets_by_hand():
    # Rewards 1, 2, 3, next values of the sum 10, 8, 7, gamma .5: outcomes 6, 6, 6.5,
    # and 3 at a true end. eta 6.25, level .5: 6.25 - 2 (6.25 - x)+.
    networks = plain_networks(mixer="vdn")
    for terminated, last in ((False, 6.25), (True, -0.25)):
        view = view_of(
            networks, plain_batch(terminated), dual=constant_dual(6.25), gamma=0.5
        )
        target = VALUE_PARTS.make("target", {"target": "cvar", "alpha": 0.5})
        assert target.targets(view).flatten().tolist() == [5.75, 5.75, last]
        # Level 1 is the mean: its sample is the outcome, without a dual variable.
        mean = NestedCvar()
        assert mean.make_dual(TeamSizes(2, 2, 8, 1), 1) is None
        plain = VALUE_PARTS.make("target", {}).targets(view)
        assert mean.targets(view).tolist() == plain.tolist()


def test_nested_target_atoms_by_hand():
    # CVaR at .5 of (3, 1, 7, 5) is 2: 1 + .5 * 2 = 2. The second step is terminal.
    network = TeamNetwork(
        TeamSizes(2, 2, 8, 1),
        {"num_atoms": 4, "risk_measure": "cvar", "alpha": 0.5, "mixer": "vdn"},
    )
    view = SimpleNamespace(
        target_network=network,
        rewards=torch.tensor([[[1.0], [2.0]]]),
        discount=torch.tensor([[[0.5], [0.0]]]),
    )
    target = VALUE_PARTS.make("target", {"target": "cvar_atoms"})
    next_atoms = torch.tensor([[[[3.0, 1.0, 7.0, 5.0]], [[9.0, 9.0, 9.0, 9.0]]]])
    found = target.target_atoms(view, next_atoms)
    assert found.tolist() == [[[[2.0] * 4], [[2.0] * 4]]]
    network.risk.set_level(1.0)  # a schedule begins with the mean, 4
    assert target.target_atoms(view, next_atoms)[0, 0, 0].tolist() == [3.0] * 4


def test_the_dual_of_nested_is_the_quantile_at_alpha():
    """Among constants the dual loss is lowest at the 0.34-quantile of the outcomes."""
    networks = plain_networks(mixer="vdn")
    target = VALUE_PARTS.make("target", {"target": "cvar", "alpha": 0.34})
    losses = {}
    for eta in (5.9, 6.0, 6.2, 6.5, 6.6):  # outcomes 6, 6, 6.5
        view = view_of(networks, plain_batch(False), dual=constant_dual(eta), gamma=0.5)
        losses[eta] = target.dual_loss(view).item()
    assert min(losses, key=losses.get) == 6.0
    assert view.logged["dual_coverage"].item() == 1.0


# Static.


def static(low, high):
    objective = Static()
    objective.observe([low, high])
    return objective


def episodes(rng, gamma=1.0):
    played = [random_episode(rng, n, terminated=n % 2 == 0) for n in (3, 6, 5, 2)]
    for episode, threshold in zip(played, (0.5, -1.0, 2.0, 0.0), strict=True):
        episode.threshold = threshold
    return played


def test_static_batches_by_hand():
    """Rewards 2, -1, 3 at gamma 1: x = 0, 2, 1, 4; b = 1 and 3; the range is 4 wide."""
    rng = np.random.default_rng(0)
    episode = random_episode(rng, 3, terminated=False)
    episode.rewards[:] = (2.0, -1.0, 3.0)
    objective = static(-1.0, 3.0)
    samples = collate([episode, episode])
    batch = as_tensors(samples)
    uniform = torch.tensor([0.5, 1.0])  # b = 1 and 3
    seen = objective.transform(batch, samples, 1.0, uniform)
    expected = [[-1.0, 1.0, 0.0, 3.0], [-3.0, -1.0, -2.0, 1.0]]
    assert seen.state[..., -1].tolist() == expected
    assert seen.obs[:, :, 1, -1].tolist() == expected
    assert torch.equal(seen.obs[..., :-1], batch.obs)
    # u = -1, 0, 0, 0 and -3, -1, -2, 0.
    assert seen.rewards.squeeze(-1).tolist() == [[1.0, 0.0, 0.0], [2.0, -1.0, 2.0]]
    # A time limit counts as an end. The batch of the replay does not change.
    assert seen.terminateds.flatten().tolist() == [0, 0, 1, 0, 0, 1]
    assert batch.terminateds.sum() == 0
    assert objective.gamma(0.9) == 1.0


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_agents_act_on_what_they_learn_from(gamma):
    rng = np.random.default_rng(1)
    played = episodes(rng)
    objective = static(-2.0, 3.0)
    samples = collate(played)
    learned = objective.transform(as_tensors(samples), samples, gamma, None)
    thresholds = np.array([episode.threshold for episode in played])
    watch = ReturnWatch(objective, gamma, len(played), thresholds)
    slots = np.array([2, 0, 3, 1])  # episode k is played in environment slots[k]
    watch.begin(slots, np.arange(4))
    for t in range(6):
        obs = np.zeros((4, 3, 5), np.float32)
        rewards = np.full(4, 7.0)  # any number where no episode plays
        for k, episode in enumerate(played):
            if t < len(episode):
                obs[slots[k]], rewards[slots[k]] = episode.obs[t], episode.rewards[t]
        shown = watch.beside(obs)
        for k, episode in enumerate(played):
            if t < len(episode):
                np.testing.assert_allclose(shown[slots[k]], learned.obs[k, t], 1e-6)
        watch.earn(rewards)
    watch.begin(np.array([2]), np.array([3]))
    assert watch.beside(obs)[2, 0, -1] == np.float32(objective.shown(-thresholds[3]))


@pytest.mark.parametrize("padded", [False, True])
def test_sequences_know_what_was_earned_before(padded):
    """Every step of every sequence looks as it does in its whole episode."""
    rng = np.random.default_rng(2)
    played = episodes(rng)
    objective = static(-2.0, 3.0)
    half = torch.full((64,), 0.5)
    samples = collate(played)
    whole = objective.transform(as_tensors(samples), samples, 0.9, half[:4])
    replay = EpisodeReplay(10, 0, sequences=SequenceSettings(2, 1, padded))
    replay.add(played)
    replay.return_discount = 0.9
    drawn = replay.draw(64)
    part = objective.transform(as_tensors(drawn), drawn, 0.9, half)
    ended = 0
    for row in range(64):
        steps = part.mask[row, :, 0].nonzero().flatten().tolist()
        for t in steps:
            step = int(drawn["first"][row]) + t
            k = next(
                k
                for k, e in enumerate(played)
                if step < len(e) and np.array_equal(e.obs[step], drawn["obs"][row, t])
            )
            for name in ("rewards", "terminateds"):
                got, expected = getattr(part, name), getattr(whole, name)
                value = expected[k, step, 0].item()
                assert got[row, t, 0].item() == pytest.approx(value, abs=1e-6)
            np.testing.assert_allclose(
                part.state[row, t + 1], whole.state[k, step + 1], atol=1e-6
            )
            ended += int(part.terminateds[row, t, 0])
    assert ended > 10


def test_thresholds_survive_a_replay():
    replay, other = EpisodeReplay(10, 0), EpisodeReplay(10, 0)
    replay.add(episodes(np.random.default_rng(3)))
    other.load_arrays(replay.state_arrays())
    assert [e.threshold for e in other.at(range(4))] == [0.5, -1.0, 2.0, 0.0]
    # Without thresholds a checkpoint has no further arrays.
    plain = EpisodeReplay(10, 0)
    plain.add([random_episode(np.random.default_rng(0), 3, terminated=True)])
    assert "thresholds" not in plain.state_arrays()
    assert "thresholds" not in plain.draw(1)


def test_the_range_of_thresholds_is_that_of_returns():
    objective = Static()
    assert objective.limits == (0.0, 0.0)
    assert objective.shown(2.0) == 2.0
    objective.observe([1.0, -2.0])
    objective.observe([0.5, 2.0])
    assert objective.limits == (-2.0, 2.0)
    assert objective.candidates()[[0, 7, 14]].tolist() == [-2.0, 0.0, 2.0]
    assert objective.draw(np.array([0.0, 0.25])).tolist() == [-2.0, -1.0]
    objective.choose(0.5)
    other = Static()
    other.load(objective.state())
    assert (other.limits, other.threshold) == ((-2.0, 2.0), 0.5)
    # The range goes to env runners with the weights.
    assert (
        "objective.known"
        in TeamNetwork(TeamSizes(2, 3, 4, 5), {"objective": "static"}).state_dict()
    )
    with pytest.raises(ValueError, match=r"has no threshold.* from 0 to 0.*--env"):
        ReturnWatch(Static(), 1.0, 1)


def test_only_static_changes_what_networks_see():
    sizes = TeamSizes(2, 3, 4, 5)
    plain, nested = (
        TeamNetwork(sizes, {"objective": name}) for name in ("composed", "nested")
    )
    assert plain.sizes == nested.sizes == sizes
    assert plain.state_dict().keys() == nested.state_dict().keys()
    seen = TeamNetwork(sizes, {"objective": "static"}).sizes
    assert (seen.obs_size, seen.state_size) == (5, 6)
    # The return so far does not give a state to an environment without one.
    no_state = dataclasses.replace(sizes, state_size=0)
    assert TeamNetwork(no_state, {"objective": "static"}).sizes.state_size == 0
    assert copy.deepcopy(plain).objective.sees_return is False
