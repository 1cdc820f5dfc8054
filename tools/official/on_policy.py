"""Compares MAPPO and IPPO with MAPPO's released code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from official.common import (
    ACTIONS,
    AGENTS,
    LONGEST,
    STATE,
    UPDATES,
    Case,
    Names,
    Pair,
    make_policy,
    random_episodes,
)
from rllib_risk.data.episodes import Episode, collate

_HIDDEN = 64
_EPOCHS = 3
NAMES: Names = [
    (r"actor\.base\.mlp\.fc1\.0\.(.*)", r"agents.0.encoder.fc1.\1"),
    (r"actor\.base\.mlp\.fc2\.0\.0\.(.*)", r"agents.0.encoder.body.\1"),
    (r"actor\.rnn\.rnn\.(.*)", r"agents.0.encoder.body.\1"),
    (r"actor\.act\.action_out\.linear\.(.*)", r"agents.0.head.\1"),
    (r"critic\.base\.mlp\.fc1\.0\.(.*)", r"critic.bodies.0.fc1.\1"),
    (r"critic\.base\.mlp\.fc2\.0\.0\.(.*)", r"critic.bodies.0.body.\1"),
    (r"critic\.rnn\.rnn\.(.*)", r"critic.bodies.0.body.\1"),
    (r"critic\.v_out\.(.*)", r"critic.heads.0.\1"),
]


def _arguments(episodes: int, recurrent: bool, normalized: bool) -> SimpleNamespace:
    """Returns the released defaults, without layer norm, with whole-episode chunks."""
    return SimpleNamespace(
        algorithm_name="mappo",
        episode_length=LONGEST,
        n_rollout_threads=episodes,
        hidden_size=_HIDDEN,
        recurrent_N=1,
        layer_N=0 if recurrent else 1,
        gamma=0.99,
        gae_lambda=0.95,
        use_gae=True,
        use_popart=False,
        use_valuenorm=normalized,
        use_proper_time_limits=False,
        use_feature_normalization=False,
        use_orthogonal=True,
        use_ReLU=True,
        stacked_frames=1,
        gain=0.01,
        use_policy_active_masks=True,
        use_value_active_masks=True,
        use_naive_recurrent_policy=False,
        use_recurrent_policy=recurrent,
        lr=5e-4,
        critic_lr=5e-4,
        opti_eps=1e-5,
        weight_decay=0,
        clip_param=0.2,
        ppo_epoch=_EPOCHS,
        num_mini_batch=1,
        data_chunk_length=LONGEST,
        value_loss_coef=1,
        entropy_coef=0.01,
        max_grad_norm=0.5,
        use_max_grad_norm=True,
        huber_delta=10.0,
        use_huber_loss=True,
        use_clipped_value_loss=True,
    )


def _without_norms(module: nn.Module) -> None:
    """Replaces layer normalisation, which our networks do not use."""
    for name, child in module.named_children():
        if isinstance(child, nn.LayerNorm):
            setattr(module, name, nn.Identity())
        else:
            _without_norms(child)


def _fill(buffer: Any, trainer: Any, ours: Any, episodes: list[Episode]) -> None:
    """Writes episodes into the released buffer, with outputs of released networks."""
    batch = ours.tensors(collate(episodes))

    def in_their_order(tensor: Tensor) -> np.ndarray:  # [B, T, N, .] to [T, B, N, .]
        return tensor.transpose(0, 1).float().numpy()

    buffer.obs[:] = in_their_order(ours.network.inputs(batch.obs, batch.actions))
    # Our critic may have one value for the team; the released one has one per agent.
    seen = ours.critic_inputs(batch).expand(-1, -1, AGENTS, -1)
    buffer.share_obs[:] = in_their_order(seen)
    buffer.actions[:] = in_their_order(batch.actions.unsqueeze(-1))
    buffer.available_actions[:] = in_their_order(batch.action_mask)
    each = (len(episodes), LONGEST, AGENTS, 1)
    buffer.rewards[:] = in_their_order(batch.rewards.unsqueeze(2).expand(each))
    ends = batch.terminateds.unsqueeze(2).expand(each)
    buffer.masks[1:] = 1.0 - in_their_order(ends)
    buffer.active_masks[:-1] = in_their_order(batch.mask.unsqueeze(2).expand(each))
    rows = len(episodes) * AGENTS

    def flat(array: np.ndarray, steps: int = LONGEST) -> np.ndarray:
        return array[:steps].reshape(steps * rows, -1)

    states = np.zeros((rows, 1, _HIDDEN), np.float32)
    policy, ones = trainer.policy, np.ones_like(buffer.masks)
    with torch.no_grad():
        values, _ = policy.critic(
            flat(buffer.share_obs, LONGEST + 1), states, flat(ones, LONGEST + 1)
        )
        given = (flat(buffer.actions), flat(ones), flat(buffer.available_actions))
        logs, _ = policy.actor.evaluate_actions(flat(buffer.obs), states, *given)
    buffer.value_preds[:] = values.numpy().reshape(buffer.value_preds.shape)
    buffer.action_log_probs[:] = logs.numpy().reshape(buffer.action_log_probs.shape)
    buffer.compute_returns(buffer.value_preds[-1].copy(), trainer.value_normalizer)


def _episodes(seed: int, padded: bool) -> list[Episode]:
    if padded:
        return random_episodes(seed)
    # The running mean of the released code counts padding as steps.
    made = [*random_episodes(seed)[:3], *random_episodes(seed + 100)[:3]]
    return made


def _compare(name: str, *, recurrent: bool, normalized: bool) -> None:
    from onpolicy.algorithms.r_mappo.algorithm.rMAPPOPolicy import R_MAPPOPolicy
    from onpolicy.algorithms.r_mappo.r_mappo import R_MAPPO
    from onpolicy.utils.shared_buffer import SharedReplayBuffer

    ours = make_policy(
        name,
        recurrent=recurrent,
        normalize_values=normalized,
        epochs_per_update=_EPOCHS,
        grad_clip=0.5,
    )
    arguments = _arguments(6, recurrent, normalized)
    size = ours.network.input_size
    obs = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    seen = STATE if name == "MAPPO" else size
    state = spaces.Box(-np.inf, np.inf, (seen,), np.float32)
    choices = spaces.Discrete(ACTIONS)
    policy = R_MAPPOPolicy(arguments, obs, state, choices)
    _without_norms(policy.actor)
    _without_norms(policy.critic)
    trainer = R_MAPPO(arguments, policy)
    theirs = {"actor": policy.actor, "critic": policy.critic}
    pair = Pair(theirs, {"": ours.network, "critic": ours.critic}, NAMES)
    memory = "GRU" if recurrent else "no memory"
    batch = "value normalisation" if normalized else "padding"
    case = Case(f"{name}, {memory}, {batch}", [pair])
    for update in range(UPDATES):
        episodes = _episodes(update, padded=not normalized)
        buffer = SharedReplayBuffer(arguments, AGENTS, obs, state, choices)
        _fill(buffer, trainer, ours, episodes)
        found = trainer.train(buffer)
        ours.update_index = update
        stats = ours.learn_on_batch(collate(episodes))
        case.add(
            found["value_loss"] + found["policy_loss"],
            stats["critic_loss"] + stats["actor_loss"],
        )
    case.show()


def compare_on_policy() -> None:
    """Compares MAPPO and IPPO.

    Variants are with and without recurrence, padding and value normalisation.
    """
    for name in ("MAPPO", "IPPO"):
        for recurrent in (True, False):
            for normalized in (True, False):
                _compare(name, recurrent=recurrent, normalized=normalized)
