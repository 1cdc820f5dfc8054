"""COMA and DOP as algorithms: sweeps, targets, data, exact resume, and small games."""

import copy

import numpy as np
import pytest
import torch
from small_runs import small_config, straight_and_resumed

from rllib_risk.algorithms import config_class
from rllib_risk.algorithms.actor_critic.losses import taken_values
from rllib_risk.config.schema import ConfigError
from rllib_risk.data.episodes import collate
from rllib_risk.parts.exploration import action_probabilities

pytestmark = pytest.mark.usefixtures("ray_local")

NAMES = pytest.mark.parametrize("name", ["COMA", "DOP"])


def build(name, **training):
    algorithm = small_config(name, **training).build_algo()
    while algorithm._counters["num_updates_lifetime"] < 2:
        algorithm.training_step()
    return algorithm


@NAMES
def test_stopping_and_resuming_changes_nothing(name, tmp_path):
    """R13: six iterations equal three, a checkpoint, a new algorithm and three more."""
    results, again, resumed = straight_and_resumed(name, tmp_path)
    # The target critic was copied before and after the checkpoint.
    assert results[2]["num_critic_steps_lifetime"] > 50
    assert resumed._last["target_update"] > results[2]["num_critic_steps_lifetime"]
    for a, b in zip(again, results[3:], strict=True):
        for key in ("learner", "epsilon", "num_critic_steps_lifetime"):
            assert a[key] == b[key]
        assert a["evaluation"]["return_mean"] == b["evaluation"]["return_mean"]
    resumed.stop()


@NAMES
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_the_critics_sweep_by_hand(name, optimizer):
    """The critic takes one optimizer step per time index, as a second version does.

    `grad_clip` is low enough to clip every step. DOP's values and mixing share it.
    """
    algorithm = build(name, optimizer=optimizer, reward_scale=0.1, grad_clip=0.01)
    policy = algorithm.team_policy
    on, off = algorithm.replay.newest(5), []
    if name == "DOP":
        off = algorithm.replay.sample(3)
    batch = policy.tensors(collate([*on, *off]))
    targets = policy.critic_targets(batch, 5)
    critic, steps = copy.deepcopy(policy.critic), batch.actions.shape[1]
    groups = [{"params": critic.value_parameters(), "lr": policy.config["critic_lr"]}]
    if name == "DOP":
        groups.append(
            {"params": critic.mixing_parameters(), "lr": policy.config["mixer_lr"]}
        )
    own = (
        torch.optim.Adam(groups, eps=1e-8)
        if optimizer == "adam"
        else torch.optim.RMSprop(groups, alpha=0.99, eps=1e-5)
    )
    # `load_state_dict` does not copy tensors, so both optimizers would share them.
    own.load_state_dict(copy.deepcopy(policy._optimizers[1].state_dict()))
    seen, norms = torch.zeros(*batch.actions.shape, 4), []
    inputs = critic.inputs(batch.obs[:, :-1], batch.state[:, :-1], batch.actions)
    order = list(range(steps))
    for t in order[::-1] if name == "COMA" else order:
        values = critic(inputs[:, t])
        seen[:, t] = values.detach()
        team = critic.mix(taken_values(values, batch.actions[:, t]), batch.state[:, t])
        weight = batch.mask[:, t].expand_as(team)
        loss = (weight * (team - targets[:, t]) ** 2).sum() / weight.sum()
        own.zero_grad()
        loss.backward()
        gradients = [p.grad for p in critic.parameters()]
        norms.append(sum((g**2).sum() for g in gradients).sqrt().item())
        for gradient in gradients:
            gradient.mul_(0.01 / norms[-1])
        own.step()
    sweep = policy.fit_critic(batch, 5)
    assert sweep.steps == steps and min(norms) > 0.01
    assert sweep.stats["critic_grad_norm"] == pytest.approx(np.mean(norms), rel=1e-4)
    torch.testing.assert_close(sweep.values, seen)
    for mine, other in zip(
        critic.parameters(), policy.critic.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, other)
    algorithm.stop()


def test_the_sources_constants():
    coma, dop = config_class("COMA")(), config_class("DOP")()
    keys = (
        "gamma",
        "lr",
        "critic_lr",
        "grad_clip",
        "td_lambda",
        "target_update_interval_critic_steps",
        "initial_epsilon",
        "final_epsilon",
        "epsilon_anneal_env_steps",
        "num_envs_per_env_runner",
        "batch_size_episodes",
        "updates_per_episode",
        "buffer_size_episodes",
        "learning_starts_episodes",
        "optimizer",
    )
    assert [getattr(coma, key) for key in keys] == [
        *(0.99, 5e-4, 5e-4, 10.0, 0.8, 200, 0.5, 0.01, 100_000, 8, 8, 0.125, 8, 8),
        "rmsprop",
    ]
    assert [getattr(dop, key) for key in keys] == [
        *(0.99, 5e-4, 1e-4, 20.0, 0.8, 600, 0.5, 0.05, 500_000, 4, 16, 0.25, 5000, 32),
        "rmsprop",
    ]
    assert (dop.mixer_lr, dop.tree_backup_steps, dop.tree_backup_lambda) == (
        *(1e-4, 5, 0.93),
    )


@NAMES
def test_the_target_critic_follows_in_jumps_that_count_critic_steps(name):
    interval = 20
    algorithm = small_config(
        name, target_update_interval_critic_steps=interval
    ).build_algo()
    policy = algorithm.team_policy
    last, jumps = 0, 0
    for _ in range(12):
        before = copy.deepcopy(policy.target_critic.state_dict())
        algorithm.training_step()
        now = algorithm._counters["num_critic_steps_lifetime"]
        online = policy.critic.state_dict()
        target = policy.target_critic.state_dict()
        due = now - last >= interval
        expected = online if due else before
        assert all(torch.equal(target[key], expected[key]) for key in target)
        if due:
            last, jumps = now, jumps + 1
    assert jumps >= 2
    algorithm.stop()


@NAMES
def test_the_actors_step_leaves_the_critic_alone_and_the_other_way_round(name):
    algorithm = build(name)
    policy = algorithm.team_policy
    batch = policy.tensors(collate(algorithm.replay.newest(8)))

    def state():
        return [
            [p.detach().clone() for p in m.parameters()]
            for m in policy.modules().values()
        ]

    def changed(before, after):
        return [
            any(not torch.equal(a, b) for a, b in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]

    start = state()
    sweep = policy.fit_critic(batch, 8)
    fitted = state()
    policy.fit_actor(batch, sweep.values)
    assert changed(start, fitted) == [False, True, False]
    assert changed(fitted, state()) == [True, False, False]
    algorithm.stop()


def test_coma_learns_from_the_episodes_it_just_played():
    config = config_class("COMA")().environment("macn").debugging(seed=0)
    algorithm = config.build_algo()
    for round_number in range(1, 4):
        episodes = algorithm._sample_round()
        algorithm.replay.add(episodes)
        drawn = algorithm._rollouts()
        assert drawn.latest is None and not drawn.off_policy
        played, learned_from = (
            sorted(e.obs.tobytes() + e.actions.tobytes() for e in some)
            for some in (episodes, drawn.on_policy)
        )
        assert learned_from == played
        algorithm.training_step()
        assert algorithm._counters["num_updates_lifetime"] == round_number
    algorithm.stop()


def test_dop_learns_from_the_newest_and_from_all():
    algorithm = build("DOP")
    for _ in range(3):
        algorithm.training_step()

    def places(episodes):
        return [e.obs.ctypes.data for e in episodes]  # addresses in the replay

    newest = places(algorithm.replay.newest(8))
    everything = set(places(algorithm.replay.newest(20)))
    assert len(everything) == 20
    seen = set()
    for _ in range(30):
        drawn = algorithm._rollouts()
        assert places(drawn.latest) == newest[4:]
        assert set(places(drawn.on_policy)) <= set(newest)
        sizes = [len(part) for part in (drawn.on_policy, drawn.off_policy)]
        assert sizes == [4, 6]
        seen |= set(places(drawn.off_policy))
    assert seen == everything
    algorithm.stop()


@NAMES
def test_acting_follows_the_policy_that_the_learner_computes(name):
    """The frequencies of first actions are the learner's probabilities."""
    algorithm = build(name)
    policy = algorithm.team_policy
    with torch.no_grad():
        for agent in policy.network.agents:
            agent.head.bias += torch.tensor([1.0, -1.0, 0.0, 0.5])
    env = algorithm.env_runner.team_envs
    obs, mask = env.obs[:1].copy(), env.action_mask[:1].copy()
    obs, mask = np.repeat(obs, 20_000, 0), np.repeat(mask, 20_000, 0)
    utilities, _ = policy.make_actor(20_000).act(obs, mask)
    epsilon = policy.epsilon_at(policy.global_timestep)
    explorer = policy.make_explorer(20_000)
    rng = np.random.default_rng(0)
    actions = explorer.explore(utilities, mask, np.full(20_000, epsilon), rng)
    logits = torch.from_numpy(utilities[0])
    expected = action_probabilities(logits, torch.from_numpy(mask[0]), epsilon)
    for i in range(2):
        shares = np.bincount(actions[:, i], minlength=4) / 20_000
        np.testing.assert_allclose(shares, expected[i].numpy(), atol=0.02)
    algorithm.stop()


@NAMES
def test_rllibs_own_sampler_accepts_the_policy(name):
    from ray.rllib.evaluation.rollout_worker import RolloutWorker

    config = small_config(name)
    config.env_runner_cls = RolloutWorker
    config.rollout_fragment_length = 50
    algorithm = config.build_algo()
    batch = algorithm.env_runner.sample()
    assert batch.env_steps() == 200
    algorithm.stop()


@NAMES
@pytest.mark.parametrize("key", ["mixer", "num_atoms", "double_q", "exploration"])
def test_keys_of_value_based_algorithms_are_refused(name, key):
    config = config_class(name)()
    with pytest.raises((ConfigError, TypeError), match=key):
        config.training(**{key: 1})


def test_dops_keys_are_not_comas():
    with pytest.raises((ConfigError, TypeError), match="tree_backup_steps"):
        config_class("COMA")().training(tree_backup_steps=3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_size_episodes": 40}, "batch_size_episodes"),
        ({"on_policy_episodes": 15}, r"batch_size_episodes \(16\) .* \(15\)"),
        ({"on_policy_episodes": 6000}, r"on_policy_episodes \(6000\) .* \(5000\)"),
        ({"off_policy_batch_size_episodes": 33}, r"off_policy.*learning_starts"),
    ],
)
def test_dops_sizes_must_fit(keys, message):
    config = config_class("DOP")().environment("macn")
    with pytest.raises(ConfigError, match=message):
        config.training(**keys).validate()


def test_a_round_must_fit_into_the_buffer():
    # COMA's buffer holds 8 episodes, so it would never learn from 56 of the 64.
    config = config_class("COMA")().environment("macn")
    config.env_runners(num_envs_per_env_runner=64)
    with pytest.raises(ConfigError, match=r"buffer_size_episodes \(8\).* 64 episodes"):
        config.validate()


@NAMES
def test_stale_weights_are_refused(name):
    config = config_class(name)().environment("macn")
    with pytest.raises(ConfigError, match=rf"overlap_sampling.*{name}.*leave it off"):
        config.training(overlap_sampling=True).validate()


@NAMES
def test_an_environment_without_a_state_is_refused(name):
    class Stateless:
        class spec_team:
            state_size = 0

    config = config_class(name)().environment("somewhere")
    with pytest.raises(ConfigError, match=rf"'somewhere'.*{name}.*concat_obs"):
        config.check_env(Stateless())


@NAMES
def test_a_critic_that_diverges_stops_the_run(name):
    algorithm = build(name)
    policy = algorithm.team_policy
    with torch.no_grad():
        next(policy.critic.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        policy.fit_critic(policy.tensors(collate(algorithm.replay.newest(4))), 4)
    algorithm.stop()


# Learning. The second action is better for both agents, whatever the other does. Every
# gradient therefore leads to the only optimum, (1, 1).
PAYOFF = [[0.0, 2.0], [3.0, 8.0]]


@NAMES
@pytest.mark.parametrize("seed", [0, 1])
def test_a_matrix_game_is_solved(name, seed):
    config = config_class(name)().environment(
        "matrix_game", env_config={"payoff": PAYOFF}
    )
    config.env_runners(num_envs_per_env_runner=16).debugging(seed=seed)
    config.training(
        recurrent=False,
        optimizer="adam",
        lr=1e-2,
        critic_lr=1e-2,
        initial_epsilon=0.5,
        final_epsilon=0.02,
        epsilon_anneal_env_steps=1000,
        batch_size_episodes=16,
        learning_starts_episodes=32,
        updates_per_episode=1 / 16,
        buffer_size_episodes=1000 if name == "DOP" else 32,
        target_update_interval_critic_steps=10,
    )
    if name == "DOP":
        config.training(mixer_lr=1e-2)
    config.evaluation_interval = None
    algorithm = config.build_algo()
    for _ in range(150):
        algorithm.training_step()
    assert algorithm.evaluate_episodes(2)["return_mean"] == 8.0
    policy = algorithm.team_policy
    batch = policy.tensors(collate(algorithm.replay.newest(1)))
    probabilities = policy.probabilities(batch)[0, 0]
    assert (probabilities[:, 1] > 0.9).all()
    # Episodes have one step, so the value of the joint action is its payoff.
    values = policy.critic(
        policy.critic.inputs(
            batch.obs[:, :1], batch.state[:, :1], torch.ones(1, 1, 2, dtype=torch.long)
        )
    )
    team = policy.critic.mix(values[..., 1], batch.state[:, :1])
    torch.testing.assert_close(team, torch.full_like(team, 8.0), atol=0.5, rtol=0)
    algorithm.stop()
