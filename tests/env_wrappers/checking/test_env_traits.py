"""check-env's verdict on envs with one trait each, and whether they can be played."""

import logging
import re

import numpy as np
import pytest
import trait_envs

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import bytes_of
from rllib_risk.data.segments import bytes_per_row
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers import notices
from rllib_risk.env_wrappers.checking.check_env import REPLAY_EPISODES, check_env
from rllib_risk.env_wrappers.scripted import RandomPolicy
from rllib_risk.env_wrappers.team_env import TeamEnv

# Env, env_config, and what the warnings must say; None: no warning.
USABLE = [
    ("Plain", {}, None),
    ("Masked", {}, None),
    ("MaskObs", {}, None),
    ("MaskObservations", {}, None),
    ("Mask3Keys", {}, None),
    ("MaskAvail", {"action_mask_key": "avail_actions"}, None),
    ("MaskNested", {}, None),
    ("MaskNestedAvail", {"action_mask_key": "avail_actions"}, None),
    ("InfoMask", {"action_mask_key": "legal_actions"}, None),
    ("InfoMaskSometimes", {}, r"action_mask only in some steps"),
    (
        "ImageLong",
        {},
        r"(?s)images \(84, 84, 3\)\. They stay bytes: a step takes 85 kB .*Set encoder:"
        r" cnn .* 21168 pixels as a vector, unscaled.*"
        r"5,000 episodes of 60 steps would take 26 GB: set buffer_size_episodes",
    ),
    (
        "CloseRaises",
        {},
        r"close\(\) of CloseRaises failed and is ignored: RuntimeErr",
    ),
    ("HugeReward", {}, r"the reward of agent 'p0' holds numbers up to 33554432"),
    ("Respawn", {}, r"vanished from agents without a termination or truncation flag"),
    ("EndedStays", {}, r"agent 'p0' has ended but is still in agents"),
    ("IntIds", {}, None),
    ("Many", {}, None),
    ("Hetero", {}, None),
    ("IntObs", {}, r"observation of agent 'p0' holds.*only up to 16,777,216"),
    ("IntState", {}, r"the state holds numbers up to 16777217"),
    ("NestedDict", {}, None),
    ("StateList", {}, None),
    ("NoState", {}, r"the env has no state\(\)"),
    ("NoState", {"state": "concat_obs"}, None),
    ("Variable", {}, None),
    ("turns_in_parallel", {"state": "concat_obs"}, None),
]

# Env, env_config, and the one error: its source, or what to do.
REFUSED = [
    ("MaskAvail", {}, r"step\(\) of the env raised ValueError: illegal move"),
    (
        "MaskOfAnotherSize",
        {},
        r"has 4 actions, but entry 'action_mask'.*one number per",
    ),
    (
        "MaskTwice",
        {},
        r"several entries 'action_mask': left/action_mask and right/action_mask\. Give",
    ),
    ("MaskLost", {}, r"the action_mask of agent 'p0' is None"),
    ("AgentsNone", {}, r"agents must be a list after reset\(\) and step\(\), not None"),
    ("MaskAlone", {}, r"holds only 'action_mask'"),
    ("InfoMaskOfTens", {}, r"action_mask of agent 'p0' holds 10: a mask holds 1 for"),
    (
        "Plain",
        {"action_mask_key": "legal"},
        r"action_mask_key is legal, but no agent's",
    ),
    ("Plain", {"action_mask_key": 3}, r"must be the name of an entry.* not 3"),
    ("ResetNoArgs", {}, r"reset\(\) of ResetNoArgs.*seed=None and options=None"),
    (
        "NeedsOptions",
        {},
        r"reset\(\) of the env.*raised TypeError.*trait_envs.py, line",
    ),
    ("OldApi", {}, r"reset\(\).*must return.*observations, infos"),
    ("RewardNone", {}, r"rule of the adapter.*the reward of agent 'p0' must be a num"),
    ("Exits", {}, r"step\(\) of the env raised SystemExit: 3.*trait_envs.py, line"),
    ("RLlibStyle", {}, r"step\(\) returned terminations of '__all__'"),
    ("Unlisted", {}, r"late_joiner'\] are not in possible_agents"),
    ("MultiDisc", {}, r"MultiDiscrete\(\[3 2\]\): value factorisation needs discrete"),
    ("GraphObs", {}, r"no fixed flat size: use Box"),
    ("BoxInf", {}, r"unbounded action space"),
    ("NoLimit", {}, r"no episode ended within 300 steps"),
    ("Relative", {}, r"the env raised FileNotFoundError.*trait_envs.py, line"),
    ("TurnBased", {}, r"an AEC env.*aec_to_parallel"),
]


@pytest.fixture(autouse=True)
def _short_episodes(monkeypatch):
    monkeypatch.setattr(
        "rllib_risk.env_wrappers.checking.check_env.MAX_EPISODE_STEPS", 300
    )


def texts(report, level):
    return [f.message for f in report.findings if f.level == level]


@pytest.mark.parametrize(("name", "config", "warning"), USABLE)
def test_usable_envs(name, config, warning):
    """Also plays episodes as in training, without a crash or an illegal action."""
    report = check_env(f"trait_envs:{name}", config)
    assert report.ok, str(report)
    warnings = texts(report, "warn")
    if warning is None:
        assert not warnings
    else:
        assert re.search(warning, "\n".join(warnings)), str(report)
    env_config = {"factory": f"trait_envs:{name}", **config}
    team = TeamConfig().environment("pettingzoo", env_config=env_config)
    for episode in record(team, [scripted_player(RandomPolicy(), 0.0)], 2, seed=0):
        steps, agents = episode.actions.shape
        chosen = np.take_along_axis(
            episode.action_mask[:-1], episode.actions[..., None].astype(int), -1
        )
        assert chosen.all() and len(episode.obs) == steps + 1
        assert agents == len(getattr(trait_envs, name)().possible_agents)


@pytest.mark.parametrize(("name", "config", "error"), REFUSED)
def test_refused_envs(name, config, error):
    report = check_env(f"trait_envs:{name}", config)
    errors = texts(report, "error")
    assert len(errors) == 1 and re.search(error, errors[0]), str(report)


def test_the_rest_of_a_masked_observation_is_the_observation():
    # {obs, action_mask}: 3 numbers; with position, in the order of the Dict: 3 + 2
    sizes = {"Masked": 3, "MaskObs": 3, "MaskObservations": 3, "Mask3Keys": 5}
    sizes |= {"MaskNested": 5}
    for name, size in sizes.items():
        env = TeamEnv(getattr(trait_envs, name)())
        obs, _ = env.reset(seed=0)
        assert env.spec_team.obs_size == size and env.masks.source == "observation"
        np.testing.assert_array_equal(obs["action_mask"], [[1, 0, 0]] * 2)
        inner = env.parallel_env
        inner.rng = np.random.default_rng(0)
        first = inner.rng.uniform(-1, 1, 3).astype(np.float32)
        np.testing.assert_array_equal(obs["obs"][0, :3], first)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("MaskAvail", "avail_actions"),
        ("MaskNestedAvail", "avail_actions"),
        ("InfoMask", "legal_actions"),
    ],
)
def test_masks_under_other_names_are_pointed_out(name, entry, caplog):
    """check-env warns, and so does training, once; not if the key is set."""
    said = f"'{entry}' in the env's observation or info looks like an action mask"
    assert any(said in t for t in texts(check_env(f"trait_envs:{name}"), "warn"))
    notices.forget()
    factory = getattr(trait_envs, name)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            TeamEnv(factory()).reset(seed=0)
    assert [said in record.message for record in caplog.records] == [True]
    notices.forget()
    caplog.clear()
    TeamEnv(factory(), action_mask_key=entry).reset(seed=0)
    assert not caplog.records


@pytest.mark.parametrize("name", ["MaskInTuple", "InfoMaskNested"])
def test_masks_out_of_reach_are_pointed_out(name, caplog):
    """check-env and training warn of a mask where the adapter does not look for it."""
    said = "make it an entry 'action_mask' of a Dict observation space, or return it as"
    assert any(said in t for t in texts(check_env(f"trait_envs:{name}"), "warn"))
    notices.forget()
    with caplog.at_level(logging.WARNING):
        TeamEnv(getattr(trait_envs, name)()).reset(seed=0)
    assert said in caplog.text


def test_an_agent_that_ended_stays_dead():
    env = TeamEnv(trait_envs.EndedStays())
    env.reset(seed=0)
    rows = [env.step([0, 0])[0] for _ in range(4)]
    dead = [not row["obs"][0].any() for row in rows]
    assert dead == [False, True, True, True]


def test_memory_is_that_of_the_replay():
    # 2 agents, 3 actions, 4 observations, state 5: a row holds 2*4 + 5 + 1 + 2 float32,
    # 2*3 uint8 and 2 int16
    spec = TeamSpec(("a", "b"), 3, 4, 5, None)
    row = 4 * (8 + 5 + 1 + 2) + 6 + 4
    assert bytes_of(spec, 5000, 2000) == pytest.approx(5000 * 2001 * row, rel=0.05)
    episode = Episode(
        obs=np.zeros((7, 2, 4), np.float32),
        state=np.zeros((7, 5), np.float32),
        action_mask=np.zeros((7, 2, 3), np.uint8),
        actions=np.zeros((6, 2), np.int16),
        rewards=np.zeros(6, np.float32),
        terminated=True,
        risk_levels=np.zeros((6, 2), np.float32),
    )
    assert bytes_per_row(episode) == row
    assert TeamConfig().buffer_size_episodes == REPLAY_EPISODES
