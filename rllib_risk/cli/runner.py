"""Runs checked experiments with Ray Tune and reports how they ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.cli.best import report_best
from rllib_risk.cli.catalog import is_team_algorithm
from rllib_risk.cli.experiment_facts import checkpoint_metric, has_env, what
from rllib_risk.cli.failures import (
    Ending,
    failed,
    print_endings,
    report_failures,
    report_interrupt,
    summary_of_failures,
)
from rllib_risk.cli.memory import Trials, check_memory
from rllib_risk.cli.option_groups import RayOptions, RunOptions, WandbOptions
from rllib_risk.cli.output import EXIT_FAILED, note, say
from rllib_risk.cli.preflight import (
    Checked,
    check_stop_can_be_met,
    first_iteration,
    fit_to_machine,
    preflight,
    tune_config,
    unreachable,
)
from rllib_risk.cli.resume import (
    Place,
    check_changes,
    check_storage,
    new_place,
    stopped_place,
    storage_path,
)
from rllib_risk.cli.session import prepare, ray_session, register_all
from rllib_risk.cli.time_budget import TimeBudget
from rllib_risk.cli.time_spent import report_time
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import Domain, map_domains

_NOT_STARTED = "not started"


def run_experiments(
    specs: Sequence[ExperimentSpec],
    options: RunOptions,
    ray_options: RayOptions,
    wandb: WandbOptions,
) -> int:
    """Checks all experiments, then runs them one after the other.

    An experiment that fails does not stop the following ones.

    Args:
        specs: The experiments. All are checked before the first one starts.
        options: Options for running experiments.
        ray_options: Options for starting Ray.
        wandb: Options for logging to W&B.

    Returns:
        The exit code: 0; 1 if an experiment or a trial failed; 130 after Ctrl-C; 143
        after SIGTERM.

    Raises:
        ConfigError: If an experiment cannot run. Nothing has started then.
    """
    budget = TimeBudget(options.time_budget_s)
    prepare(options.verbose)
    register_all()
    prepared = [_prepare(spec) for spec in specs]
    for spec in specs:
        _check_storage(spec)
    places = _stopped_places(specs) if options.resume else [None] * len(specs)
    imports = sorted({name for spec in specs for name in spec.imports})
    endings: list[Ending] = []
    with ray_session(ray_options, imports):
        fitting = fit_to_machine(specs, ray_options)
        memory = [
            check_memory([Trials(spec, parts[0].replays)], ray_options)
            for spec, parts in zip(fitting, prepared, strict=True)
        ]
        # Folders for all experiments are made first, so that --resume after an
        # interruption also finds those that did not start.
        found = [
            place or new_place(spec) for spec, place in zip(specs, places, strict=True)
        ]
        everything = zip(fitting, prepared, found, memory, strict=True)
        for spec, parts, place, line in everything:
            if _is_over(endings, budget):
                endings.append(Ending(place.name, 0, _NOT_STARTED))
                continue
            try:
                ending = _run(spec, parts, place, line, budget, options, wandb)
            except Exception as error:  # Tune and storages raise many exception types
                ending = failed(place.name, error)
            endings.append(ending)
    print_endings(endings)
    if endings[-1].text == _NOT_STARTED:
        note(f"Run the rest with: {options.command} --resume")
    return max(ending.code for ending in endings)


def _is_over(endings: Sequence[Ending], budget: TimeBudget) -> bool:
    interrupted = any(ending.code > EXIT_FAILED for ending in endings)
    return interrupted or (bool(endings) and budget.is_over())


def _prepare(spec: ExperimentSpec) -> tuple[Checked, Any, Any]:
    from rllib_risk.cli.search import build_search

    checked = preflight(spec)
    config = checked.config
    check_stop_can_be_met(spec, config)
    score = spec.checkpoint.get("checkpoint_score_attribute")
    if score is not None and (reason := unreachable(score, config)) is not None:
        raise spec.located(
            f"checkpoint_score_attribute: this run can never report {score}: {reason}",
            "checkpoint_config.checkpoint_score_attribute",
            "checkpoint_score_attr",
        )
    if spec.restore:
        _check_restore(spec)
    return checked, *build_search(spec, config)


def _check_storage(spec: ExperimentSpec) -> None:
    storage = storage_path(spec)
    if "://" in storage:
        return
    try:
        check_storage(Path(storage))
    except ConfigError as error:
        raise spec.located(str(error), "storage_path") from error


def _check_restore(spec: ExperimentSpec) -> None:
    """Refuses a ``restore`` checkpoint that is missing or damaged."""
    from rllib_risk.core.checkpoint import CheckpointError, verify_checkpoint

    folder = Path(str(spec.restore)).expanduser()
    if not is_team_algorithm(spec.algorithm):
        if not folder.is_dir():
            raise spec.located(
                f"restore: the checkpoint folder {folder} does not exist."
            )
        return
    try:
        verify_checkpoint(folder)
    except CheckpointError as error:
        raise spec.located(f"restore: {error}", "restore") from error


def _stopped_places(specs: Sequence[ExperimentSpec]) -> list[Place | None]:
    """Finds the folder in which each experiment continues; None if it has none."""
    places = [stopped_place(spec) for spec in specs]
    if not any(places):
        folder = f"{storage_path(specs[0])}/{specs[0].name}"
        raise ConfigError(
            f"--resume: there is no stopped experiment in {folder}. Check --name and"
            " --storage-path."
        )
    for spec, place in zip(specs, places, strict=True):
        if place is not None:
            check_changes(spec, place)
    return places


def _run(
    spec: ExperimentSpec,
    prepared: tuple[Checked, Any, Any],
    place: Place,
    memory: str,
    budget: TimeBudget,
    options: RunOptions,
    wandb: WandbOptions,
) -> Ending:
    from rllib_risk.cli.interrupt import Interrupt
    from rllib_risk.cli.progress import ProgressLines
    from rllib_risk.cli.resumed_trials import ResumedTrials
    from rllib_risk.cli.search import KeepBest
    from rllib_risk.cli.tracking import WandbRuns

    checked, scheduler, searcher = prepared
    evaluates = bool(checked.config.evaluation_interval)
    say(f"{spec.name}: {what(spec)}; results in {place.folder}{place.remark}")
    if checked.risk:
        say(checked.risk)
    if memory:
        say(memory)
    if line := first_iteration(spec.stop, checked.config):
        say(line)
    experiment = tune_experiment(spec, place.name, place.storage, spec.config)
    interrupt = Interrupt(budget.for_experiment(spec.time_budget_s))
    resumed = ResumedTrials(spec) if place.goes_on else None
    callbacks: list[Any] = [
        ProgressLines(spec.stop, evaluates=evaluates),
        interrupt,
    ]
    if wandb.project:
        callbacks.append(WandbRuns(wandb, place.name, place.folder))
    if in_population(spec) and spec.checkpoint.get("num_to_keep"):
        callbacks.append(KeepBest(scheduler, spec.checkpoint["num_to_keep"]))
    trials = run_tune(
        [experiment],
        interrupt,
        callbacks,
        options,
        scheduler=scheduler,
        searcher=searcher,
        max_concurrent_trials=spec.max_concurrent_trials,
        resumed=resumed,
    )
    if resumed is not None and not resumed.unfinished:
        say(
            f"{spec.name}: all {len(trials)} trial(s) in {place.folder} have already"
            " ended. To train longer, raise a criterion of 'stop'. To train again,"
            " leave out --resume."
        )
    if resumed is None or resumed.unfinished:
        report_time(trials, checked.config, table=options.profile)
    report_best(trials, *checkpoint_metric(spec), spec.imports, evaluates=has_env(spec))
    return _ending(place.name, trials, interrupt, options)


def _ending(
    name: str, trials: Sequence[Any], interrupt: Any, options: RunOptions
) -> Ending:
    causes = report_failures(trials)
    if interrupt.requested:
        report_interrupt(interrupt, options.command)
        code = interrupt.exit_code or (EXIT_FAILED if causes else 0)
        return Ending(
            name, code, "interrupted" if interrupt.exit_code else "time limit reached"
        )
    if causes:
        return Ending(name, EXIT_FAILED, summary_of_failures(causes, len(trials)))
    return Ending(name, 0, "done")


def tune_experiment(
    spec: ExperimentSpec,
    name: str,
    storage: str,
    config: Mapping[str, Any],
    **more: Any,
) -> Any:
    """Builds Tune's ``Experiment``.

    Args:
        spec: The experiment.
        name: Name of its folder.
        storage: Folder or address that contains that folder.
        config: Configuration, with search spaces.
        **more: Further arguments of ``Experiment``.
    """
    from ray.tune import CheckpointConfig
    from ray.tune.experiment import Experiment

    from rllib_risk.core.callbacks import CombinedCallbacks

    metric = checkpoint_metric(spec)[0]
    checkpoint = {
        **spec.checkpoint,
        "checkpoint_at_end": spec.checkpoint_value("checkpoint_at_end"),
        "checkpoint_score_attribute": metric,
    }
    algorithm_config = tune_config(spec, map_domains(config, Domain.to_tune))
    if checkpoint.get("num_to_keep") and "/" in metric:
        others = algorithm_config.get("callbacks") or []
        others = others if isinstance(others, list) else [others]
        algorithm_config["callbacks"] = CombinedCallbacks(
            [*others, TopLevelScore(metric)]
        )
    if in_population(spec):
        checkpoint["num_to_keep"] = None  # KeepBest deletes checkpoints instead.
    return Experiment(
        name,
        spec.algorithm,
        stop=spec.stop,
        config=algorithm_config,
        resources_per_trial=spec.resources_per_trial,
        num_samples=spec.num_samples,
        storage_path=storage,
        checkpoint_config=CheckpointConfig(**checkpoint),
        max_failures=spec.max_failures,
        restore=spec.restore and str(Path(spec.restore).expanduser()),
        **more,
    )


def in_population(spec: ExperimentSpec) -> bool:
    """Returns whether an experiment's trials copy each other's checkpoints (PBT)."""
    return spec.scheduler is not None and spec.scheduler.population


class TopLevelScore:
    """Factory of RLlib callbacks that copy a nested metric to the top of a result.

    When Tune decides which checkpoints to keep, it looks up the score in the result
    without flattening it. If it finds none, it keeps the newest checkpoints.
    """

    def __init__(self, metric: str) -> None:
        """Initializes the factory, which RLlib calls like a class of callbacks.

        Args:
            metric: Name of the metric, such as ``evaluation/return_mean``.
        """
        self.metric = metric

    def __call__(self) -> Any:
        """Returns the callbacks."""
        from ray.rllib.callbacks.callbacks import RLlibCallback

        instance: Any = RLlibCallback()
        instance.on_train_result = self._add_score
        return instance

    def _add_score(self, *, result: dict[str, Any], **others: Any) -> None:
        from rllib_risk.cli.progress import flatten_fresh

        # Tune ranks NaN as the lowest score.
        result[self.metric] = flatten_fresh(result).get(self.metric, math.nan)

    def __repr__(self) -> str:
        """Returns the text for ``params.json``."""
        return f"{type(self).__name__}({self.metric!r})"


def run_tune(
    experiments: Sequence[Any],
    interrupt: Any,
    callbacks: list[Any],
    options: RunOptions,
    *,
    scheduler: Any = None,
    searcher: Any = None,
    max_concurrent_trials: int | None = None,
    resumed: Any = None,
) -> list[Any]:
    """Runs the trials of all experiments, as many at a time as the CPUs allow.

    Args:
        experiments: Tune's experiments. Several must share one storage.
        interrupt: Callback that ends the run after a signal or its time budget.
        callbacks: Tune's callbacks; ``interrupt`` is one of them.
        options: Options for running experiments.
        scheduler: Tune scheduler; None: first in, first out.
        searcher: Tune searcher; None: grid and random search.
        max_concurrent_trials: Maximum number of trials at the same time; None: no
            limit.
        resumed: Preparation of the trials of a resumed run; None: a new run.

    Returns:
        The trials.
    """
    from ray import tune
    from ray.tune import ResumeConfig
    from ray.tune.schedulers import FIFOScheduler

    from rllib_risk.cli.rows import CheckpointRows
    from rllib_risk.core.tune_internals import table_logger

    scheduler = interrupt.pause_trials(scheduler or FIFOScheduler())
    if resumed is not None:
        scheduler = resumed.prepare_trials(scheduler)
    resume_type: Any = ResumeConfig.ResumeType.RESUME
    interrupt.listen()
    try:
        analysis = tune.run(
            list(experiments),
            scheduler=scheduler,
            search_alg=searcher,
            max_concurrent_trials=max_concurrent_trials,
            callbacks=[*callbacks, CheckpointRows(), table_logger()],
            verbose=min(options.verbose, 2),
            resume_config=ResumeConfig(errored=resume_type) if resumed else None,
            raise_on_failed_trial=False,
        )
    finally:
        interrupt.stop_listening()
    return list(analysis.trials)
