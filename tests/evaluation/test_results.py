"""Reading and grouping the folders that Ray Tune writes."""

import json
import logging

import pytest

from rllib_risk.evaluation.results import (
    Plan,
    ResultsError,
    read_groups,
    read_plan,
    write_plan,
)


def write_trial(folder, points, params=None, metric="return_mean"):
    """Writes a trial of (env steps, value[, CVaR]) points, as Tune does."""
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params or {}))
    lines = [
        {
            "num_env_steps_sampled_lifetime": steps,
            "time_total_s": steps / 100,
            "evaluation": {metric: value, **({"return_cvar_10": cvar} if cvar else {})},
            "config": {"gamma": 0.99},
        }
        for steps, value, cvar in ((*point, None)[:3] for point in points)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "result.json").write_text(text)
    return folder


def test_seeds_of_an_experiment_form_one_group(tmp_path):
    for seed in (0, 1, 2):
        params = {"seed": seed, "env_config": {"width": 7, "seed": seed}}
        write_trial(tmp_path / "rmix" / f"trial_{seed}", [(10, -9.0)], params)
    (group,) = read_groups([tmp_path])
    assert group.label == "rmix"
    assert group.count_text == "3 seeds"
    run = group.runs[0]
    assert (run.seed, run.x[0], run.y[0], run.seconds[0]) == (0, 10.0, -9.0, 0.1)


def test_parameters_that_differ_are_in_the_label(tmp_path):
    for level in (0.3, 1.0):
        for seed in (0, 1):
            params = {"seed": seed, "risk": {"level": level}, "gamma": 0.99}
            write_trial(tmp_path / "sweep" / f"{level}_{seed}", [(10, 1.0)], params)
    labels = [(g.label, len(g.runs)) for g in read_groups([tmp_path / "sweep"])]
    assert labels == [("sweep, risk/level=0.3", 2), ("sweep, risk/level=1.0", 2)]


def test_trial_experiment_and_parent_are_all_accepted_and_counted_once(tmp_path):
    trial = write_trial(tmp_path / "a" / "t0", [(10, 1.0)], {"seed": 0})
    write_trial(tmp_path / "b" / "t0", [(10, 2.0)], {"seed": 0})
    assert [g.label for g in read_groups([trial])] == ["a"]
    groups = read_groups([tmp_path, tmp_path / "a", trial])
    assert [(g.label, len(g.runs)) for g in groups] == [("a", 1), ("b", 1)]


def test_experiments_of_the_same_name_are_told_apart_by_their_parents(tmp_path):
    write_trial(tmp_path / "old" / "rmix" / "t0", [(10, 1.0)])
    write_trial(tmp_path / "new" / "rmix" / "t0", [(10, 2.0)])
    assert [g.label for g in read_groups([tmp_path])] == ["new/rmix", "old/rmix"]


def test_repeated_or_missing_seeds_are_called_runs(tmp_path):
    write_trial(tmp_path / "a" / "t0", [(10, 1.0)], {"seed": 0})
    write_trial(tmp_path / "a" / "t1", [(10, 1.0)], {"seed": 0})
    write_trial(tmp_path / "b" / "t0", [(10, 1.0)])
    assert [g.count_text for g in read_groups([tmp_path])] == ["2 runs", "1 run"]


def test_steps_that_a_restored_run_repeats_replace_the_first_ones(tmp_path):
    points = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 20.0), (30, 30.0)]
    write_trial(tmp_path / "a" / "t0", points)
    (group,) = read_groups([tmp_path])
    assert group.runs[0].x.tolist() == [10, 20, 30]
    assert group.runs[0].y.tolist() == [1, 20, 30]


def test_half_a_line_at_the_end_is_left_out_but_not_in_the_middle(tmp_path):
    file = write_trial(tmp_path / "a" / "t0", [(10, 1.0)]) / "result.json"
    whole = file.read_text()
    file.write_text(whole + whole[:20])
    assert read_groups([tmp_path])[0].runs[0].x.tolist() == [10]
    file.write_text(whole[:20] + "\n" + whole)
    with pytest.raises(ResultsError, match=r"result.json, line 1: not JSON"):
        read_groups([tmp_path])


def test_rows_without_a_finite_value_are_skipped(tmp_path):
    write_trial(tmp_path / "a" / "t0", [(10, float("nan")), (20, None), (30, 3.0)])
    assert read_groups([tmp_path])[0].runs[0].x.tolist() == [30]


def test_a_trial_without_the_metric_is_left_out_with_a_warning(tmp_path, caplog):
    write_trial(tmp_path / "a" / "t0", [(10, 1.0)], {"seed": 0})
    write_trial(tmp_path / "a" / "t1", [(10, 1.0)], {"seed": 1}, metric="other")
    write_trial(tmp_path / "a" / "t2", [], {"seed": 2})
    with caplog.at_level(logging.WARNING):
        (group,) = read_groups([tmp_path])
    assert [run.seed for run in group.runs] == [0]
    assert "t1 has no evaluation/return_mean" in caplog.text
    assert "t2 contains no result yet" in caplog.text


def test_an_unknown_metric_names_the_nearest_and_the_available(tmp_path):
    write_trial(tmp_path / "a" / "t0", [(10, 1.0)])
    with pytest.raises(ResultsError) as caught:
        read_groups([tmp_path], metric="evaluation/retrun_mean")
    text = str(caught.value)
    assert "Did you mean 'evaluation/return_mean'?" in text
    assert "num_env_steps_sampled_lifetime, time_total_s" in text
    with pytest.raises(ResultsError, match="No result has the metric 'steps'"):
        read_groups([tmp_path], x="steps")


def test_folders_without_results_are_named(tmp_path):
    with pytest.raises(ResultsError, match=r"nowhere does not exist"):
        read_groups([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=r"no result.json at or below .*empty"):
        read_groups([tmp_path / "empty"])
    write_trial(tmp_path / "a" / "t0", [])
    with pytest.raises(ResultsError, match="still empty"):
        read_groups([tmp_path / "a"])


def test_the_groups_of_a_comparison_are_its_labels(tmp_path, caplog):
    labels = {"RMIX_seed_1": "RMIX", "RMIX_seed_0": "RMIX", "QMIX_seed_0": "QMIX"}
    for name in labels:
        # Trials differ in more than the seed, but only the plan's labels form groups.
        params = {"seed": int(name[-1]), "mixer": name}
        write_trial(tmp_path / "c" / name, [(10, 1.0, 0.5)], params)
    write_plan(tmp_path / "c", Plan(labels, ("QMIX_seed_0",)))
    with caplog.at_level(logging.WARNING):
        rmix, qmix = read_groups([tmp_path / "c"])
    assert (rmix.label, rmix.count_text, rmix.planned) == ("RMIX", "2 seeds", 2)
    assert rmix.runs[0].cvar.tolist() == [0.5]
    assert (qmix.label, qmix.runs, qmix.planned) == ("QMIX", [], 1)
    assert "QMIX_seed_0 failed and is left out" in caplog.text
    write_trial(tmp_path / "old" / "t0", [(10, 1.0)])
    names = [group.label for group in read_groups([tmp_path])]
    assert names == ["c/RMIX", "c/QMIX", "old"]


def test_the_folder_of_a_comparison_holds_its_trials_only(tmp_path):
    write_trial(tmp_path / "RMIX_seed_0", [(10, 1.0)])
    write_plan(tmp_path, Plan({"RMIX_seed_1": "RMIX"}))
    with pytest.raises(ResultsError, match="RMIX_seed_0 is not a trial of the compari"):
        read_groups([tmp_path])


def test_a_plan_is_read_as_it_was_written(tmp_path):
    assert read_plan(tmp_path) is None
    plan = Plan({"b_seed_0": "b", "a_seed_0": "a"}, ("b_seed_0",), {"a": {"lr": 0.1}})
    write_plan(tmp_path, plan)
    again = read_plan(tmp_path)
    assert again == plan
    assert list(again.labels) == ["b_seed_0", "a_seed_0"]
    for text in ("[]", "{", "{}"):
        (tmp_path / "comparison.json").write_text(text)
        with pytest.raises(ResultsError, match=r"comparison.json is damaged"):
            read_plan(tmp_path)


def test_a_carried_evaluation_is_no_point(tmp_path):
    folder = tmp_path / "rmix" / "trial"
    folder.mkdir(parents=True)
    lines = [
        {
            "num_env_steps_sampled_lifetime": 10 * step,
            "evaluation": {"return_mean": float(step - age), "age_iterations": age},
        }
        for step, age in ((1, 0), (2, 1), (3, 0), (4, 1))
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "result.json").write_text(text)
    (group,) = read_groups([tmp_path])
    assert group.runs[0].x.tolist() == [10, 30]
    assert group.runs[0].y.tolist() == [1, 3]
