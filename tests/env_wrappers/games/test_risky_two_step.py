"""The risky two-step game: its rules, and three objectives with three optima."""

import itertools

import numpy as np
import pytest

from rllib_risk.env_wrappers import make_team_env
from rllib_risk.env_wrappers.games.risky_two_step import RiskyTwoStep
from rllib_risk.ops.return_distribution import play_out
from rllib_risk.ops.robust_mdp import nested_value_iteration
from rllib_risk.ops.static_risk import static_optima

FIRST, SECOND = 0, 3  # both agents 0, both agents 1
A, B, G, M = FIRST, SECOND, FIRST, SECOND

# Actions in step 1 and in step 2 after the low and after the high reward; then mean,
# static and nested CVaR at alpha .5. The second policy by hand: 0 then -5 with
# probability .16, 0 then 9 with .24, 9 then -2 with .24 and 9 then 4 with .36. The mean
# is -.8 + 2.16 + 1.68 + 4.68 = 7.72. The lowest half is -5 with .16, 7 with .24 and 9
# with .1: 2 (-.8 + 1.68 + .9) = 3.56.
POLICIES = {
    "A, G": ((A, G, G), 8.80, 2.12, -0.40),
    "A, then G after 0 and M after 9": ((A, G, M), 7.72, 3.56, -0.12),
    "A, then M after 0 and G after 9": ((A, M, G), 8.08, 2.08, 0.72),
    "A, M": ((A, M, M), 7.00, 2.68, 1.00),
    "B, G": ((B, G, G), 6.40, 0.80, 0.80),
    "B, M": ((B, M, M), 4.60, 2.20, 2.20),
}


def player(first, low, high):
    """A joint policy: after A's 9 or B's 3 it plays `high`, after A's 0 `low`."""

    def act(histories):
        if histories.step == 0:
            return np.array([first])
        return np.where(histories.returns > 0, high, low)

    return act


@pytest.mark.parametrize("name", POLICIES)
def test_the_six_policies(name):
    policy, mean, static, nested = POLICIES[name]
    played = play_out(RiskyTwoStep.joint_mdp(), player(*policy), step_limit=2)
    assert played.returns.mean == pytest.approx(mean, abs=1e-9)
    assert played.returns.cvar(0.5) == pytest.approx(static, abs=1e-9)
    assert played.nested(0.5) == pytest.approx(nested, abs=1e-9)


def test_three_objectives_have_three_optima():
    mdp = RiskyTwoStep.joint_mdp()
    optima = static_optima(mdp, [1.0, 0.75, 0.5, 0.25, 0.1], step_limit=2)
    values = [8.8, 5.96, 3.56, 1.0, 1.0]
    assert [o.value for o in optima] == pytest.approx(values, abs=1e-9)
    assert [o.threshold for o in optima] == [18.0, 13.0, 9.0, 1.0, 1.0]
    # the policies of the mean and of the static CVaR at .5
    for optimum, name in ((optima[0], "A, G"), (optima[2], list(POLICIES)[1])):
        played = play_out(mdp, optimum.act, step_limit=2)
        assert played.nested(0.5) == pytest.approx(POLICIES[name][3], abs=1e-9)
        assert optimum.mean == pytest.approx(POLICIES[name][1], abs=1e-9)
    values, choices = nested_value_iteration(mdp, alpha=0.5, step_limit=2)
    assert values[0] == pytest.approx(2.2, abs=1e-9)
    assert choices[[0, 1], [0, 1]].tolist() == [B, M]


def test_the_rules():
    """A mismatch pays -5 and the game goes on; the seed alone decides the rewards."""
    env = make_team_env("risky_two_step", {})
    paid: dict[tuple[int, int], set[float]] = {}
    low = 0
    for seed, joint in itertools.product(
        range(50), itertools.product((0, 1), repeat=2)
    ):
        obs, _ = env.reset(seed=seed)
        assert obs["obs"].tolist() == [[1.0, 0.0]] * 2
        obs, first, ended, _, info = env.step(np.array([0, 0]))
        assert not ended and info == {}
        assert obs["obs"].tolist() == [[0.0, 1.0]] * 2 and obs["state"].tolist() == [
            0,
            1,
        ]
        low += joint == (0, 0) and first == 0.0
        _, second, ended, _, info = env.step(np.array(joint))
        assert ended
        paid.setdefault(joint, set()).add(second)
        assert info["played_a"] == 1 and info["mismatches"] == (joint[0] != joint[1])
        assert info["played_g"] == (joint == (0, 0)) and info["played_b"] == 0
        assert info["played_m"] == (joint == (1, 1))
    assert paid == {
        (0, 0): {-5.0, 9.0},
        (1, 1): {-2.0, 4.0},
        (0, 1): {-5.0},
        (1, 0): {-5.0},
    }
    assert 10 < low < 30  # of 50, with probability .4
    env.reset(seed=0)
    assert env.step(np.array([0, 1]))[1:3] == (-5.0, False)
    env.reset(seed=0)
    assert env.step(np.array([1, 1]))[1:3] == (3.0, False)
