"""`vmas` gives the numbers of VMAS, alone and as a batch."""

import random

import numpy as np
import pytest
import torch

from rllib_risk.env_wrappers import (
    EnvConfigError,
    LoopedTeamEnvs,
    make_batched,
    make_team_env,
)
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.observation_noise import NoisyTeamEnvs
from rllib_risk.env_wrappers.vmas import VMAS
from rllib_risk.env_wrappers.vmas.batched import BatchedVMAS

vmas = pytest.importorskip("vmas", reason="needs the extra [vmas]")

# Scenarios, their arguments, and whether an episode can end before its limit.
CASES = [
    ("balance", {"n_agents": 2}, True),
    ("transport", {"n_agents": 3}, False),
    ("navigation", {"n_agents": 2}, False),
    ("wheel", {"n_agents": 2}, False),  # its rewards are columns
]


def own_env(scenario, num_envs, limit, **kwargs):
    return vmas.make_env(
        scenario=scenario,
        num_envs=num_envs,
        continuous_actions=False,
        max_steps=limit,
        terminated_truncated=True,
        **kwargs,
    )


@pytest.mark.parametrize(("scenario", "kwargs", "may_end"), CASES)
def test_one_copy_is_vmas_itself(scenario, kwargs, may_end):
    """Compares observations, the mean reward and the ends, step by step."""
    own = own_env(scenario, 1, 15, **kwargs)
    team = make_team_env(
        "vmas", {"scenario": scenario, "episode_limit": 15, "kwargs": kwargs}
    )
    rng, ends = np.random.default_rng(0), set()
    for seed in range(3):
        theirs = own.reset(seed=seed)
        ours, _ = team.reset(seed=seed)
        ended = False
        while not ended:
            np.testing.assert_array_equal(ours["obs"], torch.cat(theirs).numpy())
            action = rng.integers(team.spec_team.num_actions, size=len(theirs))
            tensors = [torch.tensor([[number]]) for number in action.tolist()]
            theirs, rewards, done, cut, infos = own.step(tensors)
            ours, reward, terminated, truncated, info = team.step(action)
            assert reward == pytest.approx(float(torch.cat(rewards).mean()), abs=1e-6)
            ended = terminated or truncated
            assert (terminated, ended) == (bool(done), bool(done | cut))
        ends.add(terminated)
        for key, value in infos[0].items():
            if value.numel() == 1:
                values = [float(one[key]) for one in infos]
                assert info[key] == pytest.approx(np.mean(values), abs=1e-6)
    assert may_end or ends == {False}


@pytest.mark.parametrize(("scenario", "kwargs", "may_end"), CASES)
def test_the_batch_is_vmas_itself(scenario, kwargs, may_end):
    """Compares with one env of VMAS with four copies, which end at different steps."""
    own = own_env(scenario, 4, 6, **kwargs)
    config = {"scenario": scenario, "episode_limit": 6, "kwargs": kwargs}
    batch = make_batched("vmas", config, 4)
    assert isinstance(batch, BatchedVMAS) and batch.spec.state_size == 0
    rng, slots = np.random.default_rng(0), np.arange(4)
    for step in range(20):
        seeds = rng.integers(0, 2**31, slots.size)
        batch.reset(slots, seeds)
        for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            own.seed(seed)
            own.reset_at(slot)
        (theirs,) = own.get_from_scenario(True, False, False, False)
        np.testing.assert_array_equal(batch.obs, torch.stack(theirs, 1).numpy())
        actions = rng.integers(batch.spec.num_actions, size=(4, len(theirs)))
        _, rewards, done, cut, _ = own.step(
            [torch.from_numpy(column)[:, None] for column in actions.T.copy()]
        )
        result = batch.step(actions, np.ones(4, bool))
        mean = torch.stack(rewards, 1).reshape(4, -1).double().mean(1).numpy()
        np.testing.assert_allclose(result.rewards, mean, rtol=1e-6)
        np.testing.assert_array_equal(result.terminateds, done.numpy())
        np.testing.assert_array_equal(result.truncateds, (cut & ~done).numpy())
        ended = (done | cut).numpy()
        # the second and the fourth copy begin later than the others
        slots = np.flatnonzero(ended) if step else np.array([1, 3])


# Not balance: VMAS leaves out a contact if no copy of a batch is near it, and for lines
# "near" begins later than the contact. So paths depend a little on the other copies.
@pytest.mark.parametrize(("scenario", "kwargs", "may_end"), CASES[1:])
def test_the_batch_is_a_loop_over_single_copies(scenario, kwargs, may_end):
    """Same seeds give the same numbers; rounding depends on the size of a batch."""
    config = {"scenario": scenario, "episode_limit": 8, "kwargs": kwargs}
    config["state"] = "concat_obs"
    batch = make_batched("vmas", config, 4)
    loop = LoopedTeamEnvs(lambda: make_team_env("vmas", config), 4)
    assert isinstance(batch, BatchedVMAS) and batch.spec == loop.spec
    rng, close = np.random.default_rng(0), {"rtol": 1e-4, "atol": 1e-4}
    slots, running = np.arange(4), np.zeros(4, bool)
    for _ in range(20):
        seeds = rng.integers(0, 2**31, slots.size)
        for envs in (batch, loop):
            envs.reset(slots, seeds)
        running[slots] = True
        if slots.size:  # a start depends only on its own seed
            np.testing.assert_array_equal(batch.obs[slots], loop.obs[slots])
        actions = rng.integers(batch.spec.num_actions, size=(4, batch.spec.num_agents))
        active = running.copy()
        one, two = batch.step(actions, active), loop.step(actions, active)
        np.testing.assert_allclose(one.rewards, two.rewards, **close)
        np.testing.assert_array_equal(one.terminateds, two.terminateds)
        np.testing.assert_array_equal(one.truncateds, two.truncateds)
        np.testing.assert_allclose(batch.obs, loop.obs, **close)
        np.testing.assert_allclose(batch.state, loop.state, **close)
        np.testing.assert_array_equal(batch.action_mask, loop.action_mask)
        for theirs, ours in zip(one.infos, two.infos, strict=True):
            assert theirs == pytest.approx(ours, **{"rel": 1e-4, "abs": 1e-4})
        running &= ~(one.terminateds | one.truncateds)
        # one slot after the other, so that copies are at different steps
        slots = np.flatnonzero(~running)[:1]


def test_copies_that_have_ended_may_wait_and_running_ones_may_not():
    batch = BatchedVMAS(2, episode_limit=3, kwargs={"n_agents": 2})
    batch.reset(np.array([0]), np.array([0]))
    actions, active = np.zeros((2, 2), np.int64), np.array([True, False])
    before = batch.obs[1].copy()
    for _ in range(3):
        step = batch.step(actions, active)
    assert step.truncateds.tolist() == [True, False] and step.infos[1] == {}
    np.testing.assert_array_equal(batch.obs[1], before)
    batch.reset(np.arange(2), np.arange(2))
    with pytest.raises(ValueError, match="none can wait"):
        batch.step(actions, active)


def test_randomness_is_the_envs_own():
    """Draws disturb neither torch, NumPy and random nor another copy of VMAS."""

    def starts():
        batch = BatchedVMAS(3, kwargs={"n_agents": 2})
        batch.reset(np.arange(3), np.array([7, 8, 9]))
        return batch.obs.copy()

    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    first = starts()
    own_env("balance", 2, 5).reset(seed=3)
    drawn = torch.rand(3), np.random.rand(3), random.random()
    for one, two in zip(expected, drawn, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(first, starts())
    assert len(np.unique(first[:, 0, 0])) == 3


def test_how_the_team_is_paid():
    """navigation pays each agent for its own way unless `shared_rew` is set."""
    config = {
        "scenario": "navigation",
        "kwargs": {"n_agents": 2, "shared_rew": False},
        "episode_limit": 10,
    }
    envs = {
        how: make_batched("vmas", {**config, "team_reward": how}, 2)
        for how in ("mean", "sum", "shared")
    }
    for batch in envs.values():
        assert isinstance(batch, BatchedVMAS)
        batch.reset(np.arange(2), np.arange(2))
    actions, active = np.array([[1, 5], [2, 6]]), np.ones(2, bool)
    mean, total = (envs[how].step(actions, active).rewards for how in ("mean", "sum"))
    np.testing.assert_allclose(total, 2 * mean)
    with pytest.raises(EnvConfigError, match=r"rewards differ \(agent_0: .*'shared'"):
        envs["shared"].step(actions, active)


def test_observation_noise_leaves_padding_alone(monkeypatch):
    """With observations of equal sizes the batch is kept; else copies are looped."""
    noise = {"obs_noise_std": 0.1}
    assert isinstance(make_batched("vmas", noise, 2), NoisyTeamEnvs)

    def padded(num_envs, **config):
        batch = BatchedVMAS(num_envs, **config)
        batch.pads_observations = True
        return batch

    monkeypatch.setattr(VMAS, "batched", staticmethod(padded))
    assert isinstance(make_batched("vmas", noise, 2), LoopedTeamEnvs)
    assert isinstance(make_batched("vmas", {}, 2), BatchedVMAS)


def test_check_env_is_clean(monkeypatch):
    monkeypatch.setattr("rllib_risk.env_wrappers.checking.check_env.MAX_STEPS", 60)
    report = check_env("vmas", {"state": "concat_obs", "episode_limit": 20})
    assert [f.level for f in report.findings] == ["ok", "ok"], str(report)


@pytest.mark.parametrize("make", [make_team_env, lambda n, c: make_batched(n, c, 1)])
@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"scenario": "balanse"}, "did you mean 'balance'"),
        ({"scenario": 3}, "env_config.scenario: unknown 3"),
        ({"kwargs": {"n_agent": 2}}, "n_agent.* not used by the scenario"),
        ({"kwargs": {"num_envs": 2}}, "the adapter sets this argument"),
        ({"kwargs": 3}, "must be a mapping"),
        ({"episode_limit": 0}, "episode_limit must be a positive integer"),
        ({"state": "env"}, "env_config.state"),
        ({"team_reward": "max"}, "must be one of shared, sum, mean"),
        ({"scenari": "balance"}, "did you mean 'scenario'"),
    ],
)
def test_what_is_written_wrong_is_named(config, text, make):
    with pytest.raises(EnvConfigError, match=text):
        make("vmas", config)
