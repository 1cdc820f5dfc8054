"""Robust gates: after nominal training, robust teams hold where plain teams fail.

Two games whose plain and robust optima differ run through the whole pipeline. A team's
return is computed from tables and not sampled, so it has no sampling error. Its values
are those of the target network, a moving average of the online network. The tests
compare them with robust value iteration.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from rllib_risk.algorithms import config_class
from rllib_risk.env_wrappers.games.tabular_game import TabularGame
from rllib_risk.env_wrappers.macn.env import MACN
from rllib_risk.ops.robust_mdp import TabularMDP, policy_value, robust_value_iteration

TARGETS = ("plain", "contamination", "tv")
# An algorithm needs Ray even if it has no remote runners.
pytestmark = pytest.mark.usefixtures("ray_local")
STEP_LIMIT = 30  # of every episode in the tests; the best ones end after seven steps


def trained(name, env, env_config, target, rho, seed, steps, keys, num_envs=64):
    """Trains with one of the targets; returns the policy."""
    config = config_class(name)().environment(env, env_config=env_config)
    plain = target == "plain"
    config.training(
        target=target,
        rho=0.0 if plain else rho,
        dual_block=2,
        recurrent=False,
        optimizer="adam",
        double_q=name == "RobustQTRAN",  # its second loss needs it
        hidden_size=32,
        mixing_embed_dim=16,
        hypernet_embed_dim=32,
        unused_keys="ignore",  # the same keys for all mixers and targets
        **keys,
    )
    config.env_runners(num_envs_per_env_runner=num_envs).debugging(seed=seed)
    config.min_sample_timesteps_per_iteration = steps
    config.evaluation_interval = None
    algorithm = config.build_algo()
    algorithm.train()
    policy = algorithm.team_policy
    algorithm.stop()
    return policy


def remembering(mdp):
    """Adds the last joint action to the state of a game, since agents observe it.

    State s after joint action a becomes number s * (A + 1) + a + 1. State s at the
    start of an episode becomes s * (A + 1).
    """
    num_actions = mdp.next_states.shape[1]
    last = np.arange(1, num_actions + 1)[:, None]
    return TabularMDP(
        next_states=_per_past(mdp.next_states * (num_actions + 1) + last),
        probabilities=_per_past(mdp.probabilities),
        rewards=_per_past(mdp.rewards),
        terminals=_per_past(mdp.terminals),
        start=mdp.start * (num_actions + 1),
    )


def _per_past(table):
    return np.repeat(table, table.shape[1] + 1, axis=0)


@torch.no_grad()
def read(network, obs, state):
    """Greedy joint actions and the values of all joint actions.

    The inputs are observations [S, N, D] and states [S, .] of all states. The results
    [S * (A + 1)] and [S * (A + 1), A] have the numbering of `remembering`.
    """
    joints = list(itertools.product(range(network.sizes.num_actions), repeat=2))
    previous = torch.tensor([(-1, -1), *joints]).repeat(len(obs), 1)
    obs, state = (
        torch.from_numpy(x).repeat_interleave(len(joints) + 1, dim=0).unsqueeze(1)
        for x in (obs, state)
    )
    rows = len(previous)
    mask = torch.ones(rows, 1, 2, network.sizes.num_actions)
    nothing = torch.zeros(rows, 0, 2, dtype=torch.long)
    unroll = network.unroll(network.inputs(obs, nothing, previous))
    greedy = network.greedy_actions(unroll, mask)[:, 0]
    values = []
    for joint in joints:
        actions = torch.tensor(joint).expand(rows, 1, 2)
        if network.joint_critic is None:
            value = network.values_of(unroll, actions, state, mask)
        else:
            value = network.joint_values_of(unroll, actions, state)
        values.append(value[:, 0, 0])
    rows = greedy[:, 0] * network.sizes.num_actions + greedy[:, 1]
    return rows.numpy(), torch.stack(values, dim=1).numpy()


def exact_returns(games, policy):
    """Undiscounted expected returns of a joint policy, one per game.

    Like `policy_value`, but from the start only: the states of `remembering` are too
    many for a matrix of all transitions.
    """
    rows, returns = np.arange(len(policy)), []
    for mdp in map(remembering, games):
        next_states, chances, rewards, ends = (
            table[rows, policy]  # [S, K]
            for table in (
                mdp.next_states,
                mdp.probabilities,
                mdp.rewards,
                mdp.terminals,
            )
        )
        here = (rows == mdp.start).astype(np.float64)
        total = 0.0
        for _ in range(STEP_LIMIT):
            flow = here[:, None] * chances
            total += (flow * rewards).sum()
            flow[ends] = 0.0
            here = np.bincount(next_states.ravel(), flow.ravel(), len(here))
        returns.append(total)
    return returns


def likeliest_path(mdp, policy):
    """States that follow from the start if the most likely outcome always happens."""
    states = [mdp.start]
    while len(states) < STEP_LIMIT:
        here = states[-1], policy[states[-1]]
        likely = mdp.probabilities[here].argmax()
        if mdp.terminals[here][likely]:
            break
        states.append(mdp.next_states[here][likely])
    return np.array(states)


def optimal_q(mdp, gamma, target, rho):
    """Action values by (robust) value iteration, [S, A]."""
    robust = {} if target == "plain" else {"rho": rho, "uncertainty": target}
    return robust_value_iteration(mdp, gamma=gamma, **robust)[1]


# Shortcut with discount .95, failure .1 and rho .3: the bridge is worth 11.97 (plain),
# 8.379 (contamination) or 7.98 (total variation), and the road always 10. If agents
# separate, the value is the mean (rllib_risk/env_wrappers/games/tabular_game.py).
# Without discount the road pays 10 and the bridge 14 (1 - f), which is 7 at f = .5.
SHORTCUT = {"problem": "shortcut", "failure_probability": 0.1}
FAILURES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
WORST = {"plain": 7.0, "contamination": 10.0, "tv": 10.0}
# In about 1400 episodes both cross the bridge. The sampling error of their failures is
# an error of .95 * 14 * sqrt(.1 * .9 / 1400) = .11 or 0.9 % of the plain value. The
# error of QTRAN's critic itself is larger than that of a sum or of QMIX.
SHORTCUT_TOLERANCE = 0.05

SHORTCUT_KEYS = {
    "gamma": 0.95,
    "lr": 2e-3,
    "dual_lr": 2e-3,
    "initial_epsilon": 1.0,
    "final_epsilon": 1.0,
    "batch_size_episodes": 128,
    "learning_starts_episodes": 128,
    "buffer_size_episodes": 20_000,
    "updates_per_episode": 0.125,
    "target_update_tau": 0.02,
}
SHORTCUT_RUNS = [
    ("RobustVDN", 0),
    *(pytest.param("RobustVDN", seed, marks=pytest.mark.long) for seed in (1, 2)),
    ("RobustQMIX", 0),
    pytest.param("RobustQTRAN", 0, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "seed"), SHORTCUT_RUNS)
def test_only_the_plain_team_takes_the_bridge(name, seed):
    """R35: the worst return of the robust team is above that of the plain one."""
    mdp = TabularGame.joint_mdp(**SHORTCUT)
    fork = mdp.start * 5  # no last joint action, or one of four
    games = [
        TabularGame.joint_mdp(**SHORTCUT | {"failure_probability": f}) for f in FAILURES
    ]
    state = np.eye(5, dtype=np.float32)
    obs = np.stack([state, state], axis=1)
    for target in TARGETS:
        policy = trained(
            name, "tabular", SHORTCUT, target, 0.3, seed, 10_000, SHORTCUT_KEYS
        )
        greedy, _ = read(policy.network, obs, state)
        assert min(exact_returns(games, greedy)) == pytest.approx(WORST[target]), target
        _, values = read(policy.target_network, obs, state)
        np.testing.assert_allclose(
            values[fork],
            optimal_q(mdp, 0.95, target, 0.3)[mdp.start],
            rtol=SHORTCUT_TOLERANCE,
            err_msg=target,
        )


# MACN with 4 columns and 3 rows. Both agents start at (1, 0), at the edge of the cliff
# in row 2. The goal is 4 steps away along the edge and 6 through row 0. A fall costs
# 20. In the training's wind the edge is better by .4; with rho .2 both robust optima
# take row 0. Seven more starts show the team the whole map. They change no effect of
# the wind or the moves.
WIND: dict[str, Any] = {
    "width": 4,
    "height": 3,
    "starts": [[1, 0], [1, 0]],
    "cliff_reward": -20.0,
    "wind_probability": 0.02,
    "episode_limit": STEP_LIMIT,
    "obs_encoding": "onehot",
}
STARTS = [[1, 0], [0, 0], [0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [1, 3]]
WINDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
# Returns in the strongest wind: of the plain optimum, and of both robust optima.
EDGE, SAFE = -16.1, -7.62
# Share of the value at the start. A fall is rare: the sampling error of its frequency
# in about 3000 steps along the edge is 1.6 % of the values, .04 each. Errors add up.
WIND_TOLERANCE = 0.1

WIND_KEYS = {
    "gamma": 0.97,
    # The learning rate falls, so that the online network ends near its average.
    "lr": [[0, 5e-4], [160_000, 5e-4], [320_000, 2e-5]],
    "reward_scale": 0.1,
    "final_epsilon": 0.3,
    "epsilon_anneal_env_steps": 10_000,
    "env_variants": [{"starts": [c, c], "episode_limit": 8} for c in STARTS],
    "batch_size_episodes": 128,
    "learning_starts_episodes": 512,
    "buffer_size_episodes": 90_000,
    "updates_per_episode": 0.1,
    "target_update_tau": 0.005,
}
# Enough for total variation: its team soon learns to stay away from the edge.
SHORT_WIND_KEYS = WIND_KEYS | {
    "lr": [[0, 1e-3], [60_000, 1e-3], [120_000, 2e-5]],
    "target_update_tau": 0.01,
}


def everywhere(env):
    """Observations [S, N, D] and states [S, .] for every pair of the agents' cells."""
    env.reset(seed=0)
    cells = list(itertools.product(range(env.map.height), range(env.map.width)))
    obs, state = [], []
    for pair in itertools.product(cells, repeat=2):
        # set directly: no seed leads to all pairs
        env._cells = list(pair)
        views = env._observations()
        obs.append([views[agent] for agent in env.possible_agents])
        state.append(env.state())
    return np.array(obs), np.array(state)


def returns_in(winds, policy):
    """Exact returns of a joint policy, one per wind."""
    games = [MACN.joint_mdp(**WIND | {"wind_probability": wind}) for wind in winds]
    return exact_returns(games, policy)


def test_the_optima_of_the_three_targets_in_the_wind():
    """Values and returns of the optimal policies, by value iteration alone."""
    mdp = MACN.joint_mdp(**WIND)
    for target, value, least in (
        ("plain", -4.24, EDGE),
        ("contamination", -3.19, SAFE),
        ("tv", -3.21, SAFE),
    ):
        q = optimal_q(mdp, 0.97, target, 0.2)
        assert q[mdp.start].max() == pytest.approx(value, abs=0.01)
        policy = q.argmax(axis=1)
        windiest = MACN.joint_mdp(**WIND | {"wind_probability": WINDS[-1]})
        values = policy_value(windiest, policy, gamma=1.0, step_limit=STEP_LIMIT)
        assert values[mdp.start] == pytest.approx(least, abs=0.01)
        # the same policy whatever the last joint action, by `exact_returns`
        returns = returns_in(WINDS, np.repeat(policy, q.shape[1] + 1))
        assert returns[-1] == min(returns) == pytest.approx(values[mdp.start])


@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "steps", "keys"),
    [
        ("plain", 320_000, WIND_KEYS),
        ("contamination", 320_000, WIND_KEYS),
        ("tv", 120_000, SHORT_WIND_KEYS),
    ],
    ids=TARGETS,
)
def test_robust_teams_keep_away_from_a_windy_cliff(target, steps, keys):
    """R35: the worst return of the robust team is higher, in the wind of MACN."""
    policy = trained("RobustQMIX", "macn", WIND, target, 0.2, 0, steps, keys, 512)
    mdp = MACN.joint_mdp(**WIND)
    obs, state = everywhere(MACN(**WIND))
    greedy, _ = read(policy.network, obs, state)
    returns = returns_in(WINDS, greedy)
    at_nominal = returns[WINDS.index(WIND["wind_probability"])]
    if target == "plain":
        assert min(returns) == pytest.approx(EDGE, abs=0.01)
        assert at_nominal > -4.5
    else:
        assert min(returns) > -10.0
        assert at_nominal < -4.8  # the price of robustness

    q = optimal_q(mdp, 0.97, target, 0.2)
    path = likeliest_path(remembering(mdp), greedy)
    values = read(policy.target_network, obs, state)[1] / WIND_KEYS["reward_scale"]
    np.testing.assert_allclose(
        values[path, greedy[path]],
        q[path // (q.shape[1] + 1), greedy[path]],
        rtol=0.0,
        atol=WIND_TOLERANCE * abs(q[mdp.start].max()),
    )
