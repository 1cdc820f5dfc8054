"""Joined envs give the numbers of their parts, one part after the other."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_envs import FlakyEnv, RandomDeathEnv

from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers import (
    LoopedTeamEnvs,
    TeamEnv,
    make_batched,
)
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.joined_envs import (
    JoinedTeamEnvs,
    join_envs,
    spec_difference,
)

# Three variants that differ in rewards, noise and length, not in sizes.
VARIANTS = [
    {"episode_limit": 7},
    {"episode_limit": 12, "reward_noise_std": 1.0},
    {"episode_limit": 9, "cliff_reward": -3.0, "step_reward": -0.25},
]


def join(env_configs, size):
    return join_envs(partial(make_batched, "macn", c, size) for c in env_configs)


def parts_of(sizes):
    return [
        make_batched("macn", config, size)
        for config, size in zip(VARIANTS, sizes, strict=True)
    ]


@settings(max_examples=15)
@given(st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 1000))
def test_the_joined_numbers_are_those_of_the_parts(sizes, seed):
    rng = np.random.default_rng(seed)
    joined, alone = JoinedTeamEnvs(parts_of(sizes)), parts_of(sizes)
    total = sum(sizes)
    owners = np.repeat(np.arange(3), sizes)
    assert joined.num_envs == total
    np.testing.assert_array_equal(joined.part_of, owners)
    starts = np.cumsum([0, *sizes])
    running = np.zeros(total, bool)
    for _ in range(30):
        # resets some of the idle slots, in any order
        slots = rng.permutation(np.flatnonzero(~running & (rng.random(total) < 0.8)))
        seeds = rng.integers(0, 2**31, slots.size)
        joined.reset(slots, seeds)
        for slot, new_seed in zip(slots, seeds, strict=True):
            own = slot - starts[owners[slot]]
            alone[owners[slot]].reset(np.array([own]), np.array([new_seed]))
        running[slots] = True
        actions = rng.choice(4, (total, 2), p=[0.3, 0.2, 0.15, 0.35])
        active = running & (rng.random(total) < 0.9)
        step = joined.step(actions, active)
        for index, part in enumerate(alone):
            own = slice(starts[index], starts[index + 1])
            expected = part.step(actions[own], active[own])
            for key in ("rewards", "terminateds", "truncateds"):
                np.testing.assert_array_equal(
                    getattr(step, key)[own], getattr(expected, key)
                )
            ended = expected.terminateds | expected.truncateds
            assert step.infos[own] == [
                {**info, "variant": float(index)} if end else {}
                for info, end in zip(expected.infos, ended, strict=True)
            ]
            for key in ("obs", "state", "action_mask"):
                np.testing.assert_array_equal(
                    getattr(joined, key)[own], getattr(part, key)
                )
        running &= ~(step.terminateds | step.truncateds)


def test_looped_and_vectorised_parts_mix():
    # the vectorised twin does not take team_reward, so the second part is looped
    joined = join([{}, {"team_reward": "sum"}], 2)
    kinds = [type(part).__name__ for part in joined.parts]
    assert kinds == ["BatchedMACN", "LoopedTeamEnvs"]
    joined.reset(np.arange(4), np.arange(4))
    step = joined.step(np.full((4, 2), 2), np.array([True, False, True, True]))
    # -1 per step; the sum over two agents is -2; slot 1 was not stepped
    assert step.rewards.tolist() == [-1.0, 0.0, -2.0, -2.0]


def test_a_part_without_active_slots_is_not_stepped():
    joined = join(VARIANTS, 1)
    joined.reset(np.arange(3), np.arange(3))
    joined.parts[1].step = lambda *args: pytest.fail("stepped")
    joined.step(np.zeros((3, 2), np.int64), np.array([True, False, True]))


def test_crashes_keep_their_slot():
    def flaky(p_step):
        return LoopedTeamEnvs(lambda: TeamEnv(FlakyEnv(p_step=p_step)), 2)

    joined = JoinedTeamEnvs([flaky(0.0), flaky(1.0)])
    joined.reset(np.arange(4), np.arange(4))
    before = joined.obs.copy()
    active = np.array([True, True, False, True])
    step = joined.step(np.zeros((4, 2), np.int64), active)
    assert list(step.crashed) == [3]
    assert step.crashed[3].startswith("ConnectionError: simulator hung up")
    assert step.infos == [{}] * 4
    np.testing.assert_array_equal(joined.obs[3], before[3])
    assert not np.array_equal(joined.obs[0], before[0])


def test_the_joined_limit_is_the_longest_or_unknown():
    joined = join(VARIANTS, 1)
    assert joined.spec.episode_limit == 12
    endless = LoopedTeamEnvs(lambda: TeamEnv(RandomDeathEnv()), 1)
    assert endless.spec.episode_limit is None
    assert JoinedTeamEnvs([endless]).spec.episode_limit is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        # 2 * 4 * 12 cells instead of 2 * 4 * 7
        ({"width": 12}, "variant 1 does not fit .*: state_size 96 instead of 56"),
        ({"obs_encoding": "onehot"}, "obs_size 36 instead of 9"),
    ],
)
def test_teams_of_other_sizes_are_refused(other, message):
    closed = []

    def watched(env_config):
        part = make_batched("macn", env_config, 2)
        part.close = lambda: closed.append(part)
        return part

    with pytest.raises(EnvConfigError, match=message):
        join_envs(partial(watched, env_config) for env_config in ({}, other))
    assert len(closed) == 2, "what was built is closed"


def test_nothing_to_join_is_refused():
    with pytest.raises(EnvConfigError, match="at least one"):
        join_envs([])


def test_the_difference_names_every_size():
    team = TeamSpec(("a", "b"), 4, 9, 56, 100)
    assert spec_difference(team, TeamSpec(("a", "b"), 4, 9, 56, None)) == ""
    other = TeamSpec(("a",), 5, 8, 55, 100)
    assert spec_difference(team, other) == (
        "1 agents instead of 2, num_actions 5 instead of 4, obs_size 8 instead of 9,"
        " state_size 55 instead of 56"
    )
    renamed = TeamSpec(("a", "c"), 4, 9, 56, 100)
    assert "('a', 'c') instead of ('a', 'b')" in spec_difference(team, renamed)


def test_closing_closes_all_parts():
    log = []
    parts = [
        LoopedTeamEnvs(lambda: TeamEnv(FlakyEnv(log=log)), size) for size in (1, 2)
    ]
    JoinedTeamEnvs(parts).close()
    assert log.count("closed") == 3
