"""Small games with known answers, fitted on all their transitions at once.

There is no exploration and no replay: the losses and networks get complete data. The
expected numbers are least-squares and monotone fits, worked out beside each test.
"""

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.env_wrappers.registry import make_team_env
from rllib_risk.ops.quantile import quantile_fractions, quantile_huber_loss
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.learning import Learning
from rllib_risk.parts.team import TeamNetwork

SEEDS = pytest.mark.parametrize("seed", [0, 1, 2])


pytestmark = pytest.mark.usefixtures("one_thread")


def play(env, joint_actions, seed=0):
    """Plays one episode with given joint actions."""
    obs, _ = env.reset(seed=seed)
    rows, rewards, terminated = [obs], [], False
    for joint in joint_actions:
        obs, reward, terminated, _, _ = env.step(np.array(joint))
        rows.append(obs)
        rewards.append(reward)
    assert terminated
    return SimpleNamespace(rows=rows, rewards=rewards, actions=joint_actions)


def stack(episodes):
    """Stacks terminated episodes of equal length into a batch."""

    def rows(key):
        return torch.tensor(
            np.array([[row[key] for row in e.rows] for e in episodes]).copy()
        )

    actions = torch.tensor([e.actions for e in episodes])
    rewards = torch.tensor([e.rewards for e in episodes]).float().unsqueeze(-1)
    ends = torch.zeros_like(rewards)
    ends[:, -1] = 1.0
    return Batch(
        obs=rows("obs"),
        state=rows("state"),
        action_mask=rows("action_mask"),
        actions=actions,
        rewards=rewards,
        terminateds=ends,
        mask=torch.ones_like(rewards),
    )


def joint_actions(env):
    spec = env.spec_team
    return list(itertools.product(range(spec.num_actions), repeat=spec.num_agents))


def all_episodes(env, steps):
    sequences = itertools.product(joint_actions(env), repeat=steps)
    return stack([play(env, list(sequence)) for sequence in sequences])


def make_networks(env, seed, **keys):
    torch.manual_seed(seed)
    spec = env.spec_team
    sizes = TeamSizes(spec.num_agents, spec.num_actions, spec.obs_size, spec.state_size)
    keys = {"hidden_size": 32, "recurrent": False, "mixing_embed_dim": 8, **keys}
    network = TeamNetwork(sizes, keys)
    return network, copy.deepcopy(network)


def fit(networks, batch, *, steps, lr=5e-3, qr_every=0):
    """Makes TD steps (and quantile steps) on one batch; returns the last TD loss."""
    online, target = networks
    optimizer = torch.optim.Adam(online.parameters(), lr)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    learning = Learning.of({"qr_gate": "step"})

    def descend(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for step in range(steps):
        if step % 50 == 0:
            target.load_state_dict(online.state_dict())
        view = learning.view(online, target, batch, gamma=0.99, reward_scale=1.0)
        loss = learning.team_loss(view)
        descend(loss)
        if qr_every and step % qr_every == 0:
            view = learning.view(online, target, batch, gamma=0.99, reward_scale=1.0)
            descend(learning.gate.loss(view))
        decay.step()
    return loss.item()


@torch.no_grad()
def team_values(network, batch):
    """Value of the joint actions taken, [B, T, G]."""
    unrolled = network.unroll(network.inputs(batch.obs, batch.actions))
    taken = slice(None, -1)
    return network.values_of(
        unrolled.at(taken),
        batch.actions,
        batch.state[:, taken],
        batch.action_mask[:, taken],
    )


def greedy_return(network, env, seed=0):
    """Return of one greedy episode, acting step by step."""
    obs, _ = env.reset(seed=seed)
    carry = network.initial_carry(1)
    total, done = 0.0, False
    while not done:
        observed = [torch.tensor(obs[key])[None] for key in ("obs", "action_mask")]
        decision, carry = network.step(*observed, carry)
        actions = decision.utilities.argmax(dim=-1)
        network.remember(carry, actions)
        obs, reward, terminated, truncated, _ = env.step(actions[0].numpy())
        total += reward
        done = terminated or truncated
    return total


# The two-step game. A sum can fit state 2B's [[0, 1], [1, 8]] only by row plus column.
# The means are 0.5 and 4.5 of rows and of columns and 2.5 of all, so the fit is
# [[-1.5, 2.5], [2.5, 6.5]]. At gamma 0.99 going to 2B is worth 0.99 * 6.5 = 6.435, less
# than the 0.99 * 7 = 6.93 of the other way.


@SEEDS
def test_two_step_game_vdn_settles_for_seven(seed):
    env = make_team_env("two_step", {})
    batch = all_episodes(env, steps=2)
    networks = make_networks(env, seed, mixer="vdn")
    fit(networks, batch, steps=1200)
    values = team_values(networks[0], batch)[..., 0]
    to_2b = batch.actions[:, 0, 0] == 1
    best_first = [values[~to_2b, 0].max().item(), values[to_2b, 0].max().item()]
    assert best_first == pytest.approx([6.93, 6.435], abs=0.1)
    # Joint actions (0, 0), (0, 1), (1, 0), (1, 1) in 2B, after the joint action (1, 0).
    in_2b = values[8:12, 1].tolist()
    assert in_2b == pytest.approx([-1.5, 2.5, 2.5, 6.5], abs=0.1)
    assert greedy_return(networks[0], env) == 7


@SEEDS
def test_two_step_game_qmix_finds_eight(seed):
    """R33: the two-step game."""
    env = make_team_env("two_step", {})
    batch = all_episodes(env, steps=2)
    networks = make_networks(env, seed, mixer="qmix")
    fit(networks, batch, steps=1200)
    values = team_values(networks[0], batch)[..., 0]
    to_2b = batch.actions[:, 0, 0] == 1
    best_first = [values[~to_2b, 0].max().item(), values[to_2b, 0].max().item()]
    assert best_first == pytest.approx([6.93, 7.92], abs=0.25)
    assert values[8:12, 1].tolist() == pytest.approx([0, 1, 1, 8], abs=0.25)
    assert greedy_return(networks[0], env) == 8


# P3: 8 in the corner, -12 along row and column 0, else 0. The row means are -16/3, -4
# and -4, the mean of all -40/9. A sum fits row + column - mean:
# -32/3 + 40/9 = -56/9 = -6.222, -28/3 + 40/9 = -44/9 = -4.889 and
# -8 + 40/9 = -32/9 = -3.556. The squared residuals are
# (128/9)^2 + 4 (64/9)^2 + 4 (32/9)^2 = 455.11, over nine: 50.568.


@SEEDS
def test_p3_vdn_fits_least_squares(seed):
    """R33: VDN fails on the one-step game."""
    env = make_team_env("matrix_game", {"payoff": "P3"})
    batch = all_episodes(env, steps=1)
    networks = make_networks(env, seed, mixer="vdn")
    loss = fit(networks, batch, steps=600)
    assert loss == pytest.approx(50.568, abs=0.01)
    table = team_values(networks[0], batch).reshape(3, 3)
    corner, edge, rest = -56 / 9, -44 / 9, -32 / 9
    expected = torch.tensor(
        [[corner, edge, edge], [edge, rest, rest], [edge, rest, rest]]
    )
    torch.testing.assert_close(table, expected, rtol=0, atol=0.02)
    assert greedy_return(networks[0], env) == 0


@SEEDS
def test_p3_independent_agents_learn_row_means(seed):
    env = make_team_env("matrix_game", {"payoff": "P3"})
    batch = all_episodes(env, steps=1)
    networks = make_networks(env, seed, mixer="none")
    fit(networks, batch, steps=600)
    values = team_values(networks[0], batch)[:, 0]  # [9, N]
    of_agent_0 = values[::3, 0].tolist()
    of_agent_1 = values[:3, 1].tolist()
    for values in (of_agent_0, of_agent_1):
        assert values == pytest.approx([-16 / 3, -4, -4], abs=0.02)
    assert greedy_return(networks[0], env) == 0


@SEEDS
def test_p3_no_monotonic_mixer_fits(seed):
    # The best monotone fit is 8 in the corner and -6 elsewhere: 288 / 9 = 32. Training
    # usually ends in a worse one, -8 wherever action 0 appears: 320 / 9 = 35.6.
    env = make_team_env("matrix_game", {"payoff": "P3"})
    loss = fit(
        make_networks(env, seed, mixer="qmix"), all_episodes(env, steps=1), steps=600
    )
    assert 32 - 1e-3 < loss < 36


@SEEDS
def test_p4_monotonic_mixer_misses_the_corner(seed):
    """R33: QMIX fails on the one-step game."""
    # With four actions the failing fit is the best one: -64/7 on the seven joint
    # actions that contain action 0. They pay 8 and six times -12, so the squared
    # residuals are (8 + 64/7)^2 + 6 (12 - 64/7)^2 = 342.857, over sixteen: 21.4286.
    env = make_team_env("matrix_game", {"payoff": "P4"})
    batch = all_episodes(env, steps=1)
    networks = make_networks(env, seed, mixer="qmix")
    loss = fit(networks, batch, steps=1000)
    assert loss == pytest.approx(21.43, abs=0.1)
    table = team_values(networks[0], batch).reshape(4, 4)
    assert table[0].tolist() == pytest.approx([-64 / 7] * 4, abs=0.5)
    assert greedy_return(networks[0], env) == 0


# The risky bandit: joint safe pays 1, a mismatch -1. Joint risky pays -5 with
# probability 0.2 and else 4: 2.2 in the mean.


def bandit_batch(env):
    """A batch with every joint action five times; joint risky pays -5 once."""
    risky = {}
    for seed in range(100):
        episode = play(env, [(1, 1)], seed)
        risky.setdefault(episode.rewards[0], episode)
    episodes = [risky[-5.0], *[risky[4.0]] * 4]
    for joint in ((0, 0), (0, 1), (1, 0)):
        episodes += [play(env, [joint])] * 5
    return stack(episodes)


@SEEDS
def test_quantile_regression_on_rewards_makes_levels_matter(seed):
    """R34: the parts pass the risk gate if the atoms are fitted to the reward itself.

    Every agent sees the other play either action half the time. Its safe action pays 1
    or -1. Its risky action pays -1 with probability 0.5, -5 with 0.1 and 4 with 0.4.
    CVaR at level a of safe: -1 up to a = 1/2, then (a - 1) / a. Of risky: -5 up to 0.1,
    -(0.4 + a) / a up to 0.6, then (4 a - 3.4) / a. Safe is better up to a = 0.8.
    """
    env = make_team_env("risky_bandit", {})
    batch = bandit_batch(env)
    network, _ = make_networks(env, seed, num_atoms=20, risk_measure="cvar")
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    fractions = quantile_fractions(20)
    samples = batch.rewards.unsqueeze(-1).expand(-1, -1, 2, -1)  # [B, 1, N, 1]
    inputs = network.inputs(batch.obs, batch.actions)
    for _ in range(800):
        unrolled = network.unroll(inputs).at(slice(0, 1))
        atoms = network.atoms_of(unrolled, batch.actions)
        loss = quantile_huber_loss(atoms, samples, fractions, 0.1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for level, payoff in ((0.1, 1.0), (0.5, 1.0), (0.95, None), (1.0, None)):
        keys = {"num_atoms": 20, "risk_measure": "cvar", "alpha": level}
        reader, _ = make_networks(env, seed, **keys)
        reader.load_state_dict(network.state_dict())
        got = greedy_return(reader, env)
        if payoff is None:
            assert got in (-5.0, 4.0)  # joint risky
        else:
            assert got == payoff


@SEEDS
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_rdn_is_risk_neutral_about_a_reward(alpha, seed):
    """R34: at a given level the published losses ignore the spread of a reward.

    The squared TD error fits C_tot to the *mean* of its targets, whatever the level.
    The quantile target contains the agent's own C_i in place of the reward. So the
    spread of a reward never enters the atoms. At level 0.1 as at level 1, the value of
    joint risky is a fit to its mean, and the team plays it. RMIX has the same losses;
    only RDN's fit can be worked out by hand.
    """
    env = make_team_env("risky_bandit", {})
    batch = bandit_batch(env)
    networks = make_networks(
        env, seed, mixer="vdn", num_atoms=20, risk_measure="cvar", alpha=alpha
    )
    fit(networks, batch, steps=500, qr_every=10)
    assert greedy_return(networks[0], env) in (-5.0, 4.0)  # joint risky
    values = team_values(networks[0], batch)[:, 0, 0]
    risky, safe, mixed = values[0], values[5], values[10]
    # Means 2.2, 1, -1, -1. Row means 0.6 and 0, mean of all 0.3; row + column - mean.
    got = [risky.item(), safe.item(), mixed.item()]
    assert got == pytest.approx([0.9, -0.3, 0.3], abs=0.1)


@pytest.mark.parametrize(("reward", "direction"), [(50.0, 1), (-50.0, -1)])
@SEEDS
def test_the_predicted_level_follows_the_td_error(reward, direction, seed):
    """R34: a positive TD error raises the level, since CVaR grows with the level."""
    env = make_team_env("risky_bandit", {})
    batch = bandit_batch(env)
    batch.rewards.fill_(reward)
    networks = make_networks(
        env,
        seed,
        mixer="vdn",
        num_atoms=20,
        risk_measure="cvar",
        risk_mode="dynamic",
        risk_levels=5,
    )
    online = networks[0]
    with torch.no_grad():
        online.agents[0].head.weight.normal_(0, 1)
    networks[1].load_state_dict(online.state_dict())
    inputs = online.inputs(batch.obs, batch.actions)
    levels = torch.tensor(online.risk.levels)

    def expected_level():
        with torch.no_grad():
            probabilities = online.unroll(inputs).level_logits[:, 0].softmax(dim=-1)
        return (probabilities @ levels).mean().item()

    before = expected_level()
    predictor = list(online.agents[0].predictor.parameters())
    optimizer = torch.optim.Adam(predictor, 1e-2)
    learning = Learning.of({})
    for _ in range(30):
        view = learning.view(*networks, batch, gamma=0.99, reward_scale=1.0)
        optimizer.zero_grad()
        learning.team_loss(view).backward()
        optimizer.step()
    assert direction * (expected_level() - before) > 0.05
