"""Compares with PyMARL (IQL, VDN, QMIX, QTRAN-base, COMA), and helps its forks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from official.common import (
    ACTIONS,
    AGENTS,
    OBS,
    STATE,
    UPDATES,
    Case,
    Logger,
    Names,
    Pair,
    make_policy,
    random_episodes,
)
from rllib_risk.algorithms.actor_critic.losses import with_last_actions
from rllib_risk.algorithms.actor_critic.policy import Rollouts
from rllib_risk.data.episodes import Episode, collate

_GRU = (r"rnn\.(.*)", r"agents.0.encoder.body.\1_l0")
AGENT: Names = [
    (r"agent\.fc1\.(.*)", r"agents.0.encoder.fc1.\1"),
    (r"agent\." + _GRU[0], _GRU[1]),
    (r"agent\.fc2\.(.*)", r"agents.0.head.\1"),
]
MONOTONIC: Names = [
    (r"mixer\.hyper_w_1\.(.*)", r"mixer.hyper_w1.\1"),
    (r"mixer\.hyper_w_final\.(.*)", r"mixer.hyper_w2.\1"),
    (r"mixer\.hyper_b_1\.(.*)", r"mixer.hyper_b1.\1"),
    (r"mixer\.V\.(.*)", r"mixer.value.\1"),
]
QTRAN: Names = [
    (r"mixer\.Q\.(.*)", r"joint_critic.joint.\1"),
    (r"mixer\.V\.(.*)", r"joint_critic.value.\1"),
    (r"mixer\.action_encoding\.(.*)", r"joint_critic.embed.\1"),
]
COMA_CRITIC: Names = [
    (r"critic\.fc1\.(.*)", r"critic.body.0.\1"),
    (r"critic\.fc2\.(.*)", r"critic.body.2.\1"),
    (r"critic\.fc3\.(.*)", r"critic.body.4.\1"),
]

SCHEME = {
    "state": {"vshape": STATE},
    "obs": {"vshape": OBS, "group": "agents"},
    "actions": {"vshape": (1,), "group": "agents", "dtype": torch.long},
    "avail_actions": {"vshape": (ACTIONS,), "group": "agents", "dtype": torch.int},
    "reward": {"vshape": (1,)},
    "terminated": {"vshape": (1,), "dtype": torch.uint8},
    "actions_onehot": {"vshape": (ACTIONS,), "group": "agents"},
}


def their_batch(episodes: list[Episode], last_actions: Tensor | None = None) -> Any:
    """Returns a batch in PyMARL's form, with zeros in the padding."""
    from components.episode_buffer import EpisodeBatch

    scheme = {key: dict(value) for key, value in SCHEME.items()}
    size = (len(episodes), max(map(len, episodes)) + 1)
    agents = episodes[0].obs.shape[1]
    batch = EpisodeBatch(scheme, {"agents": agents}, *size)
    rows = batch.data.transition_data
    for b, episode in enumerate(episodes):
        steps = len(episode)
        rows["filled"][b, : steps + 1] = 1
        for key, values in (
            ("obs", episode.obs),
            ("state", episode.state),
            ("avail_actions", episode.action_mask.astype(np.int32)),
            ("actions", episode.actions[..., None].astype(np.int64)),
            ("reward", episode.rewards[:, None]),
        ):
            rows[key][b, : len(values)] = torch.from_numpy(values)
        rows["terminated"][b, steps - 1] = episode.terminated
        if last_actions is not None:
            rows["actions"][b, steps, :, 0] = last_actions[b, steps]
    rows["actions_onehot"].scatter_(-1, rows["actions"], 1.0)
    return batch


def arguments(**more: Any) -> SimpleNamespace:
    """Returns the settings that the released learners share: PyMARL's defaults."""
    common: dict[str, Any] = {
        "n_agents": AGENTS,
        "n_actions": ACTIONS,
        "state_shape": STATE,
        "agent": "rnn",
        "rnn_hidden_dim": 64,
        "obs_last_action": True,
        "obs_agent_id": True,
        "agent_output_type": "q",
        "action_selector": "epsilon_greedy",
        "epsilon_start": 0.0,
        "epsilon_finish": 0.0,
        "epsilon_anneal_time": 1,
        "mask_before_softmax": False,
        "gamma": 0.99,
        "lr": 5e-4,
        "optim_alpha": 0.99,
        "optim_eps": 1e-5,
        "grad_norm_clip": 10,
        "double_q": True,
        "mixer": None,
        "mixing_embed_dim": 32,
        "hypernet_layers": 2,
        "hypernet_embed": 64,
        "target_update_interval": 10**9,
        "learner_log_interval": 1,
        "use_cuda": False,
        "device": "cpu",
    }
    return SimpleNamespace(**common | more)


def compare_values(
    title: str,
    name: str,
    learner: Any,
    names: Names,
    theirs: tuple[dict[str, nn.Module], dict[str, nn.Module]],
    **keys: Any,
) -> None:
    """Compares a value-based learner that logs its whole loss."""
    policy = make_policy(name, **keys)
    ours = ({"": policy.network}, {"": policy.target_network})
    pairs = [Pair(t, o, names) for t, o in zip(theirs, ours, strict=True)]
    case = Case(title, pairs)
    for step in range(UPDATES):
        episodes = random_episodes(step)
        learner.train(their_batch(episodes), step, 0)
        stats = policy.learn_on_batch(collate(episodes))
        loss = stats["td_loss"] + stats.get("critic_loss", 0.0)
        case.add(learner.logger.last["loss"], loss)
    case.show()


def make_mac(kind: str, args: SimpleNamespace) -> Any:
    """Builds the released controller of the agents."""
    from controllers import REGISTRY

    return REGISTRY[kind](SCHEME, {"agents": AGENTS}, args)


def halves(learner: Any) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Returns online and target modules of a learner with agents, perhaps a mixer."""
    online, target = {"agent": learner.mac.agent}, {"agent": learner.target_mac.agent}
    if learner.mixer is not None:
        online["mixer"], target["mixer"] = learner.mixer, learner.target_mixer
    return online, target


def compare_pymarl() -> None:
    """Compares IQL, VDN, QMIX, QTRAN-base and COMA."""
    from learners.q_learner import QLearner
    from learners.qtran_learner import QLearner as QtranLearner

    for title, name, mixer, double in (
        ("IQL", "IndependentQ", None, True),
        ("VDN", "VDN", "vdn", True),
        ("VDN, single Q", "VDN", "vdn", False),
        ("QMIX", "QMIX", "qmix", True),
    ):
        args = arguments(mixer=mixer, double_q=double)
        learner = QLearner(make_mac("basic_mac", args), SCHEME, Logger(), args)
        names = AGENT + MONOTONIC
        compare_values(title, name, learner, names, halves(learner), double_q=double)
    args = arguments(mixer="qmix", grad_norm_clip=0.1)
    learner = QLearner(make_mac("basic_mac", args), SCHEME, Logger(), args)
    names = AGENT + MONOTONIC
    title = "QMIX, clipped"
    compare_values(title, "QMIX", learner, names, halves(learner), grad_clip=0.1)
    args = arguments(
        mixer="qtran_base",
        mixing_embed_dim=64,
        qtran_arch="qtran_paper",
        opt_loss=1,
        nopt_min_loss=0.1,
        network_size="small",
    )
    learner = QtranLearner(make_mac("basic_mac", args), SCHEME, Logger(), args)
    names = AGENT + QTRAN
    compare_values("QTRAN-base", "QTRAN", learner, names, halves(learner))
    for epsilon, available in ((0.0, 0.6), (0.3, 1.0)):
        compare_coma(epsilon, available)


def critic_pairs(learner: Any, policy: Any, names: Names) -> list[Pair]:
    """Returns the pairs of actor and critic, and of the target critic."""
    theirs = {"agent": learner.mac.agent, "critic": learner.critic}
    target = {"critic": learner.target_critic}
    if hasattr(learner, "mixer"):
        theirs["mixer"], target["mixer"] = learner.mixer, learner.target_mixer
    ours = {"": policy.network, "critic": policy.critic}
    own_target = {"critic": policy.target_critic}
    return [Pair(theirs, ours, AGENT + names), Pair(target, own_target, names)]


def with_their_last_actions(policy: Any, episodes: list[Episode], stream: int) -> Any:
    """Returns a PyMARL batch with the actions that our policy draws after the end."""
    batch = policy.tensors(collate(episodes))
    with torch.no_grad():
        probabilities = policy.probabilities(batch)
    generator = policy.generator(stream)
    return their_batch(episodes, with_last_actions(batch, probabilities, generator))


def compare_coma(epsilon: float, available: float) -> None:
    """Compares COMA, without epsilon or with all actions available.

    In both cases the two softmax policies are equal.
    """
    from learners.coma_learner import COMALearner

    args = arguments(
        agent_output_type="pi_logits",
        action_selector="multinomial",
        epsilon_start=epsilon,
        epsilon_finish=epsilon,
        critic_lr=5e-4,
        td_lambda=0.8,
    )
    learner = COMALearner(make_mac("basic_mac", args), SCHEME, Logger(), args)
    policy = make_policy("COMA", initial_epsilon=epsilon, final_epsilon=epsilon)
    title = f"COMA, epsilon {epsilon:g}, {available:.0%} available"
    case = Case(title, critic_pairs(learner, policy, COMA_CRITIC))
    for step in range(UPDATES):
        episodes = random_episodes(step, available)
        policy.update_index = step
        learner.train(with_their_last_actions(policy, episodes, 0), step, 0)
        stats, _ = policy.learn(Rollouts(on_policy=episodes))
        case.add(learner.logger.last["coma_loss"], stats["actor_loss"])
    case.show()
