"""``update_interval_env_steps``: updates while episodes are played."""

import numpy as np
import pytest
import torch
from small_runs import fingerprint, small_config

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.algorithm import NUM_EPISODES
from rllib_risk.core.profile import NUM_UPDATES

UP, LEFT = 0, 2
pytestmark = pytest.mark.usefixtures("ray_local")


def config_of(name, interval, envs, **training):
    config = small_config(name, update_interval_env_steps=interval, **training)
    return config.env_runners(num_envs_per_env_runner=envs)


@pytest.mark.parametrize(("interval", "envs"), [(3, 1), (2, 4)])
def test_updates_follow_the_interval_and_use_ended_episodes(interval, envs):
    algorithm = config_of("VDN", interval, envs).build_algo()
    played, updates = [0], []
    count, learn = algorithm.env_runner.on_steps, algorithm._learn

    def on_steps(steps):
        played[0] += steps
        count(steps)

    def noted():
        updates.append((played[0], len(algorithm.replay)))
        return learn()

    algorithm.env_runner.on_steps, algorithm._learn = on_steps, noted
    ends, held = [], []
    while algorithm.counters[NUM_EPISODES] < 24:
        algorithm.training_step()
        ends.append(algorithm.env_steps)
        held.append(len(algorithm.replay))
    # Updates that are due before learning begins are dropped, except for a fraction of
    # an update, so that updates stay at multiples of the interval.
    first = next(end for end, size in zip(ends, held, strict=True) if size >= 8)
    expected = []
    for end, begin, size in zip(ends[1:], ends[:-1], held[:-1], strict=True):
        if begin >= first:
            due = range(begin // interval + 1, end // interval + 1)
            expected += [(number * interval, size) for number in due]
    # Several environments step together: an update waits for the end of that step.
    assert [size for _, size in updates] == [size for _, size in expected]
    late = [at - due for (at, _), (due, _) in zip(updates, expected, strict=True)]
    assert min(late) == 0 and max(late) < envs
    assert algorithm.counters[NUM_UPDATES] == len(updates) > 10
    algorithm.stop()


def test_running_episodes_go_on_with_the_new_weights():
    greedy = {"initial_epsilon": 0.0, "final_epsilon": 0.0}
    algorithm = config_of("VDN", 2, 1, **greedy).build_algo()
    while len(algorithm.replay) < 8:
        algorithm.training_step()
    bests = []
    steps = algorithm.env_steps

    def learn():
        """Makes one action the best everywhere, in memory that actors do not share."""
        bests.append((UP, LEFT)[len(bests) % 2])
        (agent,) = algorithm.team_policy.network.agents
        agent.head.weight.data = torch.zeros_like(agent.head.weight)
        agent.head.bias.data = torch.eye(4)[bests[-1]]
        return {}, 0

    learn()
    algorithm._learn = learn
    algorithm.training_step()
    (episode,) = algorithm.replay.newest(1)
    # No agent falls off the cliff. An update follows every second step, and the next
    # two steps play by it.
    assert steps % 2 == 0 and len(episode) == 20 and len(bests) == 11
    np.testing.assert_array_equal(episode.actions[:, 0], np.repeat(bests, 2)[:20])
    algorithm.stop()


def test_stopping_and_resuming_changes_nothing(tmp_path):
    """R13 with updates within episodes: a fraction of an update is kept too."""
    straight = config_of("RMIX", 7, 4).build_algo()
    for _ in range(4):
        straight.train()
    first = config_of("RMIX", 7, 4).build_algo()
    for _ in range(2):
        first.train()
    first.save_checkpoint(str(tmp_path))
    resumed = rllib_risk.load(tmp_path)
    for _ in range(2):
        resumed.train()
    assert straight._updates_owed % 1.0 > 0.0
    assert straight.counters[NUM_UPDATES] > 5
    assert fingerprint(resumed) == fingerprint(straight)
    for algorithm in (straight, first, resumed):
        algorithm.stop()


@pytest.mark.parametrize("name", ["COMA", "DOP"])
def test_actor_critics_learn_after_rounds(name):
    config = config_class(name)().environment("macn")
    config.training(update_interval_env_steps=2)
    with pytest.raises(ConfigError, match=r"update_interval_env_steps: (COMA|DOP)"):
        config.validate()
