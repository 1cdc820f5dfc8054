"""Hands checked experiments to Ray Tune, and reports how they went."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.cli.catalog import default_metric
from rllib_risk.cli.options import RayOptions, RunOptions, WandbOptions
from rllib_risk.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, fail, note, say
from rllib_risk.cli.preflight import fit_to_machine, preflight, tune_config
from rllib_risk.cli.session import prepare, ray_session, register_all
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import Domain, map_domains
from rllib_risk.core import ray_internals


def run_experiments(
    specs: Sequence[ExperimentSpec],
    options: RunOptions,
    ray_options: RayOptions,
    wandb: WandbOptions,
) -> int:
    """Checks all experiments, then runs one after the other.

    Args:
        specs: The experiments. All are checked before the first one starts.
        options: What the command line adds.
        ray_options: How to start Ray.
        wandb: Where to log.

    Returns:
        The exit code: 0, 1 if a trial failed, 130 after Ctrl-C.

    Raises:
        ConfigError: If an experiment cannot work; nothing has started then.
    """
    prepare(options.verbose)
    register_all()
    prepared = [_prepare(spec, options) for spec in specs]
    imports = sorted({name for spec in specs for name in spec.imports})
    code = 0
    with ray_session(ray_options, imports):
        fitting = fit_to_machine(specs, ray_options)
        for spec, parts in zip(fitting, prepared, strict=True):
            result = _run(spec, *parts, options, wandb)
            code = max(code, result)
            if result == EXIT_INTERRUPTED:
                break
    return code


def _prepare(spec: ExperimentSpec, options: RunOptions) -> tuple[Any, Any, Any]:
    config = preflight(spec)
    metric = default_metric(spec.algorithm)
    if spec.restore and not Path(spec.restore).expanduser().is_dir():
        raise spec.located(f"restore: there is no checkpoint folder {spec.restore}.")
    if options.resume:
        _check_resumable(spec)
    # Schedulers and searchers check combinations of their arguments when made.
    scheduler = spec.scheduler.build(metric, "max") if spec.scheduler else None
    searcher = spec.searcher.build(metric, "max") if spec.searcher else None
    return config, scheduler, searcher


def storage_path(spec: ExperimentSpec) -> str:
    """Returns the absolute folder (or address) for results of an experiment."""
    path = spec.storage_path or ray_internals.default_storage_path()
    return path if "://" in path else str(Path(path).expanduser().resolve())


def _check_resumable(spec: ExperimentSpec) -> None:
    # Tune itself starts a new experiment where there is nothing to resume.
    folder = Path(storage_path(spec)) / spec.name
    if not ray_internals.has_experiment_state(folder):
        raise ConfigError(
            f"--resume: there is no stopped experiment in {folder}. Check --name and"
            " --storage-path."
        )


def _run(
    spec: ExperimentSpec,
    config: Any,
    scheduler: Any,
    searcher: Any,
    options: RunOptions,
    wandb: WandbOptions,
) -> int:
    from rllib_risk.cli.interrupt import Interrupt
    from rllib_risk.cli.progress import ProgressLines
    from rllib_risk.cli.tracking import WandbRuns

    folder = Path(storage_path(spec)) / spec.name
    experiment = tune_experiment(spec, spec.name, storage_path(spec), spec.config)
    interrupt = Interrupt()
    callbacks: list[Any] = [
        ProgressLines(spec.stop, evaluates=bool(config.evaluation_interval)),
        interrupt,
    ]
    if wandb.project:
        callbacks.append(WandbRuns(wandb, spec.name))
    say(f"{spec.name}: {_what(spec)}; results in {folder}")
    trials = run_tune(
        [experiment],
        interrupt,
        callbacks,
        options,
        scheduler=scheduler,
        searcher=searcher,
        max_concurrent_trials=spec.max_concurrent_trials,
    )
    _report_best(trials, *checkpoint_metric(spec), spec.imports)
    if interrupt.requested:
        report_interrupt(interrupt.killed, options.command)
        return EXIT_INTERRUPTED
    return EXIT_FAILED if report_failures(trials) else 0


def tune_experiment(
    spec: ExperimentSpec,
    name: str,
    storage: str,
    config: Mapping[str, Any],
    **more: Any,
) -> Any:
    """Makes Tune's ``Experiment``.

    Args:
        spec: The experiment.
        name: Name of its folder.
        storage: Where that folder is.
        config: Its configuration, search spaces included.
        **more: Further arguments of ``Experiment``.
    """
    from ray.tune import CheckpointConfig
    from ray.tune.experiment import Experiment

    metric = checkpoint_metric(spec)[0]
    checkpoint = {
        "checkpoint_at_end": True,
        **spec.checkpoint,
        "checkpoint_score_attribute": metric,
    }
    algorithm_config = tune_config(spec, map_domains(config, Domain.to_tune))
    if checkpoint.get("num_to_keep") and "/" in metric:
        others = algorithm_config.get("callbacks")
        score = TopLevelScore(metric, None if isinstance(others, list) else others)
        several = [*others, score] if isinstance(others, list) else score
        algorithm_config["callbacks"] = several
    return Experiment(
        name,
        spec.algorithm,
        stop=spec.stop,
        time_budget_s=spec.time_budget_s,
        config=algorithm_config,
        resources_per_trial=spec.resources_per_trial,
        num_samples=spec.num_samples,
        storage_path=storage,
        checkpoint_config=CheckpointConfig(**checkpoint),
        max_failures=spec.max_failures,
        restore=spec.restore,
        **more,
    )


class TopLevelScore:
    """Makes RLlib callbacks that repeat a nested result at the top of all results.

    When Tune decides which checkpoints to keep, it looks for the score's name in the
    result as it is, not flattened, and where it finds none keeps the newest ones.
    """

    def __init__(self, metric: str, callbacks: Callable[[], Any] | None) -> None:
        """Initializes what stands in for a class of callbacks.

        Args:
            metric: Name of the result, such as ``evaluation/return_mean``.
            callbacks: The class that it stands in for; None: RLlib's own.
        """
        self.metric = metric
        self.callbacks = callbacks

    def __call__(self) -> Any:
        """An instance of the class, with one more thing to do."""
        from ray.rllib.callbacks.callbacks import RLlibCallback

        instance = (self.callbacks or RLlibCallback)()
        instance.on_train_result = functools.partial(
            self._add_score, instance.on_train_result
        )
        return instance

    def _add_score(
        self, before: Callable[..., None], *, result: dict[str, Any], **others: Any
    ) -> None:
        from rllib_risk.cli.progress import flatten

        before(result=result, **others)
        # NaN until there is one: Tune takes that for the lowest score.
        result[self.metric] = flatten(result).get(self.metric, math.nan)

    def __repr__(self) -> str:
        """For ``params.json``."""
        return f"{type(self).__name__}({self.metric!r})"


def checkpoint_metric(spec: ExperimentSpec) -> tuple[str, str]:
    """Returns the result by which checkpoints are scored, and ``max`` or ``min``."""
    metric = spec.checkpoint.get("checkpoint_score_attribute")
    order = spec.checkpoint.get("checkpoint_score_order", "max")
    return metric or default_metric(spec.algorithm), order


def run_tune(
    experiments: Sequence[Any],
    interrupt: Any,
    callbacks: list[Any],
    options: RunOptions,
    *,
    scheduler: Any = None,
    searcher: Any = None,
    max_concurrent_trials: int | None = None,
) -> list[Any]:
    """Runs the trials of all experiments, as many at a time as there are cores for.

    Args:
        experiments: Tune's experiments. Several must share one storage.
        interrupt: Ends the run after Ctrl-C.
        callbacks: Tune's callbacks; ``interrupt`` is one of them.
        options: What the command line adds.
        scheduler: Tune scheduler; None: first in, first out.
        searcher: Tune searcher; None: grid and random search.
        max_concurrent_trials: Trials at the same time; None: no limit.

    Returns:
        The trials.
    """
    from ray import tune
    from ray.tune import ResumeConfig
    from ray.tune.schedulers import FIFOScheduler

    interrupt.listen()
    resume_type: Any = ResumeConfig.ResumeType.RESUME
    analysis = tune.run(
        list(experiments),
        scheduler=interrupt.pause_trials(scheduler or FIFOScheduler()),
        search_alg=searcher,
        max_concurrent_trials=max_concurrent_trials,
        callbacks=callbacks,
        verbose=min(options.verbose, 2),
        resume_config=ResumeConfig(errored=resume_type) if options.resume else None,
        raise_on_failed_trial=False,
    )
    return list(analysis.trials)


def _what(spec: ExperimentSpec) -> str:
    name = getattr(spec.algorithm, "__name__", spec.algorithm)
    env = spec.env or (spec.config_object.env if spec.config_object else None)
    return f"{name} on {env}"


def _report_best(
    trials: Sequence[Any], metric: str, order: str, imports: Sequence[str]
) -> None:
    """Prints the best checkpoint and the command that evaluates it."""
    best = best_checkpoint(trials, metric, order)
    if best is None:
        note("No checkpoint was saved.")
        return
    score, checkpoint, trial = best
    shown = "-" if score == -math.inf else f"{score if order == 'max' else -score:.2f}"
    say(f"Best checkpoint ({metric} {shown}): {checkpoint.path}")
    say(f"Evaluate it with: {evaluate_command(checkpoint, trial, imports)}")


def best_checkpoint(
    trials: Sequence[Any], metric: str, order: str
) -> tuple[float, Any, Any] | None:
    """Finds the best checkpoint of some trials.

    Args:
        trials: Tune's trials.
        metric: The result that says which is best.
        order: ``max`` or ``min``.

    Returns:
        Its score (-inf: not evaluated yet; negated for ``min``), itself and its trial;
        None if there is no checkpoint.
    """
    from rllib_risk.cli.progress import flatten

    best: tuple[float, Any, Any] | None = None
    for trial in trials:
        for saved in ray_internals.saved_checkpoints(trial):
            value = flatten(saved.metrics).get(metric, math.nan)
            # NaN: no evaluation yet. Such a checkpoint wins only over none at all.
            score = -math.inf if math.isnan(value) else value
            score = score if order == "max" or score == -math.inf else -score
            # Of equal checkpoints the latest: it has learned longest.
            if best is None or score >= best[0]:
                best = (score, saved.checkpoint, trial)
    return best


def evaluate_command(checkpoint: Any, trial: Any, imports: Sequence[str]) -> str:
    """Returns the command that evaluates a checkpoint of a trial."""
    from rllib_risk.core.record import named_code

    command = f"rllib evaluate {shlex.quote(checkpoint.path)}"
    if not (Path(checkpoint.path) / "manifest.json").is_file():
        command += f" --algo {trial.trainable_name}"
    # Code that the checkpoint names; whoever trained it trusts it.
    if any(named_code(trial.config)):
        command += " --trust-code"
    return command + "".join(f" --import {module}" for module in imports)


def report_interrupt(killed: Sequence[str], command: str) -> None:
    """Says how to go on after Ctrl-C.

    Args:
        killed: Ids of the trials that could not save in time.
        command: The command without ``--resume``.
    """
    if killed:
        note(
            f"{len(killed)} trial(s) could not finish their iteration in time and go on"
            " from their last checkpoint, if they have one."
        )
    note(f"Interrupted. Continue with: {command} --resume")


def report_failures(trials: Sequence[Any]) -> bool:
    """Prints the root cause of each failed trial; returns whether there was one."""
    failed = [trial for trial in trials if trial.status == trial.ERROR]
    for trial in failed:
        if not trial.error_file:
            fail(f"trial {trial} failed; Tune kept no reason.")
            continue
        log = Path(trial.error_file)
        # Tune writes it to its session folder and copies it to the results.
        kept = ray_internals.trial_folder(trial) / log.name
        cause = root_cause(log.read_text())
        fail(f"trial {trial} failed: {cause}\n  full text: {kept}")
    return bool(failed)


def root_cause(text: str) -> str:
    """Returns the last line of a traceback that names an exception.

    Args:
        text: What Tune wrote to ``error.txt``.

    Returns:
        Such as ``ValueError: no such level``.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    for number in range(len(lines) - 1, -1, -1):
        head = lines[number].split(":", 1)[0]
        if head and not head[0].isspace() and head.replace(".", "").isidentifier():
            # Messages may have several lines; the first few say what matters.
            return "\n  ".join(lines[number : number + 5])
    return lines[-1] if lines else "unknown cause"
