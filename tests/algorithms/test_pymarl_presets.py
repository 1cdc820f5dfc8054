"""Presets against the values in EPyMARL's and PyMARL2's files, written down by hand."""

import pytest

from rllib_risk.algorithms import config_class

# From the default and algorithm files of both libraries: optimizer, learning rate,
# hidden size, GRU, last action and agent id in the input, env steps of epsilon's decay,
# batch and replay size in episodes, episodes between target copies, lambda,
# environments, updates per episode, and the clipping norm of the squared error's
# gradient.
KEYS = (
    "optimizer",
    "lr",
    "hidden_size",
    "recurrent",
    "obs_last_action",
    "agent_ids",
    "epsilon_anneal_env_steps",
    "batch_size_episodes",
    "buffer_size_episodes",
    "target_update_interval_episodes",
    "td_lambda",
    "num_envs_per_env_runner",
    "updates_per_episode",
    "grad_clip",
)
IQL = ("adam", 3e-4, 128, True, False, True, 200_000, 32, 5000, 200, 0, 1, 1, 10)
EPYMARL = ("adam", 5e-4, 64, False, False, True, 50_000, 32, 5000, 200, 0, 1, 1, 10)
TUNED = ("adam", 1e-3, 64, True, True, True, 1e5, 128, 5000, 200, 0.6, 8, 1 / 8, 20)
TUNED_IQL = ("adam", 5e-4, 64, True, True, True, 1e5, 32, 5000, 200, 0, 8, 1 / 8, 20)
# Values that all presets share.
SHARED = {
    "gamma": 0.99,
    "double_q": True,
    "rnn_cell": "gru",
    "parameter_sharing": True,
    "initial_epsilon": 1.0,
    "final_epsilon": 0.05,
    "target_update_tau": None,
    "optimizer_eps": None,  # Adam's own, 1e-8
    "loss": "td",
    "num_atoms": 1,
}


@pytest.mark.parametrize(
    ("name", "preset", "values"),
    [
        ("IndependentQ", "epymarl", IQL),
        ("VDN", "epymarl", EPYMARL),
        ("QMIX", "epymarl", EPYMARL),
        ("IndependentQ", "tuned", TUNED_IQL),
        ("VDN", "tuned", TUNED),
        ("QMIX", "tuned", TUNED),
    ],
)
def test_a_preset_has_the_values_of_its_source(name, preset, values):
    config = config_class(name)().training(preset=preset)
    expected = dict(zip(KEYS, values, strict=True)) | SHARED
    assert {key: getattr(config, key) for key in expected} == expected
    # The first update needs a whole batch.
    assert config.learning_starts_episodes == config.batch_size_episodes
    if name == "QMIX":
        mixer = (config.mixing_embed_dim, config.hypernet_layers)
        assert (config.mixer, *mixer, config.hypernet_embed_dim) == ("qmix", 32, 2, 64)


def test_keys_beside_a_preset_win():
    config = config_class("QMIX")().training(preset="tuned", lr=2e-3)
    assert (config.lr, config.td_lambda) == (2e-3, 0.6)
