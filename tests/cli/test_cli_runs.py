"""Whole runs of the command, each in a process of its own."""

import contextlib
import csv
import json
import re
import shutil
import signal
import struct
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import finish, start, wait_for

from rllib_risk.cli.main import run

VDN = """
vdn-two-step:
  run: VDN
  env: two_step
  stop: {num_env_steps_sampled_lifetime: 400}
  config:
    min_sample_timesteps_per_iteration: 200
    num_envs_per_env_runner: 8
    evaluation_duration: 4
    hidden_size: 8
    seed: {grid_search: [1, 2]}
"""
PPO = """
cartpole-ppo:
  env: CartPole-v1
  run: PPO
  stop: {training_iteration: 1}
  config:
    framework: torch
    num_workers: 0
    train_batch_size: 200
    minibatch_size: 50
    num_epochs: 1
    lr: 3e-4
    model: {fcnet_hiddens: [8], vf_share_layers: true}
"""


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that outlive the commands started in `folder`."""
    # Ray's workers need some time to notice that the command has ended.
    end = time.monotonic() + 60
    while (left := processes(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def processes(folder: Path) -> list[str]:
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            if f"STARTED_IN={folder}".encode() in variables:
                left.append((process / "cmdline").read_text().replace("\0", " "))
    return left


def results(trial: Path) -> list[dict]:
    return [json.loads(line) for line in (trial / "result.json").open()]


def test_rllibs_own_algorithms_run_from_old_files(tmp_path: Path) -> None:
    (tmp_path / "ppo.yaml").write_text(PPO)
    printed, _ = finish(
        start(tmp_path, "train", "file", "ppo.yaml", "--storage-path", "results")
    )
    assert re.search(r"200 steps \| .*return +[0-9.]+ \| length", printed)
    trial = next((tmp_path / "results/cartpole-ppo").glob("PPO_*"))
    # The loggers that Tune's users expect.
    assert next(trial.glob("events.out.tfevents.*")).stat().st_size > 0
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])
    assert last["training_iteration"] == 1
    with (trial / "progress.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    assert f"rllib evaluate {trial}/checkpoint_000000 --algo PPO" in printed


def test_train_then_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_it_was: None
) -> None:
    (tmp_path / "vdn.yaml").write_text(VDN)
    options = ["--seed", "3", "--storage-path", "r", "--wandb-project", "p"]
    options.append("--profile")
    printed, errors = finish(start(tmp_path, "train", "file", "vdn.yaml", *options))
    lines = [line for line in printed.splitlines() if " steps | " in line]
    # --seed replaces the search space over seeds: one trial, two evaluations.
    assert len(lines) == 2 and "epsilon" in lines[0] and "CVaR 10%" in lines[0]
    assert "no key" in errors
    assert re.search(r"^Time, \d+ s: .*update .*%", printed, re.MULTILINE)
    assert re.search(r"backward +│ +[0-9.]+ +│ +[0-9.]+%", printed)
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    assert list((tmp_path / "r/vdn-two-step/wandb").glob("offline-run-*"))
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])
    assert last["seed"] == 3

    command = re.search(r"Evaluate it with: rllib (evaluate .*)", printed)
    assert command is not None
    printed, _ = finish(start(tmp_path, *command.group(1).split(), "--json"))
    result = json.loads(printed)  # one JSON object and nothing else
    # The last logged evaluation is repeated exactly.
    for key in ("episodes", "return_mean", "return_cvar_10", "success_rate"):
        assert result[key] == last["evaluation"][key], key
    assert len(result["returns"]) == 4

    checkpoint = Path(command.group(1).split()[1])
    state = checkpoint / "state.json"
    state.write_text(state.read_text()[:-10])
    assert run(["evaluate", str(tmp_path / checkpoint)]) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert "does not match its checksum" in errors and "Traceback" not in errors


def test_the_best_checkpoints_are_kept_and_not_the_newest(tmp_path: Path) -> None:
    # The score is a nested result that rises with every iteration. Lower is better, so
    # the first checkpoint is the best one. Tune also keeps the latest.
    keep = {
        "checkpoint_frequency": 1,
        "num_to_keep": 1,
        "checkpoint_score_attribute": "counters/num_env_steps_sampled",
        "checkpoint_score_order": "min",
    }
    text = VDN.replace("sampled_lifetime: 400", "sampled_lifetime: 800")
    text += f"  checkpoint_config: {json.dumps(keep)}\n"
    (tmp_path / "vdn.yaml").write_text(text)
    options = ["--seed", "3", "--storage-path", "r"]
    printed, _ = finish(start(tmp_path, "train", "file", "vdn.yaml", *options))
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    assert len((trial / "result.json").read_text().splitlines()) == 4
    kept = sorted(folder.name for folder in trial.glob("checkpoint_*"))
    assert kept == ["checkpoint_000000", "checkpoint_000003"]
    assert re.search(r"Evaluate it with: .*checkpoint_000000", printed)
    # The configuration stays readable.
    assert "TopLevelScore('counters/" in (trial / "params.json").read_text()


def test_ctrl_c_saves_and_resume_continues(tmp_path: Path) -> None:
    """R21: it ends within ten seconds, with a checkpoint and no leftover process.

    On a busy machine the end may take as long as the start.
    """
    long = VDN.replace("lifetime: 400", "lifetime: 100000000")
    (tmp_path / "long.yaml").write_text(long)
    options = ["train", "file", "long.yaml", "--storage-path", "r", "--seed", "0"]
    begun = time.monotonic()
    process = start(tmp_path, *options)
    wait_for(process, " steps | ")
    interrupted = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = finish(process, code=130)
    assert time.monotonic() - interrupted < max(10, interrupted - begun)
    assert "--resume" in errors and "Traceback" not in errors
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    assert (trial / "checkpoint_000000/manifest.json").is_file()
    assert left_behind(tmp_path) == []
    before = len(results(trial))

    # SIGTERM does the same, with another exit code.
    process = start(tmp_path, *options, "--resume")
    wait_for(process, " steps | ")
    process.send_signal(signal.SIGTERM)
    _, errors = finish(process, code=143)
    assert "SIGTERM: saving checkpoints" in errors and "--resume" in errors
    assert "Traceback" not in errors and "stack" not in errors
    assert (trial / "checkpoint_000001/manifest.json").is_file()
    assert left_behind(tmp_path) == []
    iterations = [row["training_iteration"] for row in results(trial)]
    assert len(iterations) > before
    # No gap and no repetition where the two runs meet.
    assert iterations == list(range(1, len(iterations) + 1))
    with (trial / "progress.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["training_iteration"]) for row in table] == iterations
    # The second run continues with the columns of the first one.
    assert [float(row["epsilon"]) for row in table] == [
        row["epsilon"] for row in results(trial)
    ]


def test_sigterm_while_an_env_is_built_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "def make():\n    print('building', flush=True)\n    time.sleep(99)\n"
    )
    text = VDN.replace("  env: two_step\n", "  env: pettingzoo\n")
    text = text.replace(
        "config:\n", "config:\n    env_config: {factory: 'slow:make'}\n"
    )
    (tmp_path / "slow.yaml").write_text(text)
    process = start(tmp_path, "train", "file", "slow.yaml", "--storage-path", "r")
    wait_for(process, "building")
    process.send_signal(signal.SIGTERM)
    _, errors = finish(process, code=143)
    assert "Ended by SIGTERM" in errors and "Traceback" not in errors
    assert not (tmp_path / "r").exists()


def test_after_sigkill_the_newest_whole_checkpoint_is_used(tmp_path: Path) -> None:
    """R13: a new process resumes, and a newer checkpoint is cut short."""
    text = VDN.replace("lifetime: 400", "lifetime: 2500")
    text += "  checkpoint_config: {checkpoint_frequency: 2}\n"
    whole = text.replace("vdn-two-step", "whole").lstrip()
    (tmp_path / "two.yaml").write_text(text + whole)
    options = ["train", "file", "two.yaml", "--storage-path", "r", "--seed", "0"]
    process = start(tmp_path, *options)
    wait_for(process, " 208 steps | ")
    (state,) = (tmp_path / "r/vdn-two-step").glob("experiment_state-*.json")
    early = state.read_text()
    wait_for(process, " 1,456 steps | ")
    process.send_signal(signal.SIGKILL)
    finish(process, code=-signal.SIGKILL)
    # Tune writes its state every ten seconds, so it may be an old one.
    state.write_text(early)
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    # The next checkpoint is cut short while it is written.
    shutil.copytree(trial / "checkpoint_000001", trial / "checkpoint_000007")
    (trial / "checkpoint_000007/manifest.json").unlink()

    printed, errors = finish(start(tmp_path, *options, "--resume"))
    errors = " ".join(errors.split())
    assert "checkpoint_000007 is not used: " in errors
    assert "holds no manifest.json: the checkpoint was cut short" in errors
    assert re.search("continues from checkpoint_00000[23], its newest", errors)
    assert (trial / "checkpoint_000008/manifest.json").is_file()
    assert re.search(r"vdn-two-step +done\n +whole +done", printed)
    # The second experiment, which had not begun, was never interrupted.
    (other,) = (tmp_path / "r/whole").glob("VDN_*")
    for one, two in zip(results(trial), results(other), strict=True):
        for key in ("training_iteration", "evaluation", "learner", "replay_episodes"):
            texts = [json.dumps(row[key], sort_keys=True) for row in (one, two)]
            assert texts[0] == texts[1], key


def records(file: Path) -> Iterator[Any]:
    """Reads the records of an offline run of W&B, a log in LevelDB's block format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, text = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        text += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # the whole record, or its last part
            record = Record()
            record.ParseFromString(text)
            yield record
            text = b""


def holds(file: Path, text: bytes) -> bool:
    try:
        return text in file.read_bytes()
    except OSError:  # a file that was removed, or a socket
        return False


def test_a_sweep_gives_complete_wandb_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R31: a sweep that is offline and resumed.

    R26: the key of W&B does not get into any file, log or printed line.
    """
    key = "5ec2e7" + "0123456789abcdef" * 2 + "99"
    # The folder of Ray's logs and sockets. A socket's path must be short.
    logs = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(logs))
    monkeypatch.setenv("WANDB_MODE", "offline")
    text = VDN.replace("num_env_steps_sampled_lifetime: 400", "training_iteration: 2")
    (tmp_path / "sweep.yaml").write_text(text)
    options = ["train", "file", "sweep.yaml", "--storage-path", "r"]
    options += ["--wandb-project", "p", "--wandb-key", key]
    said = [*finish(start(tmp_path, *options))]
    # A raised criterion continues the trials that had reached it.
    stop = ["--resume", "--stop", '{"training_iteration": 3}']
    said += finish(start(tmp_path, *options, *stop))
    assert "stop.training_iteration was 2 when the experiment in" in said[-1]
    # Nothing was changed since.
    said += finish(start(tmp_path, *options, *stop))
    assert "all 2 trial(s) in" in said[-2] and "already ended" in said[-2]
    written = [*tmp_path.rglob("*"), *logs.rglob("*")]
    assert len([file for file in written if file.suffix in (".log", ".json")]) > 20
    assert not [f for f in written if f.is_file() and holds(f, key.encode())]
    assert key not in "".join(said)
    shutil.rmtree(logs)

    steps = defaultdict(list)
    configs, summaries, ended = {}, defaultdict(dict), []
    folder = tmp_path / "r/vdn-two-step"
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(file):
            if record.HasField("run"):
                run = record.run
                assert (run.project, run.run_group) == ("p", "vdn-two-step")
                assert run.display_name == f"VDN_two_step_{run.run_id}"
                configs[run.run_id] = {
                    item.key: json.loads(item.value_json)
                    for item in run.config.update
                    if item.key != "_wandb"
                }
            if record.HasField("history"):
                steps[run.run_id].append(record.history.step.num)
            if record.HasField("summary"):
                for item in record.summary.update:
                    name = item.key or "/".join(item.nested_key)
                    summaries[run.run_id][name] = json.loads(item.value_json)
            if record.HasField("exit"):
                ended.append(run.run_id)
    assert len(configs) == 2 and sorted(ended) == sorted([*configs, *configs])
    assert sorted(config["seed"] for config in configs.values()) == [1, 2]
    for trial in folder.glob("VDN_*"):
        rows = results(trial)
        name = rows[0]["trial_id"]
        assert set(configs[name]) == {
            "env",
            "evaluation_duration",
            "hidden_size",
            "min_sample_timesteps_per_iteration",
            "num_envs_per_env_runner",
            "seed",
        }
        # Every result is logged once, the last one included.
        assert steps[name] == [row["num_env_steps_sampled_lifetime"] for row in rows]
        assert len(rows) == 3 and steps[name] == sorted(set(steps[name]))
        best = max(row["evaluation"]["return_mean"] for row in rows)
        assert summaries[name]["best/evaluation/return_mean"] == best
        assert summaries[name]["training_iteration"] == 3


def test_failures_name_their_causes_and_the_rest_still_runs(tmp_path: Path) -> None:
    (tmp_path / "burning.py").write_text(
        """
from rllib_risk.env_wrappers.games.two_step import TwoStepGame
class Burning(TwoStepGame):
    steps = 0
    def step(self, actions):
        Burning.steps += 1
        if Burning.steps > 20:
            raise RuntimeError("the simulator is on fire")
        return super().step(actions)
"""
    )
    env = "pettingzoo\n  max_failures: 0"
    text = VDN.replace("two_step\n", f"{env}\n", 1).replace(
        "config:\n", "config:\n    env_config: {factory: 'burning:Burning'}\n"
    )
    # Tune itself refuses the first experiment when it starts.
    refused = VDN.replace("vdn-two-step", "refused")
    refused += "  resources_per_trial: {cpu: 1}\n"
    several = [refused, text.replace("vdn-two-step", "fire"), VDN]
    (tmp_path / "fire.yaml").write_text("".join(several))
    options = ["--storage-path", "r", "--seed", "0"]
    process = start(tmp_path, "train", "file", "fire.yaml", *options)
    printed, errors = finish(process, code=1)
    assert "Error: experiment refused failed: " in errors
    assert "the simulator is on fire" in errors and "Traceback" not in errors
    assert len(errors) < 3000
    log = re.search(r"full text: (.*error\.txt)", errors)
    assert log is not None and Path(log.group(1)).is_file()
    # The experiment after the failed ones still runs.
    assert re.search(r"  refused +failed: .*Resources for", printed)
    assert re.search(r"  fire +failed: .*the simulator is on fire", printed)
    assert re.search(r"  vdn-two-step +done\n", printed)
