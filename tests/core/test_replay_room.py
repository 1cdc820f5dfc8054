"""The check in a running trial that its replay fits into memory."""

import logging

import pytest

from rllib_risk.cli.catalog import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.envs import team_spaces_of
from rllib_risk.core.replay_room import RECENT_EPISODES, ReplayRoom
from rllib_risk.data.sizes import TeamSpec

MEMORY = "rllib_risk.core.replay_room.machine_memory"
# About 100 bytes per step: 1000 episodes of 100 steps take about 10 MB, and a segment
# of the replay 17 MB.
SPEC = TeamSpec(("a", "b"), 3, 5, 10, None)


@pytest.fixture
def room(monkeypatch):
    monkeypatch.setattr(MEMORY, lambda: 50 * 10**6)
    config = config_class("VDN")().training(buffer_size_episodes=1000)
    return ReplayRoom(config, SPEC)


def of_length(*lengths):
    return [range(length) for length in lengths]


def test_episodes_that_grow_stop_the_run(room):
    """Before the replay takes the memory, and at the first result of a short run."""
    room.begin()
    for length in range(10, 200, 10):
        room.observe(of_length(*[length] * RECENT_EPISODES))
        room.check()
    with pytest.raises(ConfigError, match=r"of at most \d+ steps.*Set buffer_size_epi"):
        for length in range(200, 1000, 10):
            room.observe(of_length(*[length] * RECENT_EPISODES))
            room.check()
    assert length < 500


def test_one_long_episode_is_a_warning_that_is_not_repeated(room, caplog):
    with caplog.at_level(logging.WARNING):
        for longest in (600, 700, 800, 1500, 1600):
            room.observe(of_length(*[10] * RECENT_EPISODES, longest))
            room.check()
    assert ["at most 600" in r.message for r in caplog.records] == [True, False]
    assert "become as long as the longest" in caplog.text and "1,500" in caplog.text


def test_a_declared_limit_is_checked_once_before_the_start(monkeypatch):
    """With the variant whose episodes are the longest, in a resumed run too."""
    config = config_class("VDN")().environment("macn")
    config.training(
        env_variants=[{"episode_limit": 8}, {"episode_limit": 1000}],
        buffer_size_episodes=10**6,
    )
    spec = team_spaces_of(config).spec_team
    assert spec.episode_limit == 1000
    monkeypatch.setattr(MEMORY, lambda: 10**9)
    with pytest.raises(ConfigError, match="at most 1,000 steps"):
        ReplayRoom(config, spec).begin()
