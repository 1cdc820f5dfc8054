"""Exact risk of a team, with and without memory, and when it is sampled instead."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rllib_risk.algorithms import config_class
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.env_wrappers.game_tables import tables_of
from rllib_risk.env_wrappers.registry import make_batched
from rllib_risk.evaluation import frontier_runs
from rllib_risk.evaluation.frontier_runs import (
    ActsAtRandomError,
    play_exactly,
    team_risk,
)
from rllib_risk.ops.return_distribution import TooManyNodesError, play_out
from rllib_risk.parts.acting import make_actor
from rllib_risk.parts.team import TeamNetwork

UP, DOWN, LEFT, RIGHT = range(4)


class ByStep:
    """A policy whose agents play a fixed action at every step."""

    def __init__(self, actions, *, memory):
        self._actions = actions  # [T, N]
        encoder = SimpleNamespace(has_memory=memory)
        self.network = SimpleNamespace(
            agents=[SimpleNamespace(encoder=encoder)],
            level=SimpleNamespace(predicted=False),
            options=SimpleNamespace(obs_last_action=False),
            objective=SimpleNamespace(sees_return=False),
            risk=SimpleNamespace(levels=(1.0,)),
        )

    def watch_returns(self, num_envs, thresholds=None):
        return None

    def make_actor(self, num_envs):
        steps = iter(self._actions)

        class Actor:
            def act(self, obs, action_mask):
                # the caller asks for one step more than it plays
                chosen = next(steps, np.zeros(obs.shape[1], np.int64))
                eye = np.eye(action_mask.shape[-1], dtype=np.float32)
                return np.tile(eye[np.array(chosen)], (num_envs, 1, 1)), None

            def remember(self, actions):
                pass

        return Actor()


@pytest.mark.parametrize("memory", [False, True])
def test_the_policy_of_the_nested_and_of_the_greedy_team(memory):
    tables = tables_of("risky_two_step")
    for actions, mean, static, nested in (
        ([[0, 0], [1, 1]], 7.0, 2.68, 1.0),  # A, M
        ([[1, 1], [1, 1]], 4.6, 2.2, 2.2),  # B, M
        # A, then a mismatch: -5 with .4 and 4 with .6
        ([[0, 0], [0, 1]], 0.4, -3.2, -3.2),
    ):
        played = play_exactly(ByStep(actions, memory=memory), tables)
        assert played.returns.mean == pytest.approx(mean)
        assert played.returns.cvar(0.5) == pytest.approx(static)
        assert played.nested(0.5) == pytest.approx(nested)


@pytest.mark.parametrize("memory", [False, True])
def test_a_route_in_the_wind(memory):
    """Up, right, right, down on 2 x 3 cells, in a wind that may push each agent down.

    A push after the first move returns an agent to the start, whose right is cliff. A
    push after the second move is a fall. A push after the third move puts an agent on
    the goal early, where it waits for the other one.
    """
    config = {"width": 3, "height": 2, "wind_probability": 0.1, "episode_limit": 4}
    route = [[move, move] for move in (UP, RIGHT, RIGHT, DOWN)]
    tables = tables_of("macn", config)
    played = play_exactly(ByStep(route, memory=memory), tables)
    by_value = dict(
        zip(played.returns.values, played.returns.probabilities, strict=True)
    )
    # No push after the first two moves: .9^4. The third pushes neither agent, one or
    # both. The last of 3 or 4 moves pays 0; one agent waiting on the goal costs -.5.
    calm = 0.9**4
    assert by_value[-3.0] == pytest.approx(calm * 0.9**2)
    assert by_value[-2.5] == pytest.approx(calm * 2 * 0.9 * 0.1)
    assert by_value[-2.0] == pytest.approx(calm * 0.1**2)
    # All other episodes end with a fall in the second step, which pays -100.
    assert by_value[-101.0] == pytest.approx(1 - calm)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("risky_two_step", {}),
        ("tabular", {"failure_probability": 0.4, "episode_limit": 3}),
        (
            "macn",
            {"width": 3, "height": 3, "wind_probability": 0.2, "episode_limit": 4},
        ),
    ],
)
@pytest.mark.parametrize(
    ("recurrent", "memory"), [(True, "history"), (False, "last_action")]
)
def test_a_network_with_memory_plays_as_in_an_episode(name, config, recurrent, memory):
    """Exact returns of agents that see their last action, against sampled episodes."""
    tables = tables_of(name, config)
    spec = tables.spec
    sizes = TeamSizes(
        num_agents=spec.num_agents,
        num_actions=spec.num_actions,
        obs_size=spec.obs_size,
        state_size=0,
    )
    torch.manual_seed(3)
    network = TeamNetwork(
        sizes, {"mixer": "vdn", "hidden_size": 8, "recurrent": recurrent}
    )
    for parameter in network.parameters():  # so that actions differ by history
        parameter.data *= 3
    policy = SimpleNamespace(
        network=network,
        make_actor=lambda num_envs: make_actor(network, num_envs),
        watch_returns=lambda num_envs, thresholds: None,
    )
    assert frontier_runs.memory_of(policy) == memory
    played = play_exactly(policy, tables)
    number = 4000 if name == "macn" else 500  # the others are slower
    envs = make_batched(name, {**config, "state": "none"}, number)
    envs.reset(np.arange(number), np.arange(number))
    actor, active = make_actor(network, number), np.ones(number, bool)
    returns = np.zeros(number)
    while active.any():
        actions = actor.act(envs.obs, envs.action_mask)[0].argmax(-1)
        actor.remember(actions)
        step = envs.step(actions, active)
        returns += step.rewards
        active &= ~(step.terminateds | step.truncateds)
    values, counts = np.unique(np.round(returns, 4), return_counts=True)
    exact = dict(
        zip(
            np.round(played.returns.values, 4),
            played.returns.probabilities,
            strict=True,
        )
    )
    assert set(values) <= set(exact)
    for value, chance in exact.items():
        share = counts[values == value].sum() / number
        assert abs(share - chance) < 5 * np.sqrt(chance / number) + 1e-3


def test_what_cannot_be_exact_is_sampled(monkeypatch):
    class Restless(ByStep):
        rng = np.random.default_rng(0)

        def make_actor(self, num_envs):
            self._actions = self.rng.integers(2, size=(3, 2))
            return super().make_actor(num_envs)

    tables = tables_of("risky_two_step")
    with pytest.raises(ActsAtRandomError):
        for _ in range(20):
            play_exactly(Restless(None, memory=False), tables)
    calm = ByStep([[0, 0], [0, 0]], memory=True)
    monkeypatch.setattr(frontier_runs, "MAX_HISTORIES", 1)
    with pytest.raises(TooManyNodesError):
        play_exactly(calm, tables)

    returns = [0.0, 1.0, 2.0, 3.0] * 250
    algorithm = SimpleNamespace(
        team_policy=calm,
        config=SimpleNamespace(seed=0),
        evaluate_episodes=lambda number, seed, alpha: {"returns": returns},
    )
    for known, reason in ((tables, "too many histories"), (None, "no tables")):
        team = team_risk(
            algorithm, known, [1.0, 0.25], label="a", source="b", episodes=1000, seed=1
        )
        assert team.how.startswith("1,000 episodes") and reason in team.how
        assert not team.exact and team.nested is None
        assert team.thresholds is None
        assert [mean.value for mean in team.mean] == [1.5, 1.5]
        assert team.cvar[1].value == 0.0
        # the mean of 1,000 with standard deviation 1.118: 1.5 +- 1.96 * .0354
        assert team.mean[0].low == pytest.approx(1.5 - 0.0693, abs=0.01)
        assert team.mean[0].high == pytest.approx(1.5 + 0.0693, abs=0.01)
        assert 0 <= team.cvar[1].low <= team.cvar[1].high < 0.2


def test_more_copies_than_fit_at_once(monkeypatch):
    tables = tables_of(
        "macn", {"width": 3, "wind_probability": 0.2, "episode_limit": 4}
    )
    policy = ByStep([[UP, UP], [RIGHT, UP], [RIGHT, RIGHT], [DOWN, LEFT]], memory=False)
    whole = play_exactly(policy, tables)
    monkeypatch.setattr(frontier_runs, "_MAX_COPIES", 3)
    parts = play_exactly(policy, tables)
    assert np.array_equal(whole.returns.values, parts.returns.values)
    joint = [
        4 * a + b for a, b in ((UP, UP), (RIGHT, UP), (RIGHT, RIGHT), (DOWN, LEFT))
    ]
    direct = play_out(
        tables.mdp, lambda h: np.full(len(h.returns), joint[h.step]), step_limit=4
    )
    assert np.allclose(direct.returns.probabilities, whole.returns.probabilities)
    assert direct.nested(0.25) == pytest.approx(parts.nested(0.25))


def _two_ways_to_one_return() -> dict:
    """A game whose reward of 1 comes in the second or in the third step.

    Both ways have return 1 without a discount, and different returns with one. The last
    step pays 1, .5 or .25 if at least one agent plays 1.
    """
    transitions, rewards = np.zeros((7, 2, 2, 7)), np.zeros((7, 2, 2))
    transitions[0, ..., 1] = transitions[0, ..., 2] = 0.5
    for state, following in ((1, 3), (2, 4), (3, 5), (4, 5), (5, 6), (6, 6)):
        transitions[state, ..., following] = 1.0
    rewards[2] = rewards[3] = 1.0
    rewards[5] = [[0.0, 0.25], [0.5, 1.0]]
    return {
        "transitions": transitions.tolist(),
        "rewards": rewards.tolist(),
        "terminal_states": [6],
        "episode_limit": 4,
    }


@pytest.fixture(scope="module", name="static_team")
def _static_team(ray_local):
    """A team of objective static with gamma .5, whose parameters are random."""
    config = config_class("VDN")().environment(
        "tabular", env_config=_two_ways_to_one_return()
    )
    config.training(objective="static", gamma=0.5, threshold_range=[-1.0, 2.0])
    config.training(recurrent=False, obs_last_action=False, hidden_size=8)
    config.training(threshold_candidates=4, threshold_episodes=200)
    algorithm = config.debugging(seed=0).build_algo()
    yield algorithm
    algorithm.stop()


def test_a_discounted_return_so_far_is_part_of_the_history(static_team):
    tables = tables_of("tabular", _two_ways_to_one_return())
    different = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        for parameter in static_team.team_policy.network.parameters():
            parameter.data = 2 * torch.randn(parameter.shape, generator=generator)
        static_team.team_policy.network.objective.choose(0.4)
        exact = play_exactly(static_team.team_policy, tables).returns
        episodes = static_team.play_greedily(200, seed=1, thresholds=[0.4])
        played = {round(float(e.episode_return), 4) for e in episodes}
        assert played == {round(float(value), 4) for value in exact.values}
        different += len(played) > 1
    assert different > 0  # some team acts by which of the two ways it came


@pytest.mark.parametrize("known", [True, False])
def test_a_static_team_plays_each_level_with_its_own_threshold(static_team, known):
    tables = tables_of("tabular", _two_ways_to_one_return()) if known else None
    generator = torch.Generator().manual_seed(5)
    for parameter in static_team.team_policy.network.parameters():
        parameter.data = 2 * torch.randn(parameter.shape, generator=generator)
    alphas = (1.0, 0.5, 0.1)
    names = {"label": "a", "source": "b"}
    team = team_risk(static_team, tables, alphas, episodes=100, seed=3, **names)
    assert team.exact == known
    for index, alpha in enumerate(alphas):
        alone = static_team.evaluate_episodes(100, seed=3, alpha=alpha)
        assert team.thresholds[index] == alone["threshold"]
        if known:
            played = play_exactly(static_team.team_policy, tables)
            assert team.mean[index].value == played.returns.mean
            assert team.cvar[index].value == played.returns.cvar(alpha)
            assert team.nested[index].value == played.nested(alpha)
        else:
            assert team.mean[index].value == pytest.approx(alone["return_mean"])
            assert team.cvar[index].value == alone["return_cvar_alpha"]
    assert len(set(team.thresholds)) > 1
