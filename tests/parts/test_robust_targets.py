"""Robust targets of teams: by hand, by their laws, and through the policy."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import (
    GAMMA,
    as_tensors,
    plain_batch,
    plain_networks,
    random_batch,
    random_episode,
    random_networks,
    to_batch,
    view_of,
)
from test_losses import padded

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import collate
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.env_wrappers.registry import make_team_env
from rllib_risk.networks.dual import DualNetwork, FactoredDualNetwork


def constant_dual(eta, num_outputs=1):
    """A dual variable that is the same everywhere."""
    dual = DualNetwork(TeamSizes(2, 2, 8, 1), num_outputs)
    with torch.no_grad():
        dual.output.weight.zero_()
        dual.output.bias.fill_(eta)
    return dual


def targets_of(mixer, *, terminated=False, dual=None, **keys):
    networks = plain_networks(mixer=mixer)
    batch = plain_batch(terminated)
    view = view_of(networks, batch, dual=dual, **{"gamma": GAMMA} | keys)
    return view.targets[0].flatten().tolist()


# Rewards 1, 2, 3, next values of the sum 10, 8, 7, gamma 0.5, rho 0.2, v_min -10.
# Contamination: w = 0.8 V' - 2 = 6, 4.4, 3.6, and -2 at a true end, y = r + w / 2.
#   Over transitions: 0.8 (r + V' / 2) - 2, of 6, 6, 6.5 and 3.
# Total variation at eta = 9: w = 7.2 - (9 - V')+ - 2 = 5.2, 4.2, 3.2, and 7.2 - 9 - 2
#   at an end. At eta = 6.25, over transitions: 5 - (6.25 - 6)+ - 2, twice, 3, and
#   5 - 3.25 - 2 at an end.
ROBUST = {"rho": 0.2, "v_min": -10.0}
BY_HAND = {
    ("contamination", "next_value"): ([4.0, 4.2, 4.8], 2.0),
    ("contamination", "transition"): ([2.8, 2.8, 3.2], 0.4),
    ("tv", "next_value"): ([3.6, 4.1, 4.6], 1.1),
    ("tv", "transition"): ([2.75, 2.75, 3.0], -0.25),
}


@pytest.mark.parametrize(("target", "over"), BY_HAND)
def test_targets_by_hand(target, over):
    expected, end = BY_HAND[target, over]
    keys = ROBUST | {"target": target, "robust_over": over}
    if target == "tv":
        keys["dual"] = constant_dual(9.0 if over == "next_value" else 6.25)
    assert targets_of("vdn", **keys) == pytest.approx(expected)
    got = targets_of("vdn", terminated=True, **keys)
    assert got == pytest.approx([*expected[:2], end])


def test_targets_of_independent_agents_by_hand():
    # Next values (6, 4), (1, 7), (4, 3), so w = 0.8 V' - 2 = (2.8, 1.2), (-1.2, 3.6),
    # (1.2, 0.4). With a dual variable 5 for each: w = 4 - (5 - V')+ - 2 = (2, 1),
    # (-2, 2), (1, 0).
    got = targets_of("none", target="contamination", **ROBUST)
    assert got == pytest.approx([2.4, 1.6, 1.4, 3.8, 3.6, 3.2])
    got = targets_of("none", target="tv", dual=constant_dual(5.0, 2), **ROBUST)
    assert got == pytest.approx([2.0, 1.5, 1.0, 3.0, 3.5, 3.0])


def test_bounds_clamp_the_dual_variable():
    # At 6.25 instead of 9: w = 5 - 0 - 2 where V' is larger.
    keys = ROBUST | {"target": "tv", "dual": constant_dual(9.0)}
    got = targets_of("vdn", dual_bounds=(0.0, 6.25), **keys)
    assert got == pytest.approx([2.5, 3.5, 4.5])


@pytest.mark.parametrize("mixer", ["none", "vdn", "qmix", "qplex"])
@pytest.mark.parametrize("td_lambda", [0.0, 0.8])
def test_contamination_is_a_smaller_discount(mixer, td_lambda):
    # Equal bit for bit with v_min 0. A fail state only adds to the reward.
    for terminated in (False, True):
        robust = targets_of(
            mixer,
            terminated=terminated,
            target="contamination",
            rho=0.2,
            td_lambda=td_lambda,
        )
        plain = targets_of(
            mixer,
            terminated=terminated,
            gamma=GAMMA * (1.0 - 0.2),
            td_lambda=td_lambda,
        )
        assert robust == plain


@pytest.mark.parametrize("target", ["contamination", "tv"])
@pytest.mark.parametrize("terminated", [False, True])
def test_a_dual_variable_above_all_values_and_radius_0_change_nothing(
    target, terminated
):
    dual = constant_dual(100.0) if target == "tv" else None
    keys = {"target": target, "rho": 0.0, "v_min": -3.0, "dual": dual}
    got = targets_of("vdn", terminated=terminated, **keys)
    assert got == pytest.approx(targets_of("vdn", terminated=terminated), abs=1e-5)


@given(st.floats(0, 1), st.floats(0, 1))
def test_targets_do_not_rise_with_rho(one, other):
    """R3: not increasing in rho."""
    # v_min below all values; the dual variable is exact for a single outcome.
    small, large = sorted((one, other))
    for target in ("contamination", "tv"):
        keys = {"target": target, "v_min": -20.0, "dual": constant_dual(8.0)}
        low = targets_of("vdn", rho=large, **keys)
        high = targets_of("vdn", rho=small, **keys)
        assert all(a <= b + 1e-5 for a, b in zip(low, high, strict=True))


def test_a_joint_critic_gives_the_next_value():
    networks = random_networks(mixer="qmix", joint_critic="wqmix")
    batch = random_batch()
    plain = view_of(networks, batch, gamma=0.9).targets
    keys = {"target": "contamination", "rho": 0.5}
    robust = view_of(networks, batch, gamma=0.9, **keys).targets
    half = view_of(networks, batch, gamma=0.45).targets
    assert torch.equal(robust, half)
    assert not torch.equal(robust, plain)


def test_a_dual_variable_of_many_steps_learns_the_quantile():
    # All steps have one state and one joint action, so the dual variable must become
    # the 0.75-quantile of all outcomes. The batch has padding and true ends.
    torch.manual_seed(0)
    networks = random_networks(mixer="vdn")
    rng = np.random.default_rng(3)
    episodes = [random_episode(rng, n, terminated=n % 2 == 0) for n in range(1, 60)]
    for episode in episodes:
        episode.actions[:] = 0
        episode.state[:] = 1.0
    batch = to_batch(episodes)
    dual = DualNetwork(TeamSizes(3, 4, 5, 6))
    optimizer = torch.optim.Adam(dual.parameters(), 0.01)
    view = view_of(networks, batch, target="tv", rho=0.25, dual=dual)
    for _ in range(400):
        optimizer.zero_grad()
        view.target.dual_loss(view).backward()
        optimizer.step()
    assert view.logged["dual_coverage"].item() == pytest.approx(0.75, abs=0.03)
    # Neither network learns from it.
    assert all(p.grad is None for net in networks for p in net.parameters())


@pytest.mark.parametrize("kind", ["pinball", "squared_released"])
def test_the_dual_loss_has_its_gradient_and_ignores_padding(kind):
    """R5: by finite differences in float64. R7: padded steps and a padded episode."""
    torch.manual_seed(3)
    networks = [net.double() for net in random_networks(mixer="vdn")]
    rng = np.random.default_rng(3)
    episodes = [random_episode(rng, n, terminated=n % 2 == 0) for n in (6, 1, 4)]
    keys = {"target": "tv", "rho": 0.25, "dual_loss": kind, "double_q": False}
    dual = DualNetwork(TeamSizes(3, 4, 5, 6)).double()
    parameters = list(dual.parameters())
    batch = to_batch(episodes)
    for name in ("obs", "state", "rewards", "terminateds", "mask"):
        setattr(batch, name, getattr(batch, name).double())

    def loss_of(batch):
        view = view_of(networks, batch, dual=dual, **keys)
        return view.target.dual_loss(view)

    grads = torch.autograd.grad(loss_of(batch), parameters)
    direction = [torch.randn_like(p) for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(grads, direction, strict=True)).item()
    sides = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=step)
        sides.append(loss_of(batch).item())
    assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-4)
    longer = padded(batch, 10, extra_episode=True)
    expected, got = loss_of(batch), loss_of(longer)
    assert got.item() == pytest.approx(expected.item(), abs=1e-6)
    pairs = zip(
        torch.autograd.grad(expected, parameters),
        torch.autograd.grad(got, parameters),
        strict=True,
    )
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in pairs)


def test_number_of_parameters_of_the_dual_variable():
    # The authors' problem: state 10, six agents with 200 actions. 704 + 76 864 for the
    # encoders, 8 256 and 65 for the layers after them.
    dual = DualNetwork(TeamSizes(6, 200, 5, 10))
    assert sum(p.numel() for p in dual.parameters()) == 704 + 76_864 + 8_256 + 65


def test_the_dual_variable_reads_state_and_joint_action():
    torch.manual_seed(1)
    sizes = TeamSizes(2, 3, 4, 5)
    dual = DualNetwork(sizes)
    state = torch.randn(4, 7, 5)
    actions = torch.randint(3, (4, 7, 2))
    one_hot = torch.nn.functional.one_hot(actions, 3).flatten(-2).float()
    joint = torch.relu(dual.joint(one_hot))
    both = torch.cat([torch.relu(dual.state(state)), joint], dim=-1)
    expected = dual.output(torch.relu(dual.hidden(both)))
    torch.testing.assert_close(dual(state, actions), expected)
    with pytest.raises(NeedsStateError):
        DualNetwork(TeamSizes(2, 3, 4, 0))


def test_the_factored_dual_variable_adds_up_the_agents():
    """It is a sum over agents plus a joint part."""
    torch.manual_seed(1)
    dual = FactoredDualNetwork(TeamSizes(2, 3, 4, 5), num_outputs=2)
    state = torch.randn(1, 1, 5)

    def eta(*actions):
        return dual(state, torch.tensor([[actions]])).squeeze()

    heads = dual.by_agent(state).view(2, 3, 2)  # agents, actions, outputs
    joint = DualNetwork.forward(dual, state, torch.tensor([[[2, 1]]])).squeeze()
    torch.testing.assert_close(eta(2, 1), heads[0, 2] + heads[1, 1] + joint)
    torch.nn.init.zeros_(dual.output.weight)
    torch.testing.assert_close(eta(0, 0) + eta(2, 1), eta(0, 1) + eta(2, 0))


def make_policy(name="RobustVDN", **keys):
    env = make_team_env("macn", {})
    config = config_class(name)()
    config.environment("macn").debugging(seed=0)
    config.training(**{"hidden_size": 8} | keys)
    config.validate()
    config.check_env(env)
    torch.manual_seed(0)
    return ValuePolicy(env.observation_space, env.action_space, config.to_dict())


def macn_batch():
    rng = np.random.default_rng(0)
    env = make_team_env("macn", {"episode_limit": 6})
    episodes = []
    for seed in range(6):
        obs, _ = env.reset(seed=seed)
        rows = {key: [value] for key, value in obs.items()}
        steps: dict[str, list] = {"actions": [], "rewards": []}
        done = False
        while not done:
            action = rng.integers(4, size=2)
            obs, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            steps["actions"].append(action)
            steps["rewards"].append(reward)
            for key, value in obs.items():
                rows[key].append(value)
        whole = random_episode(rng, len(steps["rewards"]), terminated=terminated)
        whole.obs, whole.state = np.array(rows["obs"]), np.array(rows["state"])
        whole.action_mask = np.array(rows["action_mask"])
        whole.actions = np.array(steps["actions"], np.int16)
        whole.rewards = np.array(steps["rewards"], np.float32)
        episodes.append(whole)
    return collate(episodes)


@pytest.mark.parametrize("mixer", ["vdn", "qmix", "qplex"])
def test_radius_0_is_the_plain_algorithm_bit_for_bit(mixer):
    """R3: radius 0."""
    batch = macn_batch()
    robust = make_policy(mixer=mixer, rho=0.0)
    plain = make_policy("VDN", mixer=mixer, double_q=False)
    assert robust.dual is None
    assert list(robust.modules()) == ["online", "target"]
    for policy in (robust, plain):
        for index in range(3):
            policy.update_index = index
            policy.learn_on_batch(batch)
    pairs = zip(robust.network.parameters(), plain.network.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_each_step_trains_its_own_part():
    batch = macn_batch()
    policy = make_policy()
    before = copy.deepcopy(policy.modules())
    stats = policy.learn_dual_on_batch(batch, 0)
    assert stats.keys() == {"dual_loss", "dual_mean", "dual_coverage"}
    changed = {name: _differ(before[name], now) for name, now in _now(policy)}
    assert changed == {"online": False, "target": False, "dual": True}
    before = copy.deepcopy(policy.modules())
    policy.learn_on_batch(batch)
    changed = {name: _differ(before[name], now) for name, now in _now(policy)}
    assert changed == {"online": True, "target": False, "dual": False}


def _now(policy):
    return policy.modules().items()


def _differ(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def test_units_of_rewards():
    # v_min and bounds are in units of returns. The policy scales them by 0.1.
    # A dual variable of -50 is clamped to -10: w = 0.8 (-10) - (-10 - V')+ - 0.2 * 10,
    # and V' is above that.
    batch = macn_batch()
    policy = make_policy(reward_scale=0.1, v_min=-100.0, dual_bounds=[-100, 0])
    view = policy.view(policy.tensors(batch), 0)
    with torch.no_grad():
        policy.dual.output.weight.zero_()
        policy.dual.output.bias.fill_(-50.0)
    assert view.next_values.min() > -10.0
    expected = 0.1 * view.batch.rewards + 0.99 * (-8.0 - 2.0)
    torch.testing.assert_close(view.targets, expected * view.mask)


TV = {"target": "tv", "rho": 0.1}
REFUSED = [
    ({"rho": 0.1}, r"rho: belongs to target: contamination or tv .*'plain'"),
    ({"v_min": -1.0}, r"v_min: belongs to target: contamination or tv"),
    ({"robust_over": "transition"}, r"robust_over: belongs to target: contamination"),
    ({"target": "wasserstein"}, r"target.*'wasserstein'"),
    ({"target": "tv", "rho": 1.5}, r"rho"),
    (
        TV | {"loss": "quantile", "num_atoms": 8, "mixer": "none"},
        r"target.*loss: td",
    ),
    (TV | {"td_lambda": 0.5}, r"td_lambda: belongs to target: plain or contamination"),
    ({"dual_loss": "squared_released"}, r"dual_loss: belongs to target: tv"),
    ({"target": "contamination", "dual_bounds": [0, 1]}, r"dual_bounds.*target: tv"),
    (TV | {"dual_bounds": [1, 0]}, r"dual_bounds.*\[low, high\].*\[1, 0\]"),
    (TV | {"dual_bounds": [0]}, r"dual_bounds.*\[low, high\]"),
    (TV | {"dual_bounds": [0, "a"]}, r"dual_bounds.*\[low, high\]"),
    ({"burn_in": 3}, r"burn_in.*sequence_length"),
    (
        {"sequence_length": 3, "burn_in": 3, "recurrent": False},
        r"burn_in.*hidden state",
    ),
    ({"acting_window": 3, "recurrent": False}, r"acting_window.*hidden state"),
    ({"target_window": "shifted"}, r"target_window.*sequence_length"),
    ({"window_padding": "zeros", "acting_window": 3}, r"window_padding.*sequence_leng"),
    (
        {"window_padding": "zeros", "sequence_length": 1, "burn_in": 2},
        r"window_padding.*acting_window",
    ),
    ({"env_variants": [3]}, r"env_variants: entry 0.*3"),
    ({"env_variants": [{}, {}, {}]}, r"env_variants.*multiple of 3"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_what_makes_no_sense_is_refused_with_the_reason(keys, message):
    config = config_class("VDN")()
    config.update_from_dict(keys)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        config.validate()


@pytest.mark.parametrize(
    "keys",
    [
        {"target": "contamination", "rho": 0.1, "td_lambda": 0.5},
        {"target": "contamination", "rho": 0.1, "mixer": "none"},
        TV | {"mixer": "qplex", "dual_bounds": [-100, 0]},
        TV | {"num_atoms": 8, "risk_measure": "cvar", "alpha": 0.5},
        {"sequence_length": 4, "learning_starts_episodes": 1},
    ],
    ids=str,
)
def test_what_makes_sense_is_not_refused(keys):
    config = config_class("VDN")()
    config.update_from_dict(keys)
    config.validate()


def test_total_variation_without_a_state_names_the_fix():
    config = config_class("RobustVDN")()
    config.environment("macn", env_config={"state": "none"})
    with pytest.raises(ConfigError, match=r"target: 'tv'.*target: contamination"):
        config.preflight()


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("name", ["RobustVDN", "RobustQMIX", "RobustQTRAN", "RMIX"])
def test_dual_updates_come_in_blocks_before_those_of_the_values(name, monkeypatch):
    calls = []
    learn, learn_dual = ValuePolicy.learn_on_batch, ValuePolicy.learn_dual_on_batch

    def counted(self, batch):
        calls.append("Q")
        return learn(self, batch)

    def counted_dual(self, batch, index):
        calls.append("D")
        return learn_dual(self, batch, index)

    monkeypatch.setattr(ValuePolicy, "learn_on_batch", counted)
    monkeypatch.setattr(ValuePolicy, "learn_dual_on_batch", counted_dual)
    algorithm = _build(name)
    try:
        while len(calls) < 12:
            algorithm.training_step()
        assert "".join(calls)[:12] == "DDDQQQDDDQQQ"
        stats = algorithm._learner_stats
        assert {"td_loss", "dual_loss"} <= stats.keys()
        assert all(np.isfinite(value) for value in stats.values())
    finally:
        algorithm.stop()


def _build(name, seed=1, **keys) -> TeamAlgorithm:
    config = config_class(name)()
    config.environment("macn", env_config={"episode_limit": 12})
    config.env_runners(num_envs_per_env_runner=2).debugging(seed=seed)
    defaults = {
        "hidden_size": 8,
        "sequence_length": 4,
        "burn_in": 2,
        "batch_size_episodes": 5,
        "learning_starts_episodes": 2,
        "target": "tv",
        "rho": 0.3,
        "robust_over": "transition",
        "v_min": -100.0,
        "dual_block": 3,
    }
    config.training(**defaults | keys)
    if name == "RMIX":
        config.training(num_atoms=4)
    config.min_sample_timesteps_per_iteration = 10
    config.evaluation_duration = 2
    return config.build_algo()


def test_a_burned_in_sequence_is_a_part_of_the_whole():
    # Burn-in from the beginning gives the memory of the whole episode and the last
    # action. Values and targets of the learned steps are therefore the same.
    torch.manual_seed(0)
    networks = random_networks(mixer="qmix", recurrent=True)
    rng = np.random.default_rng(5)
    episode = random_episode(rng, 9, terminated=True)

    def targets(samples):
        view = view_of(networks, as_tensors(samples))
        return view.targets[0], view.encoded, view.batch

    replay = EpisodeReplay(1, seed=0)
    replay.add([episode])
    one, first = np.array([0]), np.array([6])
    whole, encoded, _ = targets(collate([episode]))
    part, partial, batch = targets(replay.sequences(one, first, 2, 6))
    torch.testing.assert_close(part[6:8], whole[6:8])
    # Burn-in steps are left out of the loss.
    assert batch.mask[0, :, 0].tolist() == [0] * 6 + [1, 1]
    # Without burn-in the memory starts empty, but the last action is known.
    torch.testing.assert_close(
        encoded.online.features[0, :8], partial.online.features[0]
    )
    _, short, batch = targets(replay.sequences(one, first, 3, 0))
    assert not torch.allclose(
        short.online.features[0, 0], encoded.online.features[0, 6]
    )
    inputs = networks[0].inputs(batch.obs, batch.actions, batch.previous)
    last = inputs[0, 0, :, 5:9].argmax(dim=-1)
    assert last.tolist() == episode.actions[5].tolist()


@pytest.mark.usefixtures("ray_local")
def test_another_seed_draws_other_weights():
    # In the released code every run begins with the same networks.
    drawn = []
    for seed in (0, 1, 0):
        algorithm = _build("RobustVDN", seed=seed)
        try:
            modules = algorithm.team_policy.modules().values()
            parts = [p.detach().numpy().copy() for m in modules for p in m.parameters()]
            drawn.append(parts)
        finally:
            algorithm.stop()
    first, second, again = drawn
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
