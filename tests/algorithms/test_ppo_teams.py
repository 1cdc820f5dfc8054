"""MAPPO and IPPO as algorithms: updates, their data, exact resume, and small games."""

import copy

import numpy as np
import pytest
import torch
from critic_cases import make_policy
from small_runs import small_config, straight_and_resumed
from torch.distributions import Categorical
from torch.nn.functional import huber_loss

from rllib_risk.algorithms import config_class
from rllib_risk.algorithms.actor_critic import ppo
from rllib_risk.config.schema import ConfigError
from rllib_risk.data.episodes import Episode, collate

NAMES = pytest.mark.parametrize("name", ["MAPPO", "IPPO"])
RAY = pytest.mark.usefixtures("ray_local")


def episodes(rng, plan=((5, True), (3, False), (6, False), (1, True))):
    """Two agents, three actions, 60 % of them available."""
    made = []
    for length, terminated in plan:
        mask = (rng.random((length + 1, 2, 3)) < 0.6).astype(np.uint8)
        mask[..., 0] |= mask.sum(axis=-1) == 0
        made.append(
            Episode(
                obs=rng.normal(size=(length + 1, 2, 4)).astype(np.float32),
                state=rng.normal(size=(length + 1, 5)).astype(np.float32),
                action_mask=mask,
                actions=(rng.random((length, 2, 3)) * mask[:-1]).argmax(axis=-1),
                rewards=rng.normal(size=length).astype(np.float32),
                terminated=terminated,
                risk_levels=np.ones((length, 2), np.float32),
            )
        )
    return made


def small_policy(name, **keys):
    sizes = {"obs_size": 4, "state_size": 5, "actions": 3}
    keys = {"hidden_size": 8, "critic_hidden_size": 8} | keys
    return make_policy(name, **sizes, **keys)


class Twin:
    """A second implementation of updates with one epoch and one minibatch."""

    def __init__(self, policy):
        self.policy = policy
        self.network = copy.deepcopy(policy.network)
        self.critic = copy.deepcopy(policy.critic)
        self.sums = np.zeros(3)  # of weights, returns, and their squares
        self.adams = [
            torch.optim.Adam(network.parameters(), lr=5e-4, eps=1e-5)
            for network in (self.network, self.critic)
        ]

    def rows(self, episode):
        """The policy, log-probabilities of the actions taken, and values."""
        obs = torch.from_numpy(episode.obs)[None]
        actions = torch.from_numpy(episode.actions)[None]
        inputs = self.network.inputs(obs, actions)
        logits = self.network.atoms(self.network.unroll(inputs))[0, :-1, :, :, 0]
        legal = torch.from_numpy(episode.action_mask)[:-1].bool()
        chances = Categorical(logits=logits.masked_fill(~legal, -1e10))
        if self.policy.config["critic_input"] == "state":
            inputs = torch.from_numpy(episode.state)[None, :, None]
        return chances, chances.log_prob(actions[0]), self.critic(inputs)[0]

    def scale(self):
        weight, total, squares = self.sums
        if not weight:
            return 0.0, 0.1
        mean = total / weight
        return mean, max(squares / weight - mean**2, 0.01) ** 0.5

    def before(self, episode):
        """Log-probabilities, values, advantages and returns before the update."""
        _, logs, values = self.rows(episode)
        mean, deviation = self.scale()
        v, following, gained = mean + deviation * values.detach(), 0.0, []
        for t in reversed(range(len(episode))):
            last = t == len(episode) - 1
            ahead = 0.0 if last and episode.terminated else 0.99 * v[t + 1]
            error = float(episode.rewards[t]) + ahead - v[t]
            following = error + (0.0 if last else 0.99 * 0.95 * following)
            gained.insert(0, following)
        gained = torch.stack(gained)
        return logs.detach(), values.detach()[:-1], gained, gained + v[:-1]

    def losses(self, played):
        before = [self.before(episode) for episode in played]
        gains = torch.cat([b[2] for b in before])
        goals = torch.cat([b[3] for b in before]).double()
        batch = [1.0, goals.mean().item(), (goals**2).mean().item()]
        self.sums = 0.99999 * self.sums + 0.00001 * np.array(batch)
        mean, deviation = self.scale()
        surrogates, entropies, errors = [], [], []
        for episode, (old, v_old, gained, goal) in zip(played, before, strict=True):
            chances, logs, values = self.rows(episode)
            a = (gained - gains.mean()) / (gains.std(correction=0) + 1e-5)
            x = (logs - old).exp()
            surrogates.append(torch.min(x * a, x.clamp(0.8, 1.2) * a).flatten())
            entropies.append(chances.entropy().flatten())
            near = v_old + (values[:-1] - v_old).clamp(-0.2, 0.2)
            pair = [
                huber_loss(v, (goal - mean) / deviation, reduction="none", delta=10.0)
                for v in (values[:-1], near)
            ]
            errors.append(torch.max(*pair).flatten())
        entropy = torch.cat(entropies).mean()
        return -torch.cat(surrogates).mean() - 0.01 * entropy, torch.cat(errors).mean()

    def update(self, played):
        networks = (self.network, self.critic)
        rows = zip(self.adams, self.losses(played), networks, strict=True)
        for adam, loss, network in rows:
            adam.zero_grad()
            loss.backward()
            norm = sum((p.grad**2).sum() for p in network.parameters()).sqrt()
            for p in network.parameters():
                p.grad *= min(1.0, (self.policy.config["grad_clip"] / norm).item())
            adam.step()


@NAMES
@pytest.mark.parametrize("recurrent", [True, False])
def test_two_updates_by_hand(name, recurrent):
    """R5: equal to a second implementation. Both gradients are clipped."""
    rng = np.random.default_rng(0)
    keys = {"epochs_per_update": 1, "grad_clip": 0.05, "policy_gain": 1.0}
    policy = small_policy(name, recurrent=recurrent, **keys)
    twin = Twin(policy)
    assert twin.critic.bodies[0].has_memory is recurrent
    for _ in range(2):
        played = episodes(rng)
        stats = policy.learn_on_batch(collate(played))
        twin.update(played)
        assert min(stats["actor_grad_norm"], stats["critic_grad_norm"]) > 0.05
    for mine, other in ((twin.network, policy.network), (twin.critic, policy.critic)):
        for p, q in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=2e-6, rtol=1e-5)
    mean, deviation = policy.value_norm.statistics()
    assert (mean, deviation) == pytest.approx(twin.scale(), rel=1e-5)


@NAMES
def test_epochs_and_minibatches(name):
    """Each epoch takes every episode once; the ratio leaves 1 and is clipped."""
    policy = small_policy(
        name,
        epochs_per_update=5,
        minibatches_per_epoch=2,
        lr=0.05,
        batch_size_episodes=8,
    )
    played = episodes(np.random.default_rng(1))
    seen, step = [], policy.learn_minibatch

    def watched(part):
        seen.append(part.batch.rewards[:, 0, 0].tolist())
        return step(part)

    policy.learn_minibatch = watched
    stats = policy.learn_on_batch(collate(played))
    assert len(seen) == 10 and {len(part) for part in seen} == {2}
    firsts = sorted(e.rewards[0].item() for e in played)
    for one, other in zip(seen[::2], seen[1::2], strict=True):
        assert sorted(one + other) == firsts
    assert (
        len({tuple(sorted(one)) for one in seen[::2]}) > 1
    )  # epochs differ in their order
    assert stats["clipped_share"] > 0.0 and stats["ratio_mean"] != 1.0


def test_padding_changes_nothing():
    """An episode's loss and gradient do not depend on what is batched with it."""
    played = episodes(np.random.default_rng(2), plan=((3, False), (6, True)))
    # Without the normaliser, because each call changes it.
    policy = small_policy("IPPO", normalize_values=False)
    batch = policy.tensors(collate(played))
    whole, _ = policy.experience(batch)
    alone, _ = policy.experience(policy.tensors(collate(played[:1])))
    torch.testing.assert_close(whole.returns[:1, :3], alone.returns)

    def gradients(experience):
        networks = (policy.network, policy.critic)
        parameters = [p for network in networks for p in network.parameters()]
        loss = policy.actor_loss(experience)[0] + policy.critic_loss(experience)
        return torch.autograd.grad(loss, parameters)

    expected = gradients(whole)
    batch.obs[0, 4:], batch.rewards[0, 3:] = 7.0, torch.nan
    part, _ = policy.experience(batch)
    torch.testing.assert_close(part.advantages[:, :3], whole.advantages[:, :3])
    for got, other in zip(gradients(part), expected, strict=True):
        torch.testing.assert_close(got, other)


@pytest.mark.parametrize(
    ("keys", "values", "copies", "size"),
    [
        ({"critic_input": "state"}, 1, 1, 5),
        # state 5, observation 4, last action 3, agent id 2
        ({"critic_input": "state_and_agent"}, 2, 1, 14),
        ({"critic_input": "agent"}, 2, 1, 9),
        ({"critic_input": "agent", "parameter_sharing": False}, 2, 2, 9),
        ({"critic_input": "state", "parameter_sharing": False}, 1, 1, 5),
    ],
)
def test_what_the_critic_sees(keys, values, copies, size):
    policy = small_policy("MAPPO", **keys)
    batch = policy.tensors(collate(episodes(np.random.default_rng(3))))
    inputs = policy.critic_inputs(batch)
    assert inputs.shape == (4, 7, values, size)
    assert policy.critic(inputs).shape == (4, 7, values)
    assert len(policy.critic.bodies) == copies
    if keys["critic_input"] != "agent":
        torch.testing.assert_close(inputs[:, :, 0, :5], batch.state)
    if keys["critic_input"] != "state":
        torch.testing.assert_close(inputs[..., -9:-5], batch.obs)
    if copies == 2:  # each agent has its own
        assert not torch.equal(*(body.fc1.weight for body in policy.critic.bodies))


def test_the_sources_initialisation():
    policy = small_policy("MAPPO", hidden_size=16)
    (agent,) = policy.network.agents
    weight = agent.head.weight
    torch.testing.assert_close(weight @ weight.T, 1e-4 * torch.eye(3))
    # ReLU's gain is sqrt(2). With 16 rows and 9 columns the columns are orthogonal.
    first = agent.encoder.fc1.weight
    torch.testing.assert_close(first.T @ first, 2.0 * torch.eye(9), atol=1e-5, rtol=0)
    assert not any(p.any() for p in policy.critic.parameters() if p.dim() == 1)
    plain = small_policy("MAPPO", orthogonal_init=False)
    assert plain.network.agents[0].head.bias.any()


def test_the_sources_constants():
    config = config_class("MAPPO")()
    keys = {
        "gamma": 0.99,
        "td_lambda": 0.95,
        "clip_param": 0.2,
        "huber_delta": 10.0,
        "value_norm_decay": 0.99999,
        "entropy_weight": 0.01,
        "epochs_per_update": 15,
        "minibatches_per_epoch": 1,
        "lr": 5e-4,
        "critic_lr": 5e-4,
        "optimizer": "adam",
        "optimizer_eps": 1e-5,
        "grad_clip": 10.0,
        "hidden_size": 64,
        "critic_hidden_size": 64,
        "policy_gain": 0.01,
        "batch_size_episodes": 8,
        "num_envs_per_env_runner": 8,
    }
    assert {key: getattr(config, key) for key in keys} == keys
    others = vars(config_class("IPPO")()).items()
    differing = {k for k, v in others if v != vars(config)[k] and k != "algo_class"}
    assert differing == {"critic_input"}


@NAMES
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_size_episodes": 12}, r"batch_size_episodes \(12\).* 8 .*: 16\."),
        ({"buffer_size_episodes": 64}, "buffer_size_episodes: .*no replay"),
        ({"learning_starts_episodes": 8}, "learning_starts_episodes: .*no replay"),
        ({"updates_per_episode": 0.5}, "updates_per_episode: .*epochs_per_update"),
        ({"minibatches_per_epoch": 9}, r"minibatches_per_epoch \(9\).* \(8\)"),
        ({"update_interval_env_steps": 2}, "update_interval_env_steps: .*Leave it out"),
        ({"overlap_sampling": True}, "overlap_sampling.*leave it off"),
    ],
)
def test_keys_without_effect_are_refused(name, keys, message):
    config = config_class(name)().environment("macn")
    with pytest.raises(ConfigError, match=message):
        config.training(**keys).validate()


def test_only_a_critic_that_reads_the_state_needs_one():
    class Stateless:
        class spec_team:
            state_size = 0

    config_class("IPPO")().environment("somewhere").check_env(Stateless())
    for keys in ({}, {"critic_input": "state_and_agent"}):
        config = config_class("MAPPO")().environment("somewhere").training(**keys)
        with pytest.raises(ConfigError, match=r"'somewhere'.*MAPPO.*concat_obs"):
            config.check_env(Stateless())


@RAY
@NAMES
def test_stopping_and_resuming_changes_nothing(name, tmp_path):
    """R13: the stop is in the middle of a batch of episodes."""
    results, again, resumed = straight_and_resumed(name, tmp_path)
    assert results[2]["num_episodes_lifetime"] % 12 != 0
    assert resumed.counters["num_updates_lifetime"] > 3
    for a, b in zip(again, results[3:], strict=True):
        assert a["learner"] == b["learner"]
        assert a["evaluation"]["return_mean"] == b["evaluation"]["return_mean"]
    resumed.stop()


@RAY
def test_every_episode_is_learned_from_in_one_update(monkeypatch):
    algorithm = small_config("MAPPO").build_algo()
    played, learned, original = [], [], ppo.collate
    algorithm.on_episodes.append(lambda some: played.append(ids(some)))

    def watched(some):
        learned.append(ids(some))
        return original(some)

    monkeypatch.setattr(ppo, "collate", watched)
    for _ in range(6):
        algorithm.training_step()
    assert learned == [joined(played[:3]), joined(played[3:6])]
    # A lost runner makes a round of three, so the batch is complete one round later.
    sample = algorithm._sample_round
    algorithm._sample_round = lambda: sample()[:3]
    algorithm.training_step()
    algorithm._sample_round = sample
    for _ in range(3):
        assert len(learned) == 2
        algorithm.training_step()
    assert learned[2] == joined(played[6:]) and len(learned[2]) == 15
    algorithm.stop()


def joined(rounds):
    return [one for some in rounds for one in some]


def ids(some):
    return [e.obs.tobytes() + e.actions.astype(np.int64).tobytes() for e in some]


@RAY
@NAMES
@pytest.mark.parametrize("seed", [0, 1])
def test_the_two_step_game_is_solved(name, seed):
    """R33: 8 needs both agents to leave the safe branch, which pays 7."""
    config = config_class(name)().environment("two_step").debugging(seed=seed)
    config.env_runners(num_envs_per_env_runner=32)
    config.training(recurrent=False, batch_size_episodes=32, lr=2e-3, critic_lr=2e-3)
    config.evaluation_interval = None
    algorithm = config.build_algo()
    for _ in range(32):
        algorithm.training_step()
    assert algorithm.evaluate_episodes(2)["return_mean"] == 8.0
    algorithm.stop()
