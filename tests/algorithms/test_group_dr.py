"""GroupDR: its estimator, its phases, its resume, and games with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import fingerprint, small_config

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.env_wrappers.registry import make_team_env
from rllib_risk.parts.exploration import EpsilonGreedy, TeamEpsilonGreedy

pytestmark = pytest.mark.usefixtures("ray_local")

# Two groups of one game. The mean of both tables is d(u) + d(v) with d = (2, 1, 0); its
# maximum is 4 at (0, 0). Their entrywise minimum is m(u) + m(v) with m = (-2, 1, -1);
# its maximum is 2 at (1, 1). A sum of utilities fits either of them without error.
GROUPS = (
    ((12, 7, 7), (7, 2, 0), (7, 0, -2)),
    ((-4, -1, -3), (-1, 2, 2), (-3, 2, 2)),
)
VARIANTS = [{"payoff": [list(row) for row in table]} for table in GROUPS]


def game_config(name="GroupDR", **training):
    """A configuration with rounds of eight episodes of one env step."""
    config = config_class(name)().environment("matrix_game")
    config.env_runners(num_envs_per_env_runner=8).debugging(seed=0)
    keys = {
        "env_variants": VARIANTS,
        "recurrent": False,
        "hidden_size": 32,
        "optimizer": "adam",
        "lr": 3e-3,
        "batch_size_episodes": 8,
        "learning_starts_episodes": 8,
        "initial_epsilon": 1.0,
        "final_epsilon": 1.0,
    }
    config.training(**{**keys, **training})
    config.min_sample_timesteps_per_iteration = 8
    config.evaluation_interval = None
    return config


def parameters(module):
    return [p.detach().clone() for p in module.parameters()]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


# Configuration


@pytest.mark.parametrize("variants", [[], [{"payoff": "P3"}]])
def test_one_group_is_refused(variants):
    with pytest.raises(ConfigError, match=r"env_variants: .*at least two"):
        game_config(env_variants=variants).validate()


def test_a_schedule_that_cannot_restart_is_refused():
    with pytest.raises(ConfigError, match="qr_gate: never"):
        game_config(num_atoms=4, qr_gate="step").validate()


def test_an_environment_without_state_is_refused():
    config = game_config()
    config.check_env(make_team_env("matrix_game", {}))
    without = make_team_env("matrix_game", {"state": "none"})
    with pytest.raises(ConfigError, match=r"GroupDR.*state: concat_obs"):
        config.check_env(without)


def test_papers_preset():
    # 1000 episodes of 287 steps for the estimator, and 600 for the behaviour policy.
    config = config_class("GroupDR")().training(preset="paper")
    assert config.behaviour_env_steps == 600 * 287
    assert config.estimator_env_steps == 1000 * 287
    assert (config.behaviour_epsilon, config.estimator_lr) == (0.5, 5e-4)
    assert (config.mixer, config.lr, config.rnn_cell) == ("vdn", 5e-4, "lstm")


# The group of an episode


def episode(variant=None, length=3):
    metrics = {} if variant is None else {"variant": float(variant), "is_success": 1.0}
    return Episode(
        obs=np.zeros((length + 1, 2, 1), np.float32),
        state=np.ones((length + 1, 1), np.float32),
        action_mask=np.ones((length + 1, 2, 3), np.uint8),
        actions=np.zeros((length, 2), np.int16),
        rewards=np.zeros(length, np.float32),
        terminated=True,
        risk_levels=np.ones((length, 2), np.float32),
        metrics=metrics,
    )


def test_a_checkpoint_keeps_the_groups_of_episodes():
    replay, restored = (EpisodeReplay(4, seed=0) for _ in range(2))
    replay.add([episode(1), episode(), episode(0)])
    arrays = replay.state_arrays()
    restored.load_arrays(arrays)
    assert [e.variant for e in restored.newest(3)] == [1, -1, 0]
    assert restored.sequences(np.array([2, 0]), np.zeros(2, int), 1, 0)[
        "variants"
    ].tolist() == [0, 1]
    # Checkpoints of older versions have no groups.
    del arrays["variants"]
    restored.load_arrays(arrays)
    assert [e.variant for e in restored.newest(3)] == [-1, -1, -1]


def test_an_emptied_replay_goes_on_with_its_draws():
    used, fresh = (EpisodeReplay(4, seed=0) for _ in range(2))
    for replay in (used, fresh):
        replay.add(episode(n) for n in range(4))
    first = [e.variant for _ in range(3) for e in used.sample(2)]
    used.clear()
    assert len(used) == used.num_steps == 0
    used.add(episode(n) for n in range(4))
    again = [e.variant for _ in range(3) for e in used.sample(2)]
    assert again != first
    assert [e.variant for _ in range(6) for e in fresh.sample(2)] == first + again


# The policy


@pytest.fixture
def policy():
    """Phases of 8 and 10 env steps; three groups of two agents with three actions."""
    algorithm = game_config(
        env_variants=[*VARIANTS, VARIANTS[0]],
        behaviour_env_steps=8,
        estimator_env_steps=10,
        behaviour_epsilon=0.25,
        reward_scale=0.5,
        final_epsilon=0.0,
        epsilon_anneal_env_steps=20,
        epsilon_ladder=1.0,
        alpha=[[0, 1.0], [20, 0.5]],
        num_atoms=4,
        risk_measure="cvar",
    )
    algorithm.env_runners(num_envs_per_env_runner=3)
    built = algorithm.build_algo()
    yield built.team_policy
    built.stop()


# Epsilon falls by 0.05 a step and the risk level by 0.025. Both restart at step 18.
@pytest.mark.parametrize(
    ("steps", "phase", "epsilons", "level"),
    [
        (0, "behaviour", [1.0, 1.0, 1.0], 1.0),
        # 0.65, then 0.65 ** 1.5 and 0.65 ** 2: the ladder of three environments.
        (7, "behaviour", [0.65, 0.65**1.5, 0.65**2], 0.825),
        (8, "estimator", [0.25, 0.25, 0.25], 0.8),
        (17, "estimator", [0.25, 0.25, 0.25], 0.575),
        (18, "training", [1.0, 1.0, 1.0], 1.0),
        (28, "training", [0.5, 0.5**1.5, 0.5**2], 0.75),
    ],
)
def test_phase_and_schedules_follow_from_the_env_steps(
    policy, steps, phase, epsilons, level
):
    policy.on_global_var_update({"timestep": steps})
    assert policy.phase == phase
    assert policy.epsilon_at(steps) == pytest.approx(epsilons[0])
    np.testing.assert_allclose(policy.epsilons_at(steps, 3), epsilons)
    explorer = policy.make_explorer(3)
    kind = TeamEpsilonGreedy if phase == "estimator" else EpsilonGreedy
    assert type(explorer) is kind
    assert policy.network.risk.levels[0] == pytest.approx(level)


def constant_heads(policy, values):
    """Makes each head of the estimator predict one value at every step."""
    with torch.no_grad():
        policy.estimator.output.weight.zero_()
        policy.estimator.output.bias.copy_(torch.tensor(values))


def test_the_last_phase_learns_from_the_least_head(policy):
    # The lowest head predicts -1 in scaled units. The reward scale is 0.5.
    constant_heads(policy, [3.0, -1.0, 2.0])
    long, short = episode(0, 3), episode(1, 2)
    long.rewards[:] = [5.0, 6.0, 7.0]
    samples = collate([long, short])
    for steps in (0, 8):
        policy.on_global_var_update({"timestep": steps})
        assert policy.tensors(samples).rewards[0, :, 0].tolist() == [5.0, 6.0, 7.0]
    policy.on_global_var_update({"timestep": 18})
    batch = policy.tensors(samples)
    assert batch.rewards[..., 0].tolist() == [[-2.0, -2.0, -2.0], [-2.0, -2.0, 0.0]]
    # Nothing else changes, and the logged reward is the one learned from.
    assert batch.actions.tolist() == samples["actions"].tolist()
    assert policy.learn_on_batch(samples)["reward_mean"] == pytest.approx(-2.0)


def test_the_least_head_is_taken_step_by_step(policy):
    # The hidden layer passes on the state s. Head 0 is s, head 1 is -s and head 2 is 1,
    # so the lowest head is -|s|.
    estimator = policy.estimator
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter.zero_()
        estimator.set_time_scale(1)
        estimator.state.weight[0, 0] = 1.0
        estimator.state.weight[1, 0] = -1.0
        estimator.hidden.weight[0, 0] = estimator.hidden.weight[1, 1] = 1.0
        estimator.output.weight[0, :2] = torch.tensor([1.0, -1.0])
        estimator.output.weight[1, :2] = torch.tensor([-1.0, 1.0])
        estimator.output.bias[2] = 1.0
    played = episode(0, 3)
    played.state[:, 0] = [0.5, -0.25, 2.0, 9.0]
    batch = policy.tensors(collate([played]))
    # -|s|, in units of rewards: divided by 0.5.
    assert policy.worst_rewards(batch)[0, :, 0].tolist() == [-1.0, -0.5, -4.0]


def test_time_counts_from_the_beginning_of_the_episode(policy):
    whole = episode(0, 6)
    policy.estimator.set_time_scale(6)
    everything = policy.worst_rewards(policy.tensors(collate([whole])))[0, :, 0]
    replay = EpisodeReplay(1, seed=0)
    replay.add([whole])
    part = replay.sequences(np.array([0]), np.array([3]), length=2, burn_in=1)
    sequence = policy.tensors(part)
    # Steps 2 to 4. Step 2 is burn-in: it is not learned from.
    expected = [0.0, *everything[3:5].tolist()]
    assert policy.worst_rewards(sequence)[0, :, 0].tolist() == pytest.approx(expected)


def test_the_estimator_learns_the_head_of_the_group_alone(policy):
    network = parameters(policy.network)
    played = [episode(0, 3), episode(2, 2)]
    played[0].rewards[:] = 4.0
    constant_heads(policy, [1.0, 5.0, -1.0])
    stats = policy.learn_rewards_on_batch(collate(played), [0, 2])
    # Scaled rewards are 2 (three steps) and 0 (two steps). Every error is -1.
    assert stats == pytest.approx(
        {"estimator_loss": 1.0, "estimator_loss_0": 1.0, "estimator_loss_2": 1.0}
    )
    after = policy.estimator.output.bias.tolist()
    # Adam's first step is as large as the learning rate. Head 1 does not change.
    assert after == pytest.approx([1.0005, 5.0, -0.9995], abs=1e-6)
    assert equal(parameters(policy.network), network)


def test_the_estimator_learns_tables_of_two_groups(policy):
    """The rewards depend on the group, the state, both actions and the time."""
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(2, 3, 3))

    def play(variant):
        one = episode(variant, 4)
        one.state[:, 0] = rng.uniform(-1, 1, 5)
        one.actions[:] = rng.integers(3, size=(4, 2))
        table = tables[variant][one.actions[:, 0], one.actions[:, 1]]
        one.rewards[:] = truth(table, variant, one.state[:4, 0])
        return one

    def truth(table, variant, state):
        return table + state * (1 - 2 * variant) + np.arange(4) / 4

    policy.estimator.set_time_scale(4)
    policy._optimizers[1].param_groups[0]["lr"] = 3e-3
    for _ in range(800):
        played = [play(n % 2) for n in range(32)]
        policy.learn_rewards_on_batch(collate(played), [n % 2 for n in range(32)])
    fresh = [play(n % 2) for n in range(64)]
    with torch.no_grad():
        predicted = policy._predict(policy.tensors(collate(fresh)))[..., :2].numpy()
    for index, one in enumerate(fresh):
        for variant in (0, 1):
            # Also checks the reward of the group that did not play this episode.
            table = tables[variant][one.actions[:, 0], one.actions[:, 1]]
            expected = 0.5 * truth(table, variant, one.state[:4, 0])
            np.testing.assert_allclose(predicted[index, :, variant], expected, atol=0.1)


def test_a_fresh_start_follows_from_the_seed_alone(policy):
    start = parameters(policy.network)
    policy.learn_on_batch(collate([episode(0)]))
    estimator = parameters(policy.estimator)
    random = torch.get_rng_state()
    policy.reinitialize()
    first = parameters(policy.network)
    assert torch.equal(torch.get_rng_state(), random)
    assert not equal(first, start)
    assert equal(parameters(policy.target_network), first)
    assert not policy._optimizers[0].state
    policy.learn_on_batch(collate([episode(0)]))
    torch.randn(3)
    policy.reinitialize()
    assert equal(parameters(policy.network), first)
    assert equal(parameters(policy.estimator), estimator)


# The training loop


def test_phases_change_between_rounds():
    # A round has 8 steps. The second phase is due at 12 and begins at 16; the third is
    # due at 30 and begins at 32.
    algorithm = game_config(
        behaviour_env_steps=12, estimator_env_steps=18, estimator_updates=3
    ).build_algo()
    policy = algorithm.team_policy
    seen = []
    for _ in range(6):
        values, estimator = parameters(policy.network), parameters(policy.estimator)
        result = algorithm.train()
        moved = [
            name
            for name, module, before in (
                ("values", policy.network, values),
                ("estimator", policy.estimator, estimator),
            )
            if not equal(parameters(module), before)
        ]
        seen.append((result["phase"], len(algorithm.replay), *moved))
    # A new phase empties the replay. There is one update per episode.
    assert seen == [
        ("behaviour", 8, "values"),
        ("behaviour", 16, "values"),
        ("estimator", 8, "estimator"),
        ("estimator", 16, "estimator"),
        ("training", 8, "values"),
        ("training", 16, "values"),
    ]
    assert algorithm._last["estimator"] == 16 and algorithm._last["training"] == 32
    assert result["num_updates_lifetime"] == 48
    # A round has 8 TD updates of 8 steps, or 8 * 3 estimator updates of 256 steps.
    assert algorithm._counters["num_env_steps_trained"] == 4 * 64 + 2 * 24 * 256
    # The estimator's statistics stay in the result after its phase.
    assert {"estimator_loss", "estimator_loss_0", "estimator_loss_1"} < set(
        result["learner"]
    )
    algorithm.stop()


def test_the_last_phase_begins_with_networks_of_its_own():
    # An update needs the episodes of two rounds, so the fifth round has none.
    algorithm = game_config(
        behaviour_env_steps=16, estimator_env_steps=16, learning_starts_episodes=16
    ).build_algo()
    policy = algorithm.team_policy
    for _ in range(4):
        algorithm.train()
    algorithm._last["target_update"] = 3
    behaviour, algorithm._updates_owed = parameters(policy.network), 0.75
    assert algorithm.train()["phase"] == "training"
    begun = parameters(policy.network)
    assert not equal(begun, behaviour)
    policy.reinitialize()
    assert equal(parameters(policy.network), begun)
    assert equal(parameters(policy.target_network), begun)
    # The interval until the next target copy restarts, and no update is owed.
    assert algorithm._last["target_update"] == 32
    assert algorithm._updates_owed == 0.0
    algorithm.stop()


def test_the_longest_episode_of_the_behaviour_phase_is_the_unit_of_time():
    config = small_config("GroupDR")
    algorithm = config.build_algo()
    assert algorithm.team_policy.estimator.time_scale == 1.0
    while algorithm.train()["phase"] == "behaviour":
        longest = max(len(e) for e in algorithm.replay.newest(len(algorithm.replay)))
    assert algorithm.team_policy.estimator.time_scale == longest > 1
    algorithm.stop()


def test_an_estimator_that_never_learned_stops_the_run():
    algorithm = game_config(
        behaviour_env_steps=8, estimator_env_steps=8, learning_starts_episodes=16
    ).build_algo()
    algorithm.train()
    algorithm.train()
    with pytest.raises(ConfigError, match=r"estimator_env_steps \(8\).*Raise it"):
        algorithm.train()
    algorithm.stop()


@pytest.mark.parametrize("runners", [0, 1])
def test_runners_know_the_phase(runners):
    """Each phase explores in its own way, with local and with remote runners."""
    config = game_config(
        behaviour_env_steps=32,
        estimator_env_steps=32,
        behaviour_epsilon=0.0,
        learning_starts_episodes=8,
    )
    config.env_runners(num_env_runners=runners)
    algorithm = config.build_algo()
    played = {"behaviour": set(), "estimator": set(), "training": set()}
    rounds = 0
    while rounds < 12:
        phase = algorithm.train()["phase"]
        newest = algorithm.replay.newest(8)
        played[phase] |= {tuple(e.actions[0].tolist()) for e in newest}
        rounds += 1
    # Actions are uniform, except in the estimator's phase: its epsilon is 0.
    assert len(played["estimator"]) == 1
    assert len(played["behaviour"]) > 4 and len(played["training"]) > 4
    algorithm.stop()


def test_a_dual_variable_is_reinitialized_too():
    algorithm = game_config(
        behaviour_env_steps=8, estimator_env_steps=8, target="tv", rho=0.2
    ).build_algo()
    policy = algorithm.team_policy
    algorithm.train()
    algorithm.train()
    values, estimator, dual = policy._optimizers
    assert values.state and estimator.state and dual.state
    learned = parameters(policy.dual)
    policy.reinitialize()
    assert not values.state and estimator.state and not dual.state
    assert not equal(parameters(policy.dual), learned)
    # The optimizer still updates this dual variable.
    assert dual.param_groups[0]["params"] == list(policy.dual.parameters())
    assert np.isfinite(algorithm.train()["learner"]["dual_loss"])
    assert estimator.state
    algorithm.stop()


# Resume


def test_stopping_in_any_phase_and_resuming_changes_nothing(tmp_path):
    """R13: in every phase of GroupDR."""
    straight = small_config("GroupDR").build_algo()
    results, folders = [], []
    for index in range(10):
        results.append(straight.train())
        folder = tmp_path / f"checkpoint_{index:06d}"
        folder.mkdir()
        straight.save_checkpoint(str(folder))
        folders.append(folder)
    end = fingerprint(straight)
    phases = [result["phase"] for result in results]
    # Stop after the first iteration of each phase and after the last one before it.
    stops = {phases.index(phase) for phase in ("behaviour", "estimator", "training")}
    stops |= {index - 1 for index in stops if index}
    assert len(stops) == 5 and max(stops) < 9
    for stop in sorted(stops):
        resumed = rllib_risk.load(folders[stop])
        again = [resumed.train() for _ in range(9 - stop)]
        assert fingerprint(resumed) == end, stop
        for mine, theirs in zip(again, results[stop + 1 :], strict=True):
            for key in ("phase", "epsilon", "td_lambda", "learner"):
                np.testing.assert_equal(mine[key], theirs[key])
        resumed.stop()
    straight.stop()


# Known answers


def learn_game(name, **keys):
    """Trains on uniform actions; gives greedy returns, reward tables, last result."""
    config = game_config(
        name,
        batch_size_episodes=64,
        learning_starts_episodes=64,
        updates_per_episode=0.25,
        target_update_interval_episodes=64,
        **keys,
    )
    config.env_runners(num_envs_per_env_runner=32)
    config.min_sample_timesteps_per_iteration = 2000
    algorithm = config.build_algo()
    for _ in range(3 if name == "GroupDR" else 1):
        result = algorithm.train()
    returns = algorithm.evaluate_episodes(8)["returns"]
    values = predicted_rewards(algorithm) if name == "GroupDR" else None
    algorithm.stop()
    return set(returns), values, result


def predicted_rewards(algorithm):
    """The rewards that the estimator predicts, ``[G, A, A]``."""
    actions = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unsqueeze(1)
    with torch.no_grad():
        heads = algorithm.team_policy.estimator(
            torch.ones(9, 1, 1), actions, torch.zeros(9, 1)
        )
    return heads[:, 0].T.reshape(-1, 3, 3).numpy()


def test_groupdr_plays_for_the_worst_reward():
    # Plain training on both groups at once plays (0, 0): 12 in one, -4 in the other.
    plain, _, _ = learn_game("VDN")
    assert plain == {12.0, -4.0}
    robust, tables, result = learn_game(
        "GroupDR",
        behaviour_env_steps=2000,
        estimator_env_steps=2000,
        behaviour_epsilon=1.0,
        estimator_lr=3e-3,
        estimator_updates=1,
        estimator_batch_size_steps=64,
    )
    # (1, 1) pays 2 in both groups. Evaluation reports their rewards, not predictions.
    assert robust == {2.0}
    assert result["phase"] == "training"
    np.testing.assert_allclose(tables, GROUPS, atol=0.3)
