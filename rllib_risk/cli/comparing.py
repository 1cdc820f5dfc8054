"""Runs a comparison, then writes its table and figure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_risk.cli import option_groups as g
from rllib_risk.cli import output
from rllib_risk.cli.best import NEWEST
from rllib_risk.cli.experiment_facts import checkpoint_metric, has_env, usual_metric
from rllib_risk.cli.output import EXIT_FAILED, fail, note, say
from rllib_risk.cli.time_budget import TimeBudget
from rllib_risk.config.schema import ConfigError
from rllib_risk.core import tune_internals

if TYPE_CHECKING:
    from rllib_risk.cli.interrupt import Interrupt
    from rllib_risk.cli.memory import Trials
    from rllib_risk.config.comparison import Comparison
    from rllib_risk.config.experiments import ExperimentSpec
    from rllib_risk.evaluation.results import Plan

# Metrics that compare runs without an environment and without estimates: on held-out
# episodes, or on the episodes learned from.
_AGREEMENTS = ("holdout/data_agreement", "data/data_agreement")


def run_comparison(
    comparison: Comparison,
    out: Path | None,
    name: str,
    options: g.RunOptions,
    ray_options: g.RayOptions,
    wandb: g.WandbOptions,
) -> int:
    """Checks all algorithms, runs all trials, then writes table and figure.

    Args:
        comparison: The comparison, whose keys are already checked.
        out: Folder for all results; None: ``compare-<name>`` in Tune's folder.
        name: Name of the comparison.
        options: Options for running experiments.
        ray_options: Options for starting Ray.
        wandb: Options for logging to W&B.

    Returns:
        The exit code: 0; 1 if a trial failed; 130 after Ctrl-C; 143 after SIGTERM.

    Raises:
        ConfigError: If an algorithm cannot run, or the folder holds another comparison.
            Nothing has started then.
    """
    from rllib_risk.cli.failures import failed, report_failures, report_interrupt
    from rllib_risk.cli.memory import check_memory
    from rllib_risk.cli.preflight import fit_to_machine
    from rllib_risk.cli.resume import check_storage
    from rllib_risk.cli.session import ray_session
    from rllib_risk.evaluation.results import write_plan

    budget = TimeBudget(options.time_budget_s)
    metric, planned, risks = _check(comparison.specs, comparison.seeds)
    if comparison.threshold is not None and metric in _AGREEMENTS:
        raise ConfigError(
            "threshold: it is a return, but these runs neither play episodes nor"
            " estimate returns. Set off_policy_interval and dataset_holdout for all, or"
            " leave the threshold out."
        )
    folder = out or Path(tune_internals.default_storage_path()) / f"compare-{name}"
    folder = folder.expanduser().resolve()
    plan = _plan(comparison)
    _check_folder(folder, plan, options.resume)
    check_storage(folder)
    write_plan(folder, plan)
    specs = comparison.specs
    where = f"on {specs[0].env}" if has_env(specs[0]) else "without an environment"
    say(
        f"{name}: {', '.join(spec.name for spec in specs)} {where},"
        f" {len(comparison.seeds)} seed(s) each; results in {folder}"
    )
    for risk, names in risks.items():
        say(f"{', '.join(names)}: {risk}")
    with ray_session(ray_options, specs[0].imports):
        fitting = tuple(fit_to_machine(specs, ray_options))
        comparison = replace(comparison, specs=fitting)
        if memory := check_memory(planned, ray_options):
            say(memory)
        try:
            trials, interrupt = _run(comparison, folder, metric, budget, options, wandb)
        except Exception as error:  # Tune and storages raise many exception types
            return failed(name, error).code
        if interrupt.requested:
            failures = report_failures(trials)
            report_interrupt(interrupt, options.command)
            return interrupt.exit_code or (EXIT_FAILED if failures else 0)
        return _report(comparison, name, trials, folder, plan, metric, options.command)


def _report(
    comparison: Comparison,
    name: str,
    trials: Sequence[Any],
    folder: Path,
    plan: Plan,
    metric: str,
    command: str,
) -> int:
    """Writes table, figure and results of finished trials; returns the exit code."""
    from rllib_risk.cli.failures import report_failures
    from rllib_risk.core.source_version import source_version
    from rllib_risk.evaluation.plots import write_comparison
    from rllib_risk.evaluation.results import ResultsError, write_plan
    from rllib_risk.evaluation.results_file import write_results

    ended_early = [
        tune_internals.trial_folder(trial).name
        for trial in trials
        if trial.status == trial.ERROR
    ]
    write_plan(folder, replace(plan, failed=tuple(ended_early)))
    try:
        write_comparison(folder, output.out, metric, name, comparison.threshold)
        for file in write_results(folder, metric, command, source_version()):
            say(f"Wrote {file}")
    except ResultsError as error:
        fail(f"the table cannot be written: {error}")
        report_failures(trials)
        return EXIT_FAILED
    if metric in _AGREEMENTS:
        say(
            "The table shows how often the teams choose the actions of the data. It"
            " does not show which team is better. For that, set off_policy_interval and"
            " dataset_holdout, or give the comparison an env."
        )
    _report_best(comparison, trials)
    return EXIT_FAILED if report_failures(trials) else 0


def _check(
    specs: Sequence[ExperimentSpec], seeds: Sequence[int]
) -> tuple[str, list[Trials], dict[str, list[str]]]:
    """Checks every algorithm with its env.

    Returns:
        The metric to compare by, the trials of each algorithm, and the names of the
        algorithms by the risk that they control.
    """
    from rllib_risk.cli.memory import Trials
    from rllib_risk.cli.preflight import check_stop_can_be_met, preflight

    metric = usual_metric(specs[0])
    held_out = True
    trials: list[Trials] = []
    risks: dict[str, list[str]] = {}
    for spec in specs:
        try:
            # Only the dataset can depend on the seed, so other runs need one check.
            several = "{seed}" in str(spec.config.get("dataset"))
            for seed in seeds if several else seeds[:1]:
                seeded = replace(spec, config={**spec.config, "seed": seed})
                checked = preflight(seeded)
            check_stop_can_be_met(spec, checked.config)
            trials.append(Trials(spec, checked.replays, len(seeds)))
            if checked.risk:
                risks.setdefault(checked.risk, []).append(spec.name)
            held_out &= bool(getattr(checked.config, "dataset_holdout", 0.0))
            if usual_metric(spec) != metric:
                raise spec.located(_differ(spec, specs[0]))
        except ConfigError as error:
            raise ConfigError(f"{error} (In '{spec.name}'.)") from error
    if metric == NEWEST:
        # TD errors and losses of different methods are not comparable.
        metric = _AGREEMENTS[not held_out]
    return metric, trials, risks


def _differ(spec: ExperimentSpec, first: ExperimentSpec) -> str:
    """Explains why two algorithms cannot be compared."""
    if not has_env(first):
        return (
            "off_policy_interval: without an environment all algorithms are compared by"
            f" off-policy estimates or none, and '{spec.name}' differs from"
            f" '{first.name}'. Set it under the shared 'config'."
        )
    return (
        f"{spec.algorithm} reports {usual_metric(spec)}, but {first.algorithm} reports"
        f" {usual_metric(first)}. They cannot be compared."
    )


def _folder_name(label: str, seed: int) -> str:
    return f"{label}_seed_{seed}"


def _plan(comparison: Comparison) -> Plan:
    """Returns the plan of the comparison, which ``comparison.json`` stores."""
    from rllib_risk.evaluation.results import Plan

    specs = comparison.specs
    labels = {
        _folder_name(spec.name, seed): spec.name
        for spec in specs
        for seed in comparison.seeds
    }
    details = {
        spec.name: {
            "run": spec.algorithm,
            "env": spec.env,
            "stop": spec.stop,
            "config": spec.config,
            "checkpoint": spec.checkpoint,
            "max_failures": spec.max_failures,
            "resources_per_trial": spec.resources_per_trial,
            # A resumed Tune run keeps its limit, so a change must be noticed.
            "max_concurrent_trials": spec.max_concurrent_trials,
        }
        for spec in specs
    }
    return Plan(labels, (), details)


def _check_folder(folder: Path, plan: Plan, resume: bool) -> None:
    """Refuses to mix two comparisons in one folder."""
    import json

    from rllib_risk.cli.resume import Place, has_trials
    from rllib_risk.evaluation.results import COMPARISON_FILE, ResultsError, read_plan

    if not resume:
        # If Ray failed to start, the folder holds only the plan and can be reused.
        if folder.exists() and (
            not folder.is_dir()
            or any(item.name != COMPARISON_FILE for item in folder.iterdir())
        ):
            raise ConfigError(
                f"{folder} exists already. Choose another folder with --out, or"
                " continue the comparison in it with --resume."
            )
        return
    try:
        begun = read_plan(folder)
    except ResultsError as error:
        raise ConfigError(str(error)) from error
    if begun is None or not has_trials(Place(str(folder.parent), folder.name)):
        raise ConfigError(f"--resume: there is no stopped comparison in {folder}.")
    # Through JSON, so that tuples become lists as in the stored plan.
    now = json.loads(json.dumps([plan.labels, plan.details], default=str))
    if now != [begun.labels, begun.details]:
        changed = [k for k in now[1] if now[1][k] != begun.details.get(k)]
        what = (
            f"other settings of {', '.join(changed)}"
            if changed
            else "other algorithms or seeds"
        )
        raise ConfigError(
            f"--resume: the comparison in {folder} began with {what}. Its"
            " comparison.json lists them. Use the same settings, or choose another"
            " folder with --out."
        )


def _run(
    comparison: Comparison,
    folder: Path,
    metric: str,
    budget: TimeBudget,
    options: g.RunOptions,
    wandb: g.WandbOptions,
) -> tuple[list[Any], Interrupt]:
    """Runs all trials; returns them and the ``Interrupt`` of the run."""
    from rllib_risk.cli.interrupt import Interrupt
    from rllib_risk.cli.progress import ProgressLines
    from rllib_risk.cli.resumed_trials import ResumedTrials
    from rllib_risk.cli.runner import run_tune, tune_experiment
    from rllib_risk.cli.tracking import WandbRuns

    # Seed by seed, so that all algorithms have a first result early.
    experiments = [
        tune_experiment(
            spec,
            folder.name,
            str(folder.parent),
            {**spec.config, "seed": seed},
            trial_name_creator=functools.partial(_named, f"{spec.name} seed {seed}"),
            trial_dirname_creator=functools.partial(
                _named, _folder_name(spec.name, seed)
            ),
        )
        for seed in comparison.seeds
        for spec in comparison.specs
    ]
    tune_internals.share_storage(experiments)
    interrupt = Interrupt(budget.for_experiment(None))
    callbacks: list[Any] = [
        ProgressLines(comparison.specs[0].stop, metric.startswith("evaluation/")),
        interrupt,
    ]
    if wandb.project:
        callbacks.append(WandbRuns(wandb, folder.name, str(folder)))
    trials = run_tune(
        experiments,
        interrupt,
        callbacks,
        options,
        max_concurrent_trials=comparison.specs[0].max_concurrent_trials,
        resumed=ResumedTrials() if options.resume else None,
    )
    return trials, interrupt


def _named(name: str, trial: Any) -> str:
    """Returns ``name`` for a trial. Tune can pickle a partial of this function."""
    return name


def _report_best(comparison: Comparison, trials: Sequence[Any]) -> None:
    """Prints the command that evaluates the best checkpoint of each algorithm."""
    from rllib_risk.cli.best import best_checkpoint, better_result, evaluate_command

    commands, better = [], []
    evaluates = has_env(comparison.specs[0])
    for spec in comparison.specs:
        own = [
            t for t in trials if t.custom_trial_name.startswith(f"{spec.name} seed ")
        ]
        metric, order = checkpoint_metric(spec)
        best = best_checkpoint(own, metric, order)
        if best is not None:
            command = evaluate_command(best[1], best[2], spec.imports)
            command += "" if evaluates else " --dataset DATA"
            commands.append(f"  {command}  # {spec.name}")
            if text := better_result(own, metric, order, best[0]):
                better.append(f"{spec.name}: {text}")
    if commands and evaluates:
        header = "Evaluate the best checkpoint of each algorithm with:"
        say("\n".join([header, *commands]))
    elif commands:
        say(
            "These runs have no environment. Estimate the return of each checkpoint"
            " from a dataset that none of them has learned from:"
        )
        say("\n".join(commands))
    for text in better:
        note(f"{text}.")
