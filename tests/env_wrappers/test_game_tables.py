"""Tables of games: they agree with the env, and forced copies play them."""

import numpy as np
import pytest

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.game_tables import ForcedEnvs, envs_with_tables, tables_of
from rllib_risk.env_wrappers.registry import make_team_env
from rllib_risk.env_wrappers.scripted import RandomPolicy

THREE_STATES = {
    "transitions": [
        [[[0.5, 0.25, 0.25]], [[0.0, 1.0, 0.0]], [[0.2, 0.3, 0.5]]],
        [[[0.0, 0.0, 1.0]], [[0.4, 0.6, 0.0]], [[0.1, 0.0, 0.9]]],
        [[[0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0]]],
    ],
    "rewards": [[[1], [2], [3]], [[4], [5], [6]], [[0], [0], [0]]],
    "terminal_states": [2],
}
GAMES = {
    "macn": {"width": 4, "height": 3, "wind_probability": 0.3, "episode_limit": 6},
    "risky_bandit": {},
    "risky_two_step": {},
    # three actions of the first agent and one of the second
    "tabular": {**THREE_STATES, "episode_limit": 4},
}


def test_which_envs_have_tables():
    assert set(envs_with_tables()) == set(GAMES)


@pytest.mark.parametrize("name", GAMES)
def test_forced_copies_play_what_the_env_plays(name):
    """Every step of the env equals that of a copy forced to the same outcome."""
    tables, env = tables_of(name, GAMES[name]), make_team_env(name, GAMES[name])
    mdp, rng = tables.mdp, np.random.default_rng(0)
    assert tables.step_limit == env.spec_team.episode_limit
    for seed in range(30):
        obs, _ = env.reset(seed=seed)
        rows, outcomes, state = [obs], [], mdp.start
        actions, ended = [], False
        while not ended:
            joint = RandomPolicy().act(obs["obs"], obs["action_mask"], rng)
            obs, reward, terminated, truncated, _ = env.step(joint)
            ended = terminated or truncated
            number = int(tables.joint(joint[None])[0])
            fits = (mdp.probabilities[state, number] > 0) & np.isclose(
                mdp.rewards[state, number], reward
            )
            fits &= mdp.terminals[state, number] == terminated
            after = mdp.next_states[state, number]
            if not ended:  # observations after the end are up to the env
                seen = tables.views[after] == obs["obs"]
                fits &= seen.reshape(len(after), -1).all(axis=1)
            outcomes.append(int(fits.argmax()))
            assert fits.any()
            state = int(after[outcomes[-1]])
            rows.append(obs)
            actions.append((joint, reward, terminated, truncated))
        forced = ForcedEnvs(tables, np.array([outcomes]))
        on = np.ones(1, bool)
        for row, (joint, reward, *ends) in zip(rows, actions, strict=False):
            assert np.array_equal(forced.obs[0], row["obs"])
            assert np.array_equal(forced.action_mask[0], row["action_mask"])
            step = forced.step(joint[None], on)
            assert step.rewards[0] == np.float32(reward)
            assert [step.terminateds[0], step.truncateds[0]] == ends


def test_what_has_no_tables():
    for name, config, text in (
        ("uav", {}, "env 'uav' has no tables of its rules"),
        ("macn", {"reward_noise_std": 1.0}, "set reward_noise_std to 0"),
        ("macn", {"obs_noise_std": 0.1}, "set obs_noise_std to 0"),
        ("macn", {"team_reward": "sum"}, "team_reward cannot be used with tables"),
    ):
        with pytest.raises(EnvConfigError, match=text):
            tables_of(name, config)
    one, other = (tables_of("macn", {"obs_encoding": e}) for e in ("codes", "onehot"))
    assert one.is_same_game(other)
    assert not one.is_same_game(tables_of("macn", {"cliff_reward": -15}))
