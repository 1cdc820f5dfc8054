"""Learning from a dataset: the loop, its checkpoints, and what is refused."""

from dataclasses import replace
from itertools import compress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_runs import fingerprint

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.core.thresholds import observe_dataset
from rllib_risk.data.card import file_hash, read_card
from rllib_risk.data.dataset import Dataset, write_dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.rows import DatasetError
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.scripted import RandomPolicy
from rllib_risk.parts.objectives.static import Static

pytestmark = pytest.mark.usefixtures("ray_local")

MACN = {"episode_limit": 20}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory, ray_local):
    """200 episodes of random walks beside the cliff, in several files."""
    config = TeamConfig().environment("macn", env_config=MACN)
    folder = tmp_path_factory.mktemp("walks") / "set"
    write_dataset(
        folder,
        record(config, [scripted_player(RandomPolicy(), 0.0)], 200, seed=1),
        env="macn",
        env_config=MACN,
        agents=["agent_0", "agent_1"],
        behaviour={"policy": "random"},
        seed=1,
        rows_per_shard=100,
    )
    return folder


def offline(name, folder, env="macn", **training):
    config = config_class(name)()
    if env is not None:
        config.environment(env, env_config=MACN)
    config.debugging(seed=3)
    config.training(
        dataset=str(folder),
        batch_size_episodes=8,
        hidden_size=16,
        updates_per_iteration=20,
        target_update_tau=0.05,
    )
    config.training(**training)
    config.evaluation_duration = 3
    return config


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("MACQR", {}),
        ("MACQR", {"preset": "ma_ciql"}),
        ("MACQR", {"preset": "bc"}),
        ("MACQR", {"recurrent": True, "sequence_length": 4, "burn_in": 2}),
        ("RMIX", {"num_atoms": 4, "conservative_weight": 1.0}),
        ("QPLEX", {"conservative_weight": 1.0}),
        ("LHIQN", {"num_atoms": 4}),
        ("OfflineBaselines", {}),
        ("OfflineBaselines", {"preset": "iql_cql", "sequence_length": 1}),
        ("OfflineBaselines", {"preset": "maicq"}),
        ("OfflineBaselines", {"preset": "maicq", "sequence_length": None}),
        ("OfflineBaselines", {"preset": "cfcql"}),
        ("OfflineBaselines", {"preset": "bc_top", "dataset_holdout": 0.1}),
        ("RobustQMIX", {"rho": 0.2}),
        ("QMIX", {"objective": "nested", "alpha": 0.5}),
        ("QMIX", {"objective": "static", "threshold_episodes": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_any_composition_learns_from_a_dataset(folder, name, keys):
    algorithm = offline(name, folder, **keys).build_algo()
    before = [p.detach().clone() for p in algorithm.team_policy.network.parameters()]
    result = algorithm.train()
    after = algorithm.team_policy.network.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert result["num_updates_lifetime"] == 20
    assert result["num_env_steps_sampled_lifetime"] == 0
    assert result["evaluation"]["episodes"] == 3
    assert result["dataset_passes"] == pytest.approx(
        algorithm.env_steps / algorithm.replay.split.num_steps
    )
    for group in ("learner", "data", "holdout"):
        found = result.get(group, {})
        assert bool(found) is (group != "holdout" or "dataset_holdout" in keys)
        assert all(np.isfinite(v) for v in found.values())
    algorithm.stop()


def held_out(algorithm):
    split = algorithm.replay.split
    return list(compress(algorithm.replay.dataset.episodes(), split.held_out))


def test_numbers_of_held_out_episodes_are_those_of_acting_on_them(folder):
    """Recomputes agreement, gap and estimate with the actor, one step at a time."""
    config = offline(
        "IndependentQ",
        folder,
        recurrent=True,
        dataset_holdout=0.1,
        conservative_weight=1.0,
        reward_scale=0.5,
    )
    algorithm = config.build_algo()
    numbers = algorithm.train()["holdout"]
    agreements, gaps, starts = [], [], []
    for episode in held_out(algorithm):
        actor = algorithm.team_policy.make_actor(1)
        for t, actions in enumerate(episode.actions):
            utilities, _ = actor.act(episode.obs[t][None], episode.action_mask[t][None])
            best = utilities[0].max(-1)
            taken = utilities[0][np.arange(2), actions]
            agreements += (taken >= best).tolist()
            gaps += (best - taken).tolist()
            if t == 0:
                starts += (best / 0.5).tolist()
            actor.remember(actions[None].astype(np.int64))
    assert len(starts) == 40
    assert numbers["data_agreement"] == pytest.approx(np.mean(agreements))
    assert numbers["ood_gap"] == pytest.approx(np.mean(gaps), rel=1e-4)
    assert numbers["start_value_mean"] == pytest.approx(np.mean(starts), rel=1e-4)
    lowest = np.sort(starts)[:4].mean()
    assert numbers["start_value_cvar_10"] == pytest.approx(lowest, rel=1e-4)
    algorithm.stop()


def test_cloning_estimates_no_return(folder):
    algorithm = offline("MACQR", folder, env=None, preset="bc").build_algo()
    numbers = algorithm.train()["data"]
    assert not any(key.startswith("start_value") for key in numbers)
    assert numbers["loss"] == pytest.approx(numbers["conservative_penalty"])
    algorithm.stop()


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_thresholds_lie_in_the_range_of_the_returns_of_a_dataset(folder, gamma):
    dataset, objective = Dataset(folder), Static()
    observe_dataset(objective, dataset, gamma)
    returns = [e.discounted_return(gamma) for e in dataset.episodes()]
    assert objective.limits == pytest.approx((min(returns), max(returns)))


def test_without_an_environment_it_learns_the_same_and_does_not_evaluate(folder):
    config = offline("MACQR", folder, env=None)
    config.preflight()
    alone, beside = config.build_algo(), offline("MACQR", folder).build_algo()
    result = alone.train()
    beside.train()
    assert "evaluation" not in result
    with pytest.raises(EnvConfigError, match="knows no environment to play in"):
        alone.evaluate_episodes(1)
    for a, b in zip(
        alone.team_policy.network.parameters(),
        beside.team_policy.network.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)
    alone.stop(), beside.stop()


@pytest.mark.parametrize("memory_mb", [1024, 1], ids=["held", "streamed"])
def test_a_run_that_is_resumed_is_the_same_run(
    folder, memory_mb, tmp_path, monkeypatch
):
    """R13: learning from a dataset."""
    if memory_mb == 1:
        # Makes the memory so small that the replay is a window over the dataset.
        monkeypatch.setattr("rllib_risk.core.value_algorithm.BYTES_PER_MB", 2**14)
        monkeypatch.setattr("rllib_risk.data.dataset_replay._MIN_SEGMENT_BYTES", 1)
        monkeypatch.setattr("rllib_risk.data.dataset_replay._READING_BYTES", 0)
    config = offline(
        *("OfflineBaselines", folder),
        preset="cfcql",  # resumes the behaviour model as well
        sequence_length=2,
        dataset_memory_mb=memory_mb,
        dataset_holdout=0.1,
    )
    straight = config.build_algo()
    straight.train()
    straight.save_checkpoint(str(tmp_path))
    assert straight.replay.whole == (memory_mb > 1)
    assert (tmp_path / "replay.safetensors").stat().st_size < 1000
    expected = straight.train()
    resumed = TeamAlgorithm.from_checkpoint(tmp_path)
    result = resumed.train()
    for group in ("data", "holdout"):
        assert result[group] == expected[group]
    assert fingerprint(resumed) == fingerprint(straight)
    straight.stop(), resumed.stop()


def test_schedules_count_the_env_steps_that_were_learned_from(folder):
    # 20 updates of 8 steps each.
    algorithm = offline("MACQR", folder, lr=[[0, 1e-3], [320, 1e-4]]).build_algo()
    algorithm.train()
    assert algorithm.env_steps == 160
    rate = algorithm.team_policy._optimizers[0].param_groups[0]["lr"]
    assert rate == pytest.approx(1e-3 - 9e-4 * 152 / 320)
    algorithm.stop()


def test_a_policy_goes_on_online_from_its_checkpoint(folder, tmp_path):
    algorithm = offline("MACQR", folder).build_algo()
    algorithm.train()
    algorithm.save_checkpoint(str(tmp_path))
    parameters = [p.detach().clone() for p in algorithm.team_policy._online]
    algorithm.stop()
    online = {
        "dataset": None,
        "conservative_weight": None,
        "min_sample_timesteps_per_iteration": 60,
        "learning_starts_episodes": 2,
        "final_epsilon": 0.05,
    }
    algorithm = TeamAlgorithm.from_checkpoint(tmp_path, **online)
    assert len(algorithm.replay) == 0 and algorithm.env_steps == 0
    for p, q in zip(algorithm.team_policy._online, parameters, strict=True):
        assert torch.equal(p, q)
    result = algorithm.train()
    assert result["num_env_steps_sampled_lifetime"] >= 60
    assert result["num_updates_lifetime"] > 20 and len(algorithm.replay) > 0
    algorithm.stop()


def test_greedy_actions_of_behaviour_cloning_are_those_of_the_data(tmp_path):
    """Each state has one action in the data; BC and a heavy penalty must find it."""
    obs = np.eye(6, dtype=np.float32)[:, None, :].repeat(2, axis=1)
    taken = np.array([[3, 1], [0, 2], [2, 2], [1, 0], [3, 3]])
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            obs=obs,
            state=np.zeros((6, 0), np.float32),
            action_mask=np.ones((6, 2, 4), np.uint8),
            actions=taken.astype(np.int16),
            rewards=rng.normal(-50, 30, 5).astype(np.float32),
            terminated=True,
            risk_levels=np.ones((5, 2), np.float32),
        )
        for _ in range(10)
    ]
    card = write_dataset(
        tmp_path / "set",
        episodes,
        env=None,
        env_config={},
        agents=["a", "b"],
        behaviour={},
        seed=None,
    )
    assert card.returns["mean"] < 0
    for keys in ({"preset": "bc"}, {"preset": "ma_ciqr", "conservative_weight": 100.0}):
        config = offline("MACQR", tmp_path / "set", env=None, lr=3e-3, **keys)
        config.updates_per_iteration = 300
        algorithm = config.build_algo()
        result = algorithm.train()
        actor = algorithm.team_policy.make_actor(6)
        utilities, _ = actor.act(obs, np.ones((6, 2, 4), np.uint8))
        np.testing.assert_array_equal(utilities.argmax(-1)[:5], taken)
        assert result["learner"]["data_agreement"] == 1.0
        algorithm.stop()


def changed_card(folder, tmp_path, **values):
    """Copies the dataset and changes its card."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    replace(read_card(copy), **values).write(copy)
    return copy


def test_training_refuses_rows_that_cannot_be(folder, tmp_path):
    """Training refuses the rows that `rllib dataset check` refuses, on reading them."""
    copy = changed_card(folder, tmp_path)
    card = read_card(copy)
    path = copy / card.shards[0].file
    table = pq.read_table(path)
    index = table.schema.get_field_index("actions")
    column = table.column("actions").to_pylist()
    column[2][1] = 99
    field = table.schema.field("actions")
    pq.write_table(
        table.set_column(index, field, pa.array([*column], field.type)), path
    )
    shard = replace(card.shards[0], sha256=file_hash(path))
    replace(card, shards=(shard, *card.shards[1:])).write(copy)
    message = r"part-00000\.parquet: row 2, column actions: holds 99,"
    with pytest.raises(DatasetError, match=message):
        Dataset(copy).check()
    with pytest.raises(DatasetError, match=message):
        offline("MACQR", copy).build_algo()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"env": "uav"}, "is 'uav', not 'macn'"),
        ({"agents": ["x", "y"]}, "is of agents x, y with 4 actions.*agent_0, agent_1"),
        (
            {"env_config": {"episode_limit": 30}},
            "another env_config .episode_limit 30 there, 20 here.",
        ),
    ],
)
def test_a_dataset_of_something_else_is_refused(folder, tmp_path, values, message):
    config = offline("MACQR", changed_card(folder, tmp_path, **values))
    with pytest.raises(ConfigError, match=message):
        config.preflight()
    with pytest.raises(ConfigError, match=message):
        config.build_algo()


def test_a_batch_of_more_episodes_than_there_are_names_the_fix(folder):
    config = offline("QMIX", folder, batch_size_episodes=500)
    with pytest.raises(ConfigError, match=r"500 different episodes .* 200 are held"):
        config.build_algo()


def test_evaluation_may_use_another_env_config(folder):
    config = offline("MACQR", folder)
    config.evaluation_config = {"env_config": {"episode_limit": 5}}
    config.validate()
    config.preflight()
    algorithm = config.build_algo()
    assert algorithm.train()["evaluation"]["episode_len_mean"] <= 5
    algorithm.stop()


def test_a_missing_or_damaged_dataset_is_refused_before_anything_starts(folder):
    with pytest.raises(ConfigError, match="dataset: there is no dataset at"):
        offline("MACQR", folder / "nowhere").preflight()
    with pytest.raises(ConfigError, match="dataset: there is no dataset at"):
        offline("MACQR", folder / "nowhere", env=None).validate()
