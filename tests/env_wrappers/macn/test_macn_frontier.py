"""MACN 4x7 in a light wind: the exact frontier of mean and CVaR."""

import numpy as np
import pytest

from rllib_risk.env_wrappers.macn.env import MACN
from rllib_risk.ops.return_distribution import play_out
from rllib_risk.ops.robust_mdp import nested_value_iteration
from rllib_risk.ops.static_risk import static_optima

LIMIT = 30
WINDY = {"wind_probability": 0.01, "cliff_reward": -15.0, "episode_limit": LIMIT}
LEVELS = [1.0, 0.5, 0.25, 0.1, 0.05]

# Level -> mean, P(fall) and CVaR at .5, .25, .1, .05 of the best policy at this level.
STATIC = {
    1.0: (-8.0490, 0.09562, -9.1157, -11.2315, -17.5124, -19.1206),
    0.5: (-8.4777, 0.04997, -9.0268, -10.0536, -13.1341, -18.0130),
    0.25: (-8.9655, 0.00288, -9.0762, -9.1524, -9.3809, -9.7619),
    0.1: (-8.9655, 0.00288, -9.0762, -9.1524, -9.3809, -9.7619),
    0.05: (-9.0261, 0.00014, -9.1054, -9.2107, -9.5199, -9.5397),
}
NESTED = {1.0: -8.0490, 0.5: -8.9973, 0.25: -9.2022, 0.1: -9.6662, 0.05: -10.4985}
NESTED_OF_THE_MEAN = [-9.0269, -10.7188, -14.1816, -16.6919]


def test_the_best_static_cvar_at_every_level():
    mdp = MACN.joint_mdp(**WINDY)
    for optimum in static_optima(mdp, LEVELS, step_limit=LIMIT):
        mean, falls, *cvars = STATIC[optimum.alpha]
        played = play_out(mdp, optimum.act, step_limit=LIMIT)
        returns = played.returns
        got = [returns.cvar(alpha) for alpha in LEVELS[1:]]
        assert got == pytest.approx(cvars, abs=5e-5)
        assert returns.mean == pytest.approx(mean, abs=5e-5)
        assert optimum.mean == pytest.approx(returns.mean, abs=1e-9)
        assert optimum.value == pytest.approx(returns.cvar(optimum.alpha), abs=1e-9)
        # a return of at most -15 means a fall
        fell = returns.probabilities[returns.values <= -15].sum()
        assert fell == pytest.approx(falls, abs=5e-6)
        if optimum.alpha == 1.0:
            nested = [played.nested(alpha) for alpha in LEVELS[1:]]
            assert nested == pytest.approx(NESTED_OF_THE_MEAN, abs=5e-5)


def test_the_best_nested_cvar_at_every_level():
    mdp = MACN.joint_mdp(**WINDY)
    for alpha, expected in NESTED.items():
        values, _ = nested_value_iteration(mdp, alpha=alpha, step_limit=LIMIT)
        assert values[mdp.start] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("wind", "mean"), [(0.02, -9.0632), (0.05, -9.1707), (0.1, -9.3857), (0.2, -9.972)]
)
def test_at_the_published_fall_one_policy_is_best_for_every_level(wind, mean):
    mdp = MACN.joint_mdp(wind_probability=wind)
    values, choices = nested_value_iteration(mdp, alpha=1.0, step_limit=LIMIT)
    assert values[mdp.start] == pytest.approx(mean, abs=5e-5)
    played = play_out(mdp, lambda h: choices[h.step, h.states[:, -1]], step_limit=LIMIT)
    if wind == 0.1:  # the other winds agree and take as long
        for optimum in static_optima(mdp, LEVELS, step_limit=LIMIT):
            cvar = played.returns.cvar(optimum.alpha)
            assert optimum.value == pytest.approx(cvar, abs=1e-6)


@pytest.mark.parametrize("encoding", ["codes", "onehot"])
def test_the_views_of_the_tables_are_those_of_the_env(encoding):
    wind = {"wind_probability": 0.3, "wind_direction": "up"}
    config = {"width": 4, "height": 3, "obs_encoding": encoding, **wind}
    env, views = MACN(**config), MACN.joint_views(**config)
    assert views.shape == (144, 2, 9 if encoding == "codes" else 36)
    rng = np.random.default_rng(0)
    seen = set()
    for seed in range(60):
        obs, _ = env.reset(seed=seed)
        while True:
            first, second = np.flatnonzero(env.state())
            state = int(first * 12 + second - 12)
            seen.add(state)
            for agent, view in enumerate(views[state]):
                assert np.array_equal(obs[f"agent_{agent}"], view)
            if not env.agents:
                break
            obs = env.step({a: int(rng.integers(4)) for a in env.agents})[0]
    assert len(seen) > 60
