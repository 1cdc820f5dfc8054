"""Prints one line per evaluation instead of Tune's tables."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_risk.cli import status
from rllib_risk.cli.output import note, say
from rllib_risk.cli.status import duration, status_line
from rllib_risk.core.progress import Progress, read_progress, sum_up
from rllib_risk.evaluation.results import without_carried

_MAX_NAMES = 12
LOST = "num_env_crashes_lifetime"
STEPS = "num_env_steps_sampled_lifetime"
UPDATES = "num_updates_lifetime"
# Stop criteria from which the time left is computed, besides lifetime counters.
_CLOCKS = ("time_total_s", "training_iteration")
# Maximum length in characters of one value in the label of a trial.
_LONGEST = 40


def flatten(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested results to ``evaluation/return_mean`` and so on."""
    flat: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def flatten_fresh(result: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens a result and removes a repeated older evaluation."""
    return without_carried(flatten(result))


def _number(value: Any, digits: int = 2) -> str:
    if not isinstance(value, (int, float)) or math.isnan(value):
        return "-"
    return f"{value:.{digits}f}"


class Timer:
    """Estimates a trial's speed and remaining time.

    The rate counts from the first result in this process. The totals of a resumed trial
    include time that perhaps another machine spent.
    """

    def __init__(self) -> None:
        """Starts without a first result."""
        self._first: dict[str, float] | None = None
        self._last: dict[str, float] = {}

    def update(self, result: Mapping[str, Any], stop: Mapping[str, float]) -> None:
        """Updates the estimates with a flat result."""
        names = [STEPS, UPDATES, "time_total_s", *stop]
        now = {
            name: float(result[name])
            for name in names
            if isinstance(result.get(name), (int, float))
        }
        if self._first is None:
            # The counters of a new trial begin at 0. For a resumed trial this first
            # result is the earliest known point.
            fresh = result.get("iterations_since_restore", 1) == result.get(
                "training_iteration", 1
            )
            self._first = dict.fromkeys(now, 0.0) if fresh else dict(now)
        self._last = now

    def _gain(self, name: str) -> float:
        return self._last.get(name, 0.0) - (self._first or {}).get(name, 0.0)

    def per_s(self, name: str) -> float:
        """Returns the growth of a counter per second; NaN if unknown."""
        elapsed = self._gain("time_total_s")
        return self._gain(name) / elapsed if elapsed > 0 else math.nan

    def seconds_left(self, stop: Mapping[str, float]) -> float | None:
        """Returns the seconds until the first stop criterion that counts up.

        None if there is no such criterion.
        """
        left = []
        for name, target in stop.items():
            if not name.endswith("_lifetime") and name not in _CLOCKS:
                continue
            gain, elapsed = self._gain(name), self._gain("time_total_s")
            if gain > 0 and elapsed > 0:
                left.append(max(0.0, target - self._last[name]) * elapsed / gain)
        return min(left) if left else None


def format_line(
    result: Mapping[str, Any], timer: Timer, stop: Mapping[str, float], label: str = ""
) -> str:
    """Formats one result as a line.

    Args:
        result: A flat result.
        timer: Timer of the trial, already updated with the result.
        stop: Stop criteria of the trial.
        label: Label of the trial; empty if there is only one trial.

    Returns:
        One line: env steps, steps/s, return, CVaR, success, epsilon, time left. In a
        run on a dataset, updates replace steps, and passes replace epsilon. Without an
        environment, :func:`_data_parts` replaces return, CVaR and success.
    """
    passes = result.get("dataset_passes")
    if passes is None:
        rate = result.get("env_steps_per_s", timer.per_s(STEPS))
        parts = [
            f"{int(result.get(STEPS, 0)):>10,} steps",
            f"{_number(rate, 0):>6} steps/s",
        ]
    else:
        rate = timer.per_s(UPDATES)
        parts = [
            f"{int(result.get(UPDATES, 0)):>10,} updates",
            f"{_number(rate, 0):>6} updates/s",
        ]
    if "evaluation/return_mean" in result:
        success = result.get("evaluation/success_rate")
        percent = success * 100 if isinstance(success, (int, float)) else None
        parts += [
            f"return {_number(result['evaluation/return_mean']):>8}",
            f"CVaR 10% {_number(result.get('evaluation/return_cvar_10')):>8}",
            f"success {_number(percent, 0):>3}%"
            if percent == percent and percent is not None
            else "success   -",
        ]
    elif passes is not None:
        parts += _data_parts(result)
    else:
        value = result.get(
            "evaluation/env_runners/episode_return_mean",
            result.get("env_runners/episode_return_mean"),
        )
        parts.append(f"return {_number(value):>8}")
        length = result.get("env_runners/episode_len_mean")
        parts.append(f"length {_number(length, 0):>4}")
    if passes is not None:
        parts.append(f"passes {_number(passes, 1)}")
    elif "epsilon" in result:
        parts.append(f"epsilon {_number(result['epsilon'])}")
    if lost := result.get(LOST):
        parts.append(f"{int(lost):,} lost")
    left = timer.seconds_left(stop)
    parts.append(f"left {duration(left) if left is not None else '-'}")
    line = " | ".join(parts)
    return f"{label}  {line}" if label else line


def _data_parts(result: Mapping[str, Any]) -> list[str]:
    """Returns the parts of a line about the episodes of a dataset.

    They use the held-out episodes if there are any. The parts are:

    - the TD error, or the loss of behaviour cloning;
    - the gap: value of the greedy action minus value of the data's action;
    - the agreement: share of steps in which both actions are equal;
    - the estimated return at the first step, and the mean of its lowest tenth.
    """
    folder = "holdout" if "holdout/loss" in result else "data"
    error = result.get(f"{folder}/td_error_abs")
    name, value = ("TD error", error)
    if error is None:
        name, value = "loss", result.get(f"{folder}/loss")
    agreement = result.get(f"{folder}/data_agreement")
    percent = agreement * 100 if isinstance(agreement, (int, float)) else None
    parts = [
        f"held-out {name} {_number(value, 3)}"
        if folder == "holdout"
        else f"{name} {_number(value, 3)}",
        f"gap {_number(result.get(f'{folder}/ood_gap'))}",
        f"agreement {_number(percent, 0):>3}%",
    ]
    start = result.get(f"{folder}/start_value_mean")
    if start is not None:
        tail = result.get(f"{folder}/start_value_cvar_10")
        parts.append(f"estimate {_number(start)} (CVaR 10% {_number(tail)})")
    off_policy = result.get("off_policy/return_mean")
    if off_policy is not None:
        ends = [result.get(f"off_policy/return_mean_{end}") for end in ("low", "high")]
        low, high = map(_number, ends)
        parts.append(f"off-policy {_number(off_policy)} [{low}, {high}]")
    return parts


def progress_of(result: Mapping[str, Any]) -> Progress:
    """Returns the progress according to the counters of a flat result."""
    episodes = result.get("num_episodes_lifetime")
    if episodes is None:
        episodes = result.get("env_runners/num_episodes_lifetime", 0)
    numbers = (episodes, *(result.get(key, 0) for key in (STEPS, UPDATES, LOST)))
    return Progress("training", *map(int, numbers))


def trial_label(trial: Trial) -> str:
    """Returns the trial's name, or its number and its sampled values."""
    if trial.custom_trial_name:
        return f"[{trial.custom_trial_name}]"
    values = []
    for path, first in (trial.evaluated_params or {}).items():
        # PBT updates `config` only; `evaluated_params` keeps the first values.
        value: Any = trial.config
        for key in str(path).split("/"):
            value = value.get(key, first) if isinstance(value, Mapping) else first
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        # Sampled values may be long mappings.
        shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."
        values.append(f"{str(path).rsplit('/', 1)[-1]}={shown}")
    number = trial.trial_id.rsplit("_", 1)[-1]
    return f"[{' '.join([number, *values])}]"


class ProgressLines(Callback):
    """Tune callback that prints a line for each result with an evaluation.

    After some time without a line, a status line shows what the trials do.
    """

    def __init__(
        self, stop: Mapping[str, float], evaluates: bool, status_s: float | None = None
    ) -> None:
        """Initializes the callback.

        Args:
            stop: Stop criteria, from which the time left is computed.
            evaluates: Whether the algorithm evaluates. If not, every result gets a
                line.
            status_s: Seconds without a line after which a status line is printed;
                None: :data:`.status.STATUS_S`.
        """
        self._stop = dict(stop)
        self._evaluates = evaluates
        self._several = False
        self._trial_timers: dict[str, Timer] = {}
        self._status_s = status.STATUS_S if status_s is None else status_s
        # Time of the last line (or of the start) and last result of each trial.
        self._last_line: dict[str, float] = {}
        self._results: dict[str, Progress] = {}
        self._last_status = 0.0
        # Stop criteria that are in no result yet.
        self._unseen = set(stop)
        self._warned = False

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Stores whether there are several trials."""
        self._several = (total_num_samples or 1) > 1

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Prints a line for a result."""
        flat = flatten_fresh(result)
        timer = self._trial_timers.setdefault(trial.trial_id, Timer())
        timer.update(flat, self._stop)
        # Before the first evaluation, the score of a checkpoint is NaN.
        evaluated = any(k.startswith("evaluation/") and v == v for k, v in flat.items())
        self._warn_of_unseen(flat, evaluated)
        label = trial_label(trial) if self._several or len(trials) > 1 else ""
        for text in flat.get("env_notices", "").splitlines():
            note(f"{label} {text}".lstrip())
        self._results[trial.trial_id] = progress_of(flat)
        if self._evaluates and not evaluated:
            return
        say(format_line(flat, timer, self._stop, label))
        self._last_line[trial.trial_id] = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Prints a status line if running trials have had no line for some time.

        If no trial runs, those count that wait for resources or for their process.
        """
        now = time.monotonic()
        silent = []
        some_run = any(trial.status == Trial.RUNNING for trial in trials)
        counted = Trial.RUNNING if some_run else Trial.PENDING
        for trial in trials:
            if trial.status != counted:
                self._last_line.pop(trial.trial_id, None)
            elif now - self._last_line.setdefault(trial.trial_id, now) > self._status_s:
                silent.append(trial)
        if not silent or now - self._last_status < self._status_s:
            return
        self._last_status = now
        seconds = now - min(self._last_line[trial.trial_id] for trial in silent)
        if len(silent) > 1:
            who = f"{len(silent)} trials  "
        else:
            who = f"{trial_label(silent[0])}  " if self._several else ""
        say(f"{who}{status_line(seconds, self._status(silent))}")

    def _status(self, trials: list[Trial]) -> Progress:
        starting = Progress("starting", 0, 0, 0, 0)
        return sum_up(
            [
                read_progress(trial.trial_id)
                or self._results.get(trial.trial_id, starting)
                for trial in trials
            ]
        )

    def _warn_of_unseen(self, flat: Mapping[str, Any], evaluated: bool) -> None:
        """Warns once about stop criteria that are missing in a complete result."""
        self._unseen -= {key for key, value in flat.items() if value == value}
        # A result is complete if it has learner results and an evaluation.
        full = flat.get(UPDATES, 1) and (evaluated or not self._evaluates)
        if self._warned or not full:
            return
        self._warned = True
        for name in sorted(self._unseen):
            folder = name.rpartition("/")[0]
            beside = [key for key in flat if key.rpartition("/")[0] == folder]
            held = ", ".join(sorted(beside or flat)[:_MAX_NAMES])
            note(
                f"Warning: stop: no result contains {name}, so this criterion may never"
                f" stop the run. The last result contains, among others: {held}."
            )

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Prints that a failed trial restarts."""
        say(f"{trial_label(trial)}  failed and restarts from its last checkpoint")

    def get_state(self) -> dict[str, Any] | None:
        """Returns None: this callback has no state to store."""
        return None
