"""The training loop: determinism, schedules, exact resume, safe checkpoints."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from loss_cases import value_based
from safetensors.torch import save_file
from small_runs import fingerprint, small_config, straight_and_resumed

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core import checkpoint as ckpt
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.checkpoint import CheckpointError
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.env_wrappers import make_team_env

pytestmark = pytest.mark.usefixtures("ray_local")

LOGGED = ("epsilon", "learner", "num_updates_lifetime", "num_episodes_lifetime")


def logged(result):
    evaluation = {
        k: v for k, v in result["evaluation"].items() if not isinstance(v, dict)
    }
    sampled = {
        k: result["env_runners"][k]
        for k in ("episode_return_mean", "episode_len_mean", "num_episodes")
        if k in result["env_runners"]
    }
    return {k: result[k] for k in LOGGED} | evaluation | sampled


DETERMINISM = """
import hashlib
import ray, rllib_risk
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
rllib_risk.register()
from safetensors.torch import save_file
from small_runs import fingerprint, small_config
for name in {names!r}:
    algorithm = small_config(name).build_algo()
    for _ in range(3):
        algorithm.train()
    print("HASH", name, hashlib.sha256(fingerprint(algorithm)).hexdigest())
"""


NOT_LONG = ("RMIX", "LHIQN")
OTHERS = [name for name in rllib_risk.algorithms.ALGORITHMS if name not in NOT_LONG]


@pytest.mark.parametrize(
    "names",
    [NOT_LONG, *(pytest.param((name,), marks=pytest.mark.long) for name in OTHERS)],
    ids="-".join,
)
def test_two_processes_with_one_seed_are_identical(names):
    """R10: every algorithm, two hash seeds, three iterations."""
    code = DETERMINISM.format(names=names)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in (0, 1)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    hashes = [
        [line.split()[1:] for line in out.splitlines() if line.startswith("HASH")]
        for out in outputs
    ]
    assert [name for name, _ in hashes[0]] == [*names]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("name", sorted(value_based()))
def test_stopping_and_resuming_changes_nothing(name, tmp_path):
    """R13: six iterations equal three, a checkpoint, a new algorithm and three more."""
    results, again, resumed = straight_and_resumed(name, tmp_path)
    for a, b in zip(again, results[3:], strict=True):
        assert a["training_iteration"] == b["training_iteration"]
        np.testing.assert_equal(logged(a), logged(b))
    resumed.stop()


def test_evaluation_of_a_checkpoint_repeats_the_logged_one(tmp_path):
    algorithm = small_config("RMIX").build_algo()
    logged_evaluation = algorithm.train()["evaluation"]
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.stop()
    loaded = rllib_risk.load(tmp_path)
    evaluation = loaded.evaluate_episodes(3)
    for key in ("return_mean", "return_cvar_10", "success_rate", "risk_level_mean"):
        assert evaluation[key] == logged_evaluation[key], key
    loaded.stop()


def test_a_result_without_an_evaluation_repeats_the_last_one(tmp_path):
    config = small_config("VDN")
    config.evaluation_interval = 2
    algorithm = config.build_algo()
    first, second, third = (algorithm.train() for _ in range(3))
    assert "evaluation" not in first
    assert second["evaluation"]["age_iterations"] == 0
    assert third["evaluation"] == {**second["evaluation"], "age_iterations": 1}
    algorithm.save_checkpoint(str(tmp_path))
    heir = config.copy(copy_frozen=False).build_algo()
    heir.load_checkpoint(str(tmp_path))
    for goes_on in (algorithm, heir):
        fourth = goes_on.train()["evaluation"]
        assert fourth["age_iterations"] == 0
        fifth = goes_on.train()["evaluation"]
        assert fifth == {**fourth, "age_iterations": 1}
    # Until it evaluates, the heir reports the evaluation of the checkpoint.
    heir.load_checkpoint(str(tmp_path))
    assert heir._last_evaluation["return_mean"] == second["evaluation"]["return_mean"]
    assert heir._evaluation_age == 1
    algorithm.stop()
    heir.stop()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, ray_local):
    """Two checkpoints of one run: after one and after two iterations."""
    root = tmp_path_factory.mktemp("trial")
    algorithm = small_config("QMIX").build_algo()
    for index in range(2):
        algorithm.train()
        folder = root / f"checkpoint_{index:06d}"
        folder.mkdir()
        algorithm.save_checkpoint(str(folder))
    algorithm.stop()
    return root


@pytest.mark.parametrize(
    "damage",
    ["no manifest", "short replay", "missing file", "changed config", "empty manifest"],
)
def test_a_damaged_checkpoint_is_an_error(checkpoints, tmp_path, damage):
    """R25: no other checkpoint is loaded in its place."""
    root = tmp_path / "trial"
    shutil.copytree(checkpoints, root)
    last, before = root / "checkpoint_000001", root / "checkpoint_000000"
    if damage == "no manifest":
        (last / "manifest.json").unlink()
    elif damage == "short replay":
        data = (last / "replay.safetensors").read_bytes()
        (last / "replay.safetensors").write_bytes(data[: len(data) // 2])
    elif damage == "missing file":
        (last / "policy.safetensors").unlink()
    elif damage == "changed config":
        text = (last / "config.json").read_text().replace("QMIX", "VDN")
        (last / "config.json").write_text(text)
    else:
        (last / "manifest.json").write_text("")
    with pytest.raises(CheckpointError, match="checkpoint_000001"):
        rllib_risk.load(last)
    algorithm = small_config("QMIX").build_algo()
    fresh = fingerprint(algorithm)
    for door in (
        algorithm.load_checkpoint,
        algorithm.restore,
        algorithm.restore_from_path,
    ):
        with pytest.raises(CheckpointError, match="checkpoint_000001"):
            door(str(last))
    assert fingerprint(algorithm) == fresh
    algorithm.restore_from_path(before)
    assert algorithm.iteration == 1
    algorithm.stop()


def test_a_folder_that_is_no_checkpoint_is_an_error(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "checkpoint_000000", tmp_path / "macn_1")
    shutil.copytree(checkpoints / "checkpoint_000001", tmp_path / "checkpoint_000001")
    for missing in ("macn_57", "checkpoint_000003"):
        with pytest.raises(CheckpointError, match=f"no checkpoint folder.*{missing}"):
            rllib_risk.load(tmp_path / missing)
    with pytest.raises(CheckpointError, match=r"holds some.*checkpoint_000001\."):
        rllib_risk.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint of this package"):
        rllib_risk.load(tmp_path / "empty")


def test_other_from_checkpoint_methods_name_rllib_risk_load(checkpoints):
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.policy.policy import Policy

    folder = checkpoints / "checkpoint_000001"
    doors = (Algorithm, Policy, TeamAlgorithm.policy_class)
    for door in doors:
        with pytest.raises(ValueError, match=r"rllib_risk\.load\(path\)"):
            door.from_checkpoint(str(folder))
    VDN, QMIX = config_class("VDN")().algo_class, config_class("QMIX")().algo_class
    with pytest.raises(CheckpointError, match=r"checkpoint of QMIX, not of VDN\."):
        VDN.from_checkpoint(folder)
    QMIX.from_checkpoint(folder).stop()


def rehash(folder):
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["sha256"]:
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        manifest["sha256"][name] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))


class Canary:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (Path(self.path), "executed")


@pytest.mark.parametrize("name", ["policy", "optimizers", "replay"])
def test_a_pickle_in_a_checkpoint_is_refused_and_not_run(checkpoints, tmp_path, name):
    """R25: a pickle with checksums that match."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoints / "checkpoint_000001", folder)
    canary = tmp_path / "canary"
    payload = pickle.dumps(Canary(str(canary)))
    (folder / f"{name}.safetensors").write_bytes(payload)
    rehash(folder)
    with pytest.raises(CheckpointError, match=name):
        rllib_risk.load(folder)
    assert not canary.exists()


def test_a_tune_pickle_in_a_checkpoint_is_refused(checkpoints, tmp_path):
    """R25: Tune would load this file before the checkpoint is checked."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoints / "checkpoint_000001", folder)
    canary = tmp_path / "canary"
    (folder / "_dict_checkpoint.pkl").write_bytes(pickle.dumps(Canary(str(canary))))
    algorithm = small_config("QMIX").build_algo()
    with pytest.raises(CheckpointError, match="holds a pickle"):
        algorithm.restore(str(folder))
    with pytest.raises(CheckpointError, match="holds a pickle"):
        algorithm.restore(ray.tune.Checkpoint.from_directory(folder))
    algorithm.stop()
    assert not canary.exists()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("state.json", lambda value: value.pop("counters")),
        ("state.json", lambda value: value.update(counters=[1])),
        ("state.json", lambda value: value.update(episode_history=[1])),
        ("config.json", lambda value: value.update(config=3)),
        ("config.json", lambda value: value["config"].update(evaluation_config=[1])),
        ("config.json", lambda value: value["config"].update(hidden_size="wide")),
    ],
)
def test_odd_contents_with_right_checksums_are_refused(
    checkpoints, tmp_path, file, change
):
    """R25: a checkpoint that another program wrote."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoints / "checkpoint_000001", folder)
    value = json.loads((folder / file).read_text())
    change(value)
    (folder / file).write_text(json.dumps(value))
    rehash(folder)
    with pytest.raises((CheckpointError, ConfigError)):
        rllib_risk.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("iteration", "3"),
        ("iteration", 1e999),
        ("iteration", True),
        ("counters", {"num_rounds_lifetime": "four"}),
        ("counters", {"num_episodes_lifetime": 1e999}),
        ("counters", {"num_updates_lifetime": math.nan}),
        ("counters", {"num_env_steps_sampled": 2.5}),
        ("updates_owed", math.nan),
        ("updates_owed", "1"),
        ("last", {"target_update": "long ago"}),
        ("success_rate", "high"),
        ("last_evaluation", [1]),
        ("evaluation_age", None),
        ("learner_stats", {"td_loss": "small"}),
        ("learner_stats", "none"),
        ("episode_history", [["2", 7.0, {}]]),
        ("episode_history", [[2, math.nan, {}]]),
        ("episode_history", [[2, 7.0, {"is_success": "yes"}]]),
    ],
)
def test_a_state_of_other_types_is_refused_by_key(checkpoints, tmp_path, key, value):
    """R25: it would end a run later, with a raw error."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoints / "checkpoint_000001", folder)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, key: value}))
    rehash(folder)
    with pytest.raises(CheckpointError, match=rf"state\.json: {key} must be "):
        small_config("QMIX").algo_class._restore_contents(None, folder)


def test_parameters_that_are_not_finite_are_refused(tmp_path):
    """R25: the message names the file and the tensor."""
    named = {"network.w": torch.tensor([1.0, math.nan])}
    save_file(named, tmp_path / "policy.safetensors")
    with pytest.raises(
        CheckpointError, match=r"policy\.safetensors: network\.w holds N"
    ):
        ckpt.load_parameters(tmp_path, {"network.w": torch.zeros(2)})


def forge(checkpoints, tmp_path, change):
    """A copy of a checkpoint with another config.json and checksums that match."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoints / "checkpoint_000001", folder)
    record = json.loads((folder / "config.json").read_text())
    change(record)
    (folder / "config.json").write_text(json.dumps(record))
    rehash(folder)
    return folder


@pytest.mark.parametrize("where", ["env_config", "env_variants", "evaluation_config"])
def test_a_checkpoint_cannot_call_a_factory_unasked(checkpoints, tmp_path, where):
    canary = tmp_path / "canary"
    env_config = {
        "factory": "os:system",
        "kwargs": {"command": f"touch {canary}"},
    }

    def change(record):
        if where == "env_config":
            record["config"]["env"] = "pettingzoo"
            record["config"]["env_config"] = env_config
        elif where == "env_variants":
            record["config"]["env"] = "pettingzoo"
            record["config"]["env_variants"] = [{}, env_config]
        else:
            evaluation = {"env": "pettingzoo", "env_config": env_config}
            record["config"]["evaluation_config"] = evaluation

    with pytest.raises(CheckpointError, match=r"os:system.*--trust-code"):
        rllib_risk.load(forge(checkpoints, tmp_path, change))
    assert not canary.exists()


@pytest.mark.parametrize("section", ["config", "evaluation_config"])
@pytest.mark.parametrize("key", ["mixer", "risk_measure"])
def test_a_checkpoint_cannot_import_a_part_unasked(
    checkpoints, tmp_path, monkeypatch, key, section
):
    canary = tmp_path / "canary"
    code = f"import pathlib; pathlib.Path({str(canary)!r}).touch()"
    module = f"evil_{section}_{key}"
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    def change(record):
        config = record["config"]
        config["num_atoms"] = 4
        if section == "evaluation_config":
            config[section] = config = {}
        config[key] = f"{module}:Part"

    folder = forge(checkpoints, tmp_path, change)
    with pytest.raises(CheckpointError, match=f"{module}:Part.*--trust-code"):
        rllib_risk.load(folder)
    assert not canary.exists()
    # With trust_code the module is imported, and refused for its contents.
    with pytest.raises(ValueError, match=f"{key}.*no class 'Part'"):
        rllib_risk.load(folder, trust_code=True)
    assert canary.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("config_class", "subprocess:Popen"), ("config_class", None)],
)
def test_a_checkpoint_cannot_name_a_foreign_class(checkpoints, tmp_path, key, value):
    folder = forge(checkpoints, tmp_path, lambda record: record.update({key: value}))
    with pytest.raises(CheckpointError, match="configuration class"):
        rllib_risk.load(folder)


def test_a_checkpoint_cannot_set_unlisted_keys(checkpoints, tmp_path):
    def change(record):
        record["config"]["sample_collector"] = "os.system"

    with pytest.raises(CheckpointError, match="unknown keys: sample_collector"):
        rllib_risk.load(forge(checkpoints, tmp_path, change))


@pytest.mark.parametrize("full", ["save_tensors", "save_arrays", "_write_json"])
def test_a_failed_write_keeps_the_previous_checkpoint(
    checkpoints, tmp_path, monkeypatch, full
):
    """A failed write leaves no folder that passes as a checkpoint."""
    root = tmp_path / "trial"
    shutil.copytree(checkpoints, root)
    last, new = root / "checkpoint_000001", root / "checkpoint_000002"
    algorithm = rllib_risk.load(last)
    new.mkdir()

    def no_space(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ckpt, full, no_space)
        with pytest.raises(OSError, match="No space left"):
            algorithm.save_checkpoint(str(new))
        # The same over an older checkpoint: the mixture must not pass as one.
        with pytest.raises(OSError, match="No space left"):
            algorithm.save_checkpoint(str(last))
    algorithm.stop()
    for broken in (new, last):
        with pytest.raises(CheckpointError, match=r"cut short|no checkpoint"):
            ckpt.verify_checkpoint(broken)
    ckpt.verify_checkpoint(root / "checkpoint_000000")


def test_a_checkpoint_of_another_shape_is_refused(checkpoints):
    """R25: nothing of it is loaded."""
    algorithm = small_config("QMIX", hidden_size=8).build_algo()
    before = fingerprint(algorithm)
    with pytest.raises(CheckpointError, match=r"shape"):
        algorithm.load_checkpoint(str(checkpoints / "checkpoint_000001"))
    assert fingerprint(algorithm) == before
    algorithm.stop()


def test_target_network_is_copied_at_the_episode_interval():
    # Fact 31: equal right after the copy, different one step later.
    config = small_config("VDN", updates_per_episode=0.25)
    config.training(target_update_interval_episodes=12)
    algorithm = config.build_algo()
    policy = algorithm.team_policy
    copied = []
    for _ in range(10):  # rounds of 4 episodes with one update each
        algorithm.training_step()
        online, target = policy.network.parameters(), policy.target_network.parameters()
        copied.append(
            all(torch.equal(a, b) for a, b in zip(online, target, strict=True))
        )
    # Learning starts at 8 episodes; the online network differs from then on. The first
    # copy comes 12 episodes after the start, in round 3, then in rounds 6 and 9.
    assert copied == [True, False, True] + [False, False, True] * 2 + [False]
    algorithm.stop()


def test_one_update_per_episode_from_the_32nd_on():
    # Fact 31, PyMARL's protocol with one environment.
    config = config_class("VDN")().environment("macn").debugging(seed=0)
    algorithm = config.training(hidden_size=4).build_algo()
    counts = []
    for _ in range(34):
        algorithm.training_step()
        counts.append(algorithm._counters["num_updates_lifetime"])
    assert counts == [0] * 31 + [1, 2, 3]
    algorithm.stop()


def test_quantile_steps_keep_their_interval_and_their_gate():
    # Fact 16, strict inequalities: over the threshold, more than qr_start_step.
    # The small run sets qr_start_step, a key that this gate does not have.
    keys = {"qr_gate": "winrate", "qr_interval": 10, "unused_keys": "ignore"}
    algorithm = small_config("RMIX", **keys).build_algo()
    gate = algorithm.team_policy.learning.gate
    algorithm._counters["num_env_steps_sampled"] = 100
    for rate, due in ((None, False), (0.35, False), (0.36, True)):
        algorithm._last["quantile_step"], algorithm._success_rate = 0, rate
        assert algorithm._quantile_step_is_due(gate) is due
    algorithm._counters["num_env_steps_sampled"] = 109
    assert not algorithm._quantile_step_is_due(gate)
    algorithm._counters["num_env_steps_sampled"] = 110
    assert algorithm._quantile_step_is_due(gate)
    algorithm.stop()
    algorithm = small_config("RMIX", qr_start_step=50).build_algo()
    gate = algorithm.team_policy.learning.gate
    algorithm._counters["num_env_steps_sampled"] = 50
    assert not algorithm._quantile_step_is_due(gate)
    algorithm._counters["num_env_steps_sampled"] = 51
    assert algorithm._quantile_step_is_due(gate)
    algorithm.stop()


def test_a_run_without_a_seed_reports_the_one_it_drew():
    config = small_config("VDN")
    config.seed = None
    algorithm = config.build_algo()
    assert isinstance(algorithm.train()["seed"], int)
    algorithm.stop()


def test_rllibs_own_sampler_accepts_the_policy():
    from ray.rllib.evaluation.rollout_worker import RolloutWorker

    config = small_config("RMIX")
    config.env_runner_cls = RolloutWorker
    config.rollout_fragment_length = 50
    algorithm = config.build_algo()
    worker = algorithm.env_runner
    batch = worker.sample()
    assert batch.env_steps() == 200
    actions = (
        batch["default_policy"]["actions"]
        if hasattr(batch, "policy_batches")
        else batch["actions"]
    )
    assert actions.shape == (200, 2) and actions.max() < 4
    algorithm.stop()


PADDED = {"sequence_length": 1, "window_padding": "zeros"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("RMIX", {}),
        ("RMIX", {"acting_window": 3}),
        ("QMIX", {"acting_window": 1}),
        ("QMIX", {"acting_window": 4, "rnn_cell": "lstm"}),
        ("RMIX", {"acting_window": 3, **PADDED}),
        ("QMIX", {"acting_window": 4, "rnn_cell": "lstm", **PADDED}),
        ("QMIX", {"recurrent": False}),
        ("QPLEX", {"rnn_cell": "lstm"}),
    ],
)
def test_rllibs_actions_equal_the_players_actions(name, changes):
    algorithm = small_config(name, **changes).build_algo()
    policy = algorithm.team_policy
    # With fresh weights, utilities hardly depend on earlier observations.
    for parameter in policy.network.parameters():
        parameter.data.mul_(3.0)
    env = make_team_env("macn")
    player = PolicyPlayer(policy, num_envs=1)
    for seed in range(2):
        obs, _ = env.reset(seed=seed)
        state, several = None, {}
        for _ in range(8):
            actions, _ = player.act(obs["obs"][None], obs["action_mask"][None])
            single, state, _ = algorithm.compute_single_action(
                obs, state=state, explore=False
            )
            both, several, _ = algorithm.compute_actions(
                {"a": obs, "b": obs}, state=several, explore=False
            )
            taken = [single.tolist(), both["a"].tolist(), both["b"].tolist()]
            assert taken == [actions[0].tolist()] * 3
            obs, _, terminated, truncated, _ = env.step(actions[0])
            if terminated or truncated:
                break
        player.reset(np.array([0]))
    algorithm.stop()


def test_rllibs_actions_explore_without_advancing_the_schedule():
    algorithm = small_config("QMIX", initial_epsilon=0.5).build_algo()
    policy = algorithm.team_policy
    obs, _ = make_team_env("macn").reset(seed=0)
    batch = {key: np.stack([value] * 500) for key, value in obs.items()}
    greedy, _, _ = policy.compute_actions(batch, explore=False)
    explored, _, _ = policy.compute_actions(batch, explore=True)
    again, _, _ = policy.compute_actions(batch, explore=True)
    available = obs["action_mask"].sum(axis=-1)
    expected = (0.5 * (1 - 1 / available)).mean()
    assert (explored != greedy).mean() == pytest.approx(expected, abs=0.06)
    assert (explored != again).any()
    assert policy.global_timestep == 0
    with pytest.raises(ValueError, match=r"state: has shapes .*get_initial_state"):
        algorithm.compute_single_action(obs, state=[np.zeros(3)])
    algorithm.stop()


@pytest.mark.parametrize("name", ["RMIX", "QMIX"])
def test_a_compact_replay_changes_no_loss_by_a_thousandth(name):
    """Episodes and draws are the same; coordinates are no multiples of 2^-11."""
    losses = []
    for compact in (False, True):
        config = small_config(name, compact_replay=compact)
        config.environment(env_config={"state_encoding": "coordinates"})
        algorithm = config.build_algo()
        result = algorithm.train()
        assert result["num_updates_lifetime"] > 0
        losses.append(result["learner"]["td_loss"])
        algorithm.stop()
    exact, near = losses
    assert near == pytest.approx(exact, rel=1e-3)
    assert near != exact


def test_a_learning_rate_follows_its_points():
    points = [[0, 1e-3], [120, 1e-4]]
    algorithm = small_config("RMIX", lr=points, qr_lr=4e-5).build_algo()
    td, quantile = algorithm.team_policy._optimizers
    assert [group["lr"] for group in td.param_groups] == [1e-3, 1e-3]
    algorithm.train()
    assert 0 < algorithm.env_steps < 120
    expected = 1e-3 - 9e-4 * algorithm.env_steps / 120
    assert [g["lr"] for g in td.param_groups] == pytest.approx([expected, expected])
    algorithm.train()
    assert [group["lr"] for group in td.param_groups] == [1e-4, 1e-4]
    assert quantile.param_groups[0]["lr"] == 4e-5
    algorithm.stop()


def test_a_mutated_learning_rate_survives_the_checkpoint(tmp_path):
    """R32: PBT loads a checkpoint into a trial with changed values.

    Moments come from the checkpoint, learning rates from the configuration.
    """
    donor = small_config("RMIX", lr=1e-3).build_algo()
    donor.train()
    donor.save_checkpoint(str(tmp_path))
    heir = small_config("RMIX", lr=2e-3, risk_lr=3e-3, qr_lr=4e-5).build_algo()
    heir.load_checkpoint(str(tmp_path))
    td, quantile = heir.team_policy._optimizers
    assert [group["lr"] for group in td.param_groups] == [2e-3, 3e-3]
    assert quantile.param_groups[0]["lr"] == 4e-5
    (donor_td, _) = donor.team_policy._optimizers
    moments = [o.state_dict()["state"][0]["exp_avg"] for o in (td, donor_td)]
    assert torch.equal(*moments)
    donor.stop()
    heir.stop()


def test_a_mutated_level_and_epsilon_survive_the_checkpoint(tmp_path):
    """R32: learning and playing use the level and epsilon of the new trial."""
    static = {"risk_mode": "static", "risk_lr": None}
    donor = small_config("RMIX", alpha=1.0, **static).build_algo()
    donor.train()
    donor.save_checkpoint(str(tmp_path))
    donor.stop()
    still = {"initial_epsilon": 0.25, "final_epsilon": 0.25}
    heir = small_config("RMIX", alpha=0.3, **static, **still).build_algo()
    heir.load_checkpoint(str(tmp_path))
    policy = heir.team_policy
    for network in (policy.network, policy.target_network):
        assert [float(level) for level in network.risk.levels] == [0.3]
    result = heir.train()
    assert result["training_iteration"] == 2
    assert result["epsilon"] == 0.25
    assert result["evaluation"]["risk_level_mean"] == pytest.approx(0.3)
    heir.stop()
