"""Files of results: written, read back, merged and drawn, and what is refused."""

import csv
import io
import json

import pytest
from refusals import refused
from rich.console import Console
from test_results import write_trial

from rllib_risk.evaluation.leaderboard import merge, write_leaderboard
from rllib_risk.evaluation.results import Plan, ResultsError, write_plan
from rllib_risk.evaluation.results_file import (
    read_results,
    task_name,
    write_results,
)

CODE = {"rllib_risk": "0.2", "git_commit": "abc", "git_modified": False}
LBF = {"id": "Foraging-8x8-2p-2f-coop-v3"}
TASK = LBF["id"]
METRIC = "evaluation/return_mean"


def compare(folder, runs, *, env_config=LBF, lr=0.01):
    """Writes a comparison of QMIX on lbf. `runs` maps seeds to `write_trial` points."""
    for seed, points in runs.items():
        write_trial(folder / f"QMIX_seed_{seed}", points, {"seed": seed})
    config = {"env_config": {**env_config, "state": "concat_obs"}, "lr": lr, "seed": 9}
    details = {"QMIX": {"run": "QMIX", "env": "lbf", "config": config}}
    plan = Plan({f"QMIX_seed_{seed}": "QMIX" for seed in runs}, (), details)
    write_plan(folder, plan)
    return write_results(folder, METRIC, "rllib compare my.yaml", CODE)


def save(path, data):
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def foreign(*runs, algorithm="MAPPO", task=TASK, metric="mean_episode_return"):
    """Contents in marl-eval's form; a run has pairs of step count and returns."""
    named = {
        f"run_{i}": {
            **{
                f"step_{k}": {"step_count": count, metric: returns}
                for k, (count, returns) in enumerate(points, start=1)
            },
            "absolute_metrics": {metric: points[-1][1]},
        }
        for i, points in enumerate(runs, start=1)
    }
    return {"lbf": {task: {algorithm: named}}}


def test_a_comparison_is_written_and_read_back(tmp_path):
    points = {0: [(10, 0.25, 0.125), (20, 0.5, 0.375)], 1: [(10, 0.75, 0.5)]}
    files = compare(tmp_path, points)
    assert [file.name for file in files] == ["results.json", "marl_eval.json"]
    whole = json.loads(files[0].read_text())
    assert (whole["command"], whole["code"]) == ("rllib compare my.yaml", CODE)
    first, second = read_results(files[0])
    assert (first.environment, first.task, first.algorithm) == ("lbf", TASK, "QMIX")
    assert (first.name, second.name) == ("0", "1")
    assert first.config_hash == second.config_hash
    last = first.evaluations[1]
    # `write_trial` writes one second per 100 env steps.
    assert (last.env_steps, last.seconds) == (20, 0.2)
    assert last.metrics == {"return_mean": [0.5], "return_cvar_10": [0.375]}
    early, late = (
        {"return": [mean], "return_cvar_10": [cvar]}
        for mean, cvar in ((0.25, 0.125), (0.5, 0.375))
    )
    only = {"return": [0.75], "return_cvar_10": [0.5]}
    runs = {
        "run_1": {
            "step_1": {"step_count": 10, **early},
            "step_2": {"step_count": 20, **late},
            "absolute_metrics": late,
        },
        "run_2": {"step_1": {"step_count": 10, **only}, "absolute_metrics": only},
    }
    exported = json.loads(files[1].read_text())
    assert exported == {"lbf": {TASK: {"QMIX": runs}}}
    # The export is a file of results too.
    again = read_results(files[1])
    assert [e.env_steps for e in again[0].evaluations] == [10, 20]


def test_failed_trials_and_runs_without_an_env_are_left_out(tmp_path):
    compare(tmp_path, {0: [(10, 1.0)], 1: [(10, 2.0)]})
    plan = json.loads((tmp_path / "comparison.json").read_text())
    write_plan(tmp_path, Plan(plan["labels"], ("QMIX_seed_0",), plan["details"]))
    files = write_results(tmp_path, METRIC, "rllib compare", CODE)
    assert [run.name for run in read_results(files[0])] == ["1"]
    assert write_results(tmp_path, "off_policy/return_mean", "", CODE) == []


def test_results_of_machines_and_programs_are_merged(tmp_path):
    """Three seeds of two machines, and two runs of another program."""
    one, _ = compare(
        tmp_path / "a", {0: [(10, 0.0, 0.0), (20, 1.0, 0.5)], 1: [(20, 2.0, 1.0)]}
    )
    two, _ = compare(tmp_path / "b", {2: [(20, 6.0, 3.0)]})
    returns = list(range(10))
    theirs = save(
        tmp_path / "theirs.json",
        foreign([(10, [0.0]), (20, returns)], [(20, [5.5] * 10)]),
    )
    console = Console(file=io.StringIO(), width=200)
    files = write_leaderboard([one, two, one, theirs], tmp_path / "board", console)
    stem = f"lbf-{TASK}"
    names = [f"{stem}.{suffix}" for suffix in ("png", "csv", "md", "tex")]
    assert [file.name for file in files] == [*names, "leaderboard.csv"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    with files[-1].open(newline="") as file:
        ours, other = csv.DictReader(file)
    # IQM of three seeds: their mean, (1 + 2 + 6) / 3; CVaR (0.5 + 1 + 3) / 3.
    assert (ours["algorithm"], ours["seeds"]) == ("QMIX", "3")
    assert (ours["iqm"], ours["cvar_10"]) == ("3", "1.5")
    assert (ours["ci95_low"], ours["ci95_high"]) == ("1", "6")
    # (4.5 + 5.5) / 2; the lowest tenth of ten returns is the lowest: (0 + 5.5) / 2.
    assert (other["algorithm"], other["seeds"]) == ("MAPPO", "2")
    assert (other["iqm"], other["cvar_10"]) == ("5", "2.75")
    assert "| QMIX | 3 | 3 [1, 6] | 1.5 |" in files[2].read_text()
    assert f"lbf: {TASK}" in console.file.getvalue()


def test_tasks_have_figures_of_their_own(tmp_path):
    one, _ = compare(tmp_path / "a", {0: [(10, 1.0)]})
    other, _ = compare(tmp_path / "b", {0: [(10, 2.0)]}, env_config={"sight": 2})
    files = write_leaderboard([one, other], tmp_path, Console(file=io.StringIO()))
    figures = [file.name for file in files if file.suffix == ".png"]
    # One algorithm alone has no profile.
    assert figures == [f"lbf-{TASK}.png", "lbf-sight=2.png"]


def test_a_profile_over_tasks(tmp_path):
    """Hand-worked scores; an algorithm without runs on every task is left out."""
    # Task a: evaluations from 0 to 10. Task b: from 0 to 2.
    contents = {
        "QMIX": {"a": [0, 10, 5], "b": [2, 2]},
        "VDN": {"a": [5, 2.5], "b": [0, 1]},
        "COMA": {"a": [7]},
    }
    files = [
        save(
            tmp_path / f"{algorithm}-{task}.json",
            foreign(*([(1, [v])] for v in finals), algorithm=algorithm, task=task),
        )
        for algorithm, tasks in contents.items()
        for task, finals in tasks.items()
    ]
    console = Console(file=io.StringIO(), width=80)
    written = write_leaderboard(files, tmp_path / "board", console)
    board = {file.name: file for file in written}
    assert board["profile.png"].read_bytes().startswith(b"\x89PNG")
    # QMIX has 0, 1, .5 and 1, 1: without the extremes (.5 + 1 + 1) / 3.
    # VDN has .5, .25 and 0, .5: (.25 + .5) / 2.
    table = board["aggregate.md"].read_text()
    assert "| QMIX | 2 | 5 | 0.833 [" in table and "| VDN | 2 | 4 | 0.375 [" in table
    assert "Without runs on every task: COMA." in table
    assert r"QMIX & 2 & 5 & 0.833 [" in board["aggregate.tex"].read_text()
    assert "All tasks" in console.file.getvalue()
    with board["profile.csv"].open(newline="") as file:
        shares = {
            (r["algorithm"], r["score"]): r["share"] for r in csv.DictReader(file)
        }
    # Above .3: 2 of 3 and 2 of 2 runs of QMIX, 1 of 2 and 1 of 2 of VDN.
    assert float(shares["QMIX", "0.3"]) == pytest.approx(5 / 6)
    assert float(shares["VDN", "0.3"]) == 0.5


def test_runs_of_one_name_in_two_foreign_files_are_two_runs(tmp_path):
    one = save(tmp_path / "1.json", foreign([(10, [1.0])]))
    two = save(tmp_path / "2.json", foreign([(10, [2.0])]))
    (algorithms,) = merge([one, two, one]).values()
    assert len(algorithms["MAPPO"]) == 2


def test_contradictions_are_refused(tmp_path):
    one, _ = compare(tmp_path / "a", {0: [(10, 1.0)]})
    other, _ = compare(tmp_path / "b", {0: [(10, 2.0)]})
    with pytest.raises(ResultsError, match=r"QMIX/0: the evaluations of this seed"):
        merge([one, other])
    faster, _ = compare(tmp_path / "c", {1: [(10, 2.0)]}, lr=0.02)
    with pytest.raises(ResultsError, match=r"c/results.json: .* configuration differs"):
        merge([one, faster])


RUN = {
    "environment": "lbf",
    "task": "t",
    "algorithm": "QMIX",
    "seed": "0",
    "config_hash": "1",
    "evaluations": [{"env_steps": 1, "seconds": None, "metrics": {"return_mean": 1}}],
}


def ours(**changes):
    return {"format": "rllib_risk results", "version": 1, "runs": [RUN | changes]}


def step(**changes):
    run = {"step_1": {"step_count": 1, "return": [1.0]} | changes}
    return {"lbf": {"t": {"QMIX": {"run_1": run}}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"file.json: is not JSON"),
        ([1], r"file.json: there must be an object of each environment"),
        ({"lbf": {"t": 3}}, r"file.json: lbf/t: there must be an object of each algo"),
        ({"lbf": {"t": {"Q": {}}}}, r"lbf/t/Q: there must be an object of each run"),
        ({"lbf": {"t": {"Q": {"r": {"step_1": {}}}}}}, r"lbf/t/Q/r/step_1: step_count"),
        (step(step_count="x"), r"run_1/step_1/step_count: 'x' is not a finite number"),
        (step(**{"return": []}), r"run_1/step_1/return: the list is empty"),
        (step(**{"return": [None]}), r"step_1/return: None is not a finite number"),
        (step(**{"return": '"'}), r"is not a finite number"),
        ({**ours(), "version": 2}, r"file.json: version: is 2"),
        ({**ours(), "runs": []}, r"file.json: runs: must be a list of at least one"),
        (ours(seed=None), r"runs\[0\]: seed: must be a text"),
        (ours(evaluations=[]), r"runs\[0\]: evaluations: there is no evaluation"),
        (ours(evaluations=[3]), r"evaluations\[0\]: must hold env_steps"),
        (ours(evaluations=RUN["evaluations"] * 2), r"two evaluations have 1 env steps"),
    ],
)
def test_damaged_files_name_the_place(tmp_path, content, message):
    file = save(tmp_path / "file.json", content)
    with pytest.raises(ResultsError, match=message):
        read_results(file)


def test_the_task_is_what_env_config_says():
    assert task_name("macn", {}) == "macn"
    noisy = {"env_config": {"width": 12, "reward_noise_std": 1.0, "state": "none"}}
    assert task_name("macn", noisy) == "reward_noise_std=1.0, width=12"
    # The task is that of the evaluation's environment.
    noisy["evaluation_config"] = {"env_config": {"reward_noise_std": 0.0}}
    assert task_name("macn", noisy) == "reward_noise_std=0.0, width=12"
    assert task_name("smac", {"env_config": {"map_name": "3m"}}) == "3m"


def test_the_command(tmp_path, capsys):
    file = save(tmp_path / "theirs.json", foreign([(10, [1.0])], [(10, [2.0])]))
    command = ["plot", "leaderboard", str(file), "--out", str(tmp_path / "board")]
    message = refused([*command, "--metric", "success_rate"], capsys)
    assert "there is no metric 'success_rate' in every evaluation" in message
    assert "mean_episode_return" in message
    message = refused([*command, str(tmp_path / "none.json")], capsys)
    assert "none.json: cannot be read" in message
