"""Problems with known answers that MA-CQR must solve from a dataset alone.

In most problems two agents play one step. Each plays safe (0) or risky (1), and the
team gets the sum of their rewards. Expected values are worked out in the comments.
"""

import itertools

import numpy as np
import pytest
import torch

from rllib_risk.algorithms import config_class
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data.dataset import write_dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.env_wrappers.scripted import reference_policies

pytestmark = pytest.mark.usefixtures("ray_local")


def one_step(actions, reward):
    return Episode(
        obs=np.ones((2, len(actions), 1), np.float32),
        state=np.ones((2, 1), np.float32),
        action_mask=np.ones((2, len(actions), 2), np.uint8),
        actions=np.array([actions], np.int16),
        rewards=np.array([reward], np.float32),
        terminated=True,
        risk_levels=np.ones((1, len(actions)), np.float32),
    )


def bandit(folder, safe, chance, loss, number=4000, agents=2):
    """Writes a dataset with equally many steps of all joint actions.

    Risky earns ``loss`` in exactly the share ``chance`` of an agent's steps with each
    joint action, and else 0. So the data have no sampling error.
    """
    rng = np.random.default_rng(0)
    episodes = []
    per_joint = number // 2**agents
    for joint in itertools.product((0, 1), repeat=agents):
        earned = np.zeros(per_joint)
        for action in joint:
            bad = rng.permutation(per_joint) < round(chance * per_joint)
            earned += np.where(bad, loss, 0.0) if action else safe
        episodes += [one_step(joint, reward) for reward in earned]
    order = rng.permutation(len(episodes))
    write_dataset(
        folder,
        [episodes[i] for i in order],
        env=None,
        env_config={},
        agents=[f"agent_{i}" for i in range(agents)],
        behaviour={},
        seed=None,
    )
    return folder


def learned(folder, updates=1000, **keys):
    """Trains; returns atoms ``[N, A, M]`` of the only state, and the greedy actions."""
    config = config_class("MACQR")().debugging(seed=0)
    config.training(
        dataset=str(folder),
        hidden_size=16,
        lr=[[0, 3e-2], [updates * 256, 1e-3]],
        batch_size_episodes=256,
        grad_clip=None,
        conservative_weight=None,
        updates_per_iteration=updates,
    )
    config.training(**keys)
    algorithm = config.build_algo()
    algorithm.train()
    network = algorithm.team_policy.network
    size = network.sizes
    obs = torch.ones(1, 1, size.num_agents, 1)
    with torch.no_grad():
        atoms = network.atoms(network.unroll(network.inputs(obs, obs[:, :0].long())))
    utilities, _ = algorithm.team_policy.make_actor(1).act(
        obs[0].numpy(), np.ones((1, size.num_agents, 2), np.uint8)
    )
    algorithm.stop()
    return atoms[0, 0].numpy(), utilities[0].argmax(-1).tolist()


@pytest.mark.parametrize("preset", ["ma_ciqr", "ma_ccqr"])
def test_uavs_learn_from_twenty_episodes_of_a_scripted_team(tmp_path, preset):
    """R36: MA-CQR on a recorded team of the UAV problem."""
    # On the authors' scale (`return_report`) the idle return is -5149, plain Q-learning
    # stays near it, and the recorded team has about -420.
    player = scripted_player(reference_policies("uav")["greedy"], 0.05)
    write_dataset(
        tmp_path / "set",
        record(TeamConfig().environment("uav"), [player], 20, seed=0),
        env="uav",
        env_config={},
        agents=["uav_0", "uav_1"],
        behaviour={"policy": "greedy"},
        seed=0,
    )
    config = config_class("MACQR")().environment("uav").debugging(seed=0)
    config.training(
        dataset=str(tmp_path / "set"), preset=preset, updates_per_iteration=800
    )
    config.num_envs_per_env_runner = config.evaluation_duration = 50
    algorithm = config.build_algo()
    result = algorithm.train()
    algorithm.stop()
    assert result["evaluation"]["return_report"] > -2500
    assert result["learner"]["head_spread"] > 0.1


@pytest.mark.parametrize("mixer", ["none", "vdn"])
def test_a_neutral_team_takes_the_risk_and_a_careful_one_does_not(tmp_path, mixer):
    # Risky has mean -30 > -60. Two thirds of its worst 15 % are -300: -200 < -60.
    folder = bandit(tmp_path / "set", safe=-60.0, chance=0.1, loss=-300.0)
    keys = {"mixer": mixer, "reward_scale": 0.1}
    assert learned(folder, **keys)[1] == [1, 1]
    if mixer == "vdn":
        assert learned(folder, tail_level=0.15, **keys)[1] == [0, 0]
    else:
        # An independent agent cannot separate the other's luck from its own. The other
        # takes the risk half of the time. The worst 15 % of safe: 5 % are -360 and 10 %
        # are -120, where both are safe; (5 * -360 + 10 * -120) / 15 = -200. The worst
        # 15 % of risky: 0.5 % are -600, 5 % -360, 9 % -300 and 0.5 % -60, which has a
        # mean of -322.
        assert learned(folder, tail_level=0.15, **keys)[1] == [0, 0]


@pytest.mark.parametrize("mixer", ["none", "vdn"])
def test_acting_on_the_tail_of_a_neutral_distribution_is_careful_too(tmp_path, mixer):
    folder = bandit(tmp_path / "set", safe=-60.0, chance=0.1, loss=-300.0)
    _, played = learned(
        folder,
        mixer=mixer,
        reward_scale=0.1,
        num_atoms=32,
        risk_measure="cvar",
        alpha=0.15,
    )
    assert played == [0, 0]


def test_the_estimated_value_is_the_mean_and_not_the_median(tmp_path):
    # The authors put the quantile weights on the axis of the targets, which makes every
    # atom the median: 0 here. The mean of risky is 0.4 * -40 = -16, that of safe -20.
    folder = bandit(tmp_path / "set", safe=-20.0, chance=0.4, loss=-40.0, agents=1)
    atoms, played = learned(folder, num_atoms=32)
    assert played == [1]
    assert atoms[0, 1].mean() == pytest.approx(-16.0, abs=1.0)
    assert atoms[0, 0].mean() == pytest.approx(-20.0, abs=0.5)
    assert atoms[0, 1].max() - atoms[0, 1].min() > 30
    # All of the worst 15 % are -40.
    tail, played = learned(folder, num_atoms=32, tail_level=0.15)
    assert played == [0]
    assert tail[0, 1].mean() == pytest.approx(-40.0, abs=1.5)


def test_a_sum_recovers_what_each_agent_earns(tmp_path):
    # Without randomness each agent earns 1 for safe and 5 for risky. The sum leaves one
    # constant between the agents free, but fixes the differences between actions.
    folder = bandit(tmp_path / "set", safe=1.0, chance=1.0, loss=5.0, number=40)
    atoms, played = learned(folder, updates=800, mixer="vdn", grad_clip=1.0)
    assert played == [1, 1]
    means = atoms.mean(-1)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], [4.0, 4.0], atol=0.1)
    for joint in itertools.product((0, 1), repeat=2):
        total = sum(means[i, a] for i, a in enumerate(joint))
        assert total == pytest.approx(2 + 4 * sum(joint), abs=0.15)


def test_a_sum_cannot_tell_an_exclusive_or(tmp_path):
    # A documented limit. The reward is 1 if the actions differ, else 0. The best fit of
    # a sum is 1/2 everywhere.
    episodes = [
        one_step(joint, float(joint[0] != joint[1]))
        for joint in itertools.product((0, 1), repeat=2)
        for _ in range(10)
    ]
    write_dataset(
        tmp_path / "set",
        episodes,
        env=None,
        env_config={},
        agents=["a", "b"],
        behaviour={},
        seed=None,
    )
    atoms, _ = learned(tmp_path / "set", updates=800, preset="ma_dqn_sum")
    means = atoms.mean(-1)
    for joint in itertools.product((0, 1), repeat=2):
        assert sum(means[i, a] for i, a in enumerate(joint)) == pytest.approx(
            0.5, abs=0.1
        )


def test_a_chain_without_luck_has_no_spread(tmp_path):
    """Three steps pay -1: values -1, -1.99, -2.9701 at gamma 0.99, at any level."""
    eye = np.eye(4, dtype=np.float32)[:, None]
    episodes = [
        Episode(
            obs=eye,
            state=eye[:, 0],
            action_mask=np.ones((4, 1, 1), np.uint8),
            actions=np.zeros((3, 1), np.int16),
            rewards=-np.ones(3, np.float32),
            terminated=True,
            risk_levels=np.ones((3, 1), np.float32),
        )
    ]
    write_dataset(
        tmp_path / "set",
        episodes,
        env=None,
        env_config={},
        agents=["a"],
        behaviour={},
        seed=None,
    )
    for level in (1.0, 0.15):
        config = config_class("MACQR")().debugging(seed=0)
        config.training(
            dataset=str(tmp_path / "set"),
            hidden_size=32,
            lr=[[0, 1e-2], [1500 * 32, 1e-5]],
            batch_size_episodes=32,
            target_update_tau=0.05,
            conservative_weight=None,
            tail_level=level,
            updates_per_iteration=1500,
        )
        algorithm = config.build_algo()
        result = algorithm.train()
        network = algorithm.team_policy.network
        obs = torch.from_numpy(eye[None, :3])
        with torch.no_grad():
            atoms = network.atoms(
                network.unroll(network.inputs(obs, torch.zeros(1, 2, 1).long()))
            )[0, :, 0, 0]
        wanted = np.array([-2.9701, -1.99, -1.0])
        np.testing.assert_allclose(atoms.mean(-1), wanted, atol=0.05)
        assert result["learner"]["head_spread"] < 0.1
        algorithm.stop()
