"""A trial's process is killed, and Tune starts it again from its last checkpoint."""

import csv
import json
import os
import signal
from pathlib import Path

from command import finish, start, wait_for
from test_cli_runs import VDN, results


def test_a_killed_trial_goes_on_without_a_gap_or_a_repetition(tmp_path: Path) -> None:
    """R18: the learning process gets SIGKILL, with `max_failures: 1`.

    R31: W&B is not installed, and no run needs it.
    """
    (tmp_path / "wandb.py").write_text("raise ImportError('not installed')\n")
    text = VDN.replace("lifetime: 400", "lifetime: 1400")
    text += "  checkpoint_config: {checkpoint_frequency: 3}\n  max_failures: 1\n"
    whole = text.replace("vdn-two-step", "whole").lstrip()
    (tmp_path / "two.yaml").write_text(text + whole)
    options = ["--storage-path", "r", "--seed", "0", "--ray-num-cpus", "2"]
    process = start(tmp_path, "train", "file", "two.yaml", *options)
    # The first checkpoint is that of iteration 3; iterations 4 and 5 are lost.
    wait_for(process, " 1,040 steps | ")
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    os.kill(results(trial)[0]["pid"], signal.SIGKILL)
    printed, errors = finish(process)
    assert "failed and restarts from its last checkpoint" in printed
    assert "Traceback" not in errors

    (other,) = (tmp_path / "r/whole").glob("VDN_*")
    rows, expected = results(trial), results(other)
    assert len({row["pid"] for row in rows}) == 2
    steps = [row["num_env_steps_sampled_lifetime"] for row in rows]
    assert steps == sorted(set(steps))
    # The results equal those of an undisturbed run, to the last digit.
    for one, two in zip(rows, expected, strict=True):
        for key in ("training_iteration", "evaluation", "learner", "replay_episodes"):
            texts = [json.dumps(row[key], sort_keys=True) for row in (one, two)]
            assert texts[0] == texts[1], key
    with (trial / "progress.csv").open() as file:
        table = [int(row["training_iteration"]) for row in csv.DictReader(file)]
    assert table == [row["training_iteration"] for row in rows]
