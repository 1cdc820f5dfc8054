"""Logs to Weights & Biases: one run per trial, with env steps as the step.

Ray's own callback counts iterations, starts a new run on ``--resume`` and needs a key.
This callback uses the trial's id as the run's id, never writes a step twice, and works
offline. The key goes only to W&B, not into configurations, results or logs.
"""

from __future__ import annotations

import json
import math
import netrc
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_risk.cli.catalog import RLLIB_METRIC, TEAM_METRIC
from rllib_risk.cli.option_groups import WandbOptions
from rllib_risk.cli.output import note
from rllib_risk.cli.progress import STEPS, UPDATES, flatten_fresh

_START_TIMEOUT_S = 30
_CONNECT_TIMEOUT_S = 5
_MEMORY = "logged.json"
# Metrics whose best value goes to a run's summary.
_BEST_OF = (TEAM_METRIC, RLLIB_METRIC)


def choose_mode(options: WandbOptions) -> str:
    """Chooses the mode of W&B: online or offline.

    Args:
        options: Options for logging to W&B.

    Returns:
        ``WANDB_MODE`` if it is set. Otherwise ``offline`` without a key or a connection
        (a line on stderr says so), and ``online`` with both.
    """
    import wandb

    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    server = urlparse(wandb.Settings().base_url)
    host = server.hostname or ""
    if not (options.key or os.environ.get("WANDB_API_KEY") or _has_login(host)):
        note("W&B: no key, so the runs are logged offline; 'wandb sync' uploads them.")
        return "offline"
    port = server.port or (80 if server.scheme == "http" else 443)
    try:
        # W&B itself would try for minutes, in each trial.
        socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        note(f"W&B: {host} cannot be reached ({error}); logging offline instead.")
        return "offline"
    return "online"


def _has_login(host: str) -> bool:
    """Returns whether ``wandb login`` left a key on this machine."""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@dataclass
class _Logged:
    """State of a run.

    Attributes:
        step: Last logged step; -1 before the first one.
        best: Highest value of each metric, and its step.
    """

    step: int = -1
    best: dict[str, tuple[float, int]] = field(default_factory=dict)


class WandbRuns(Callback):
    """Tune callback that logs each trial to its own W&B run."""

    def __init__(self, options: WandbOptions, group: str, folder: str) -> None:
        """Initializes the callback.

        Args:
            options: Project, key and run name.
            group: Name of the experiment, which groups its runs.
            folder: Folder or address of the experiment's results.
        """
        # Otherwise W&B prints on stdout where it found the key.
        os.environ.setdefault("WANDB_SILENT", "true")
        self._mode: Any = choose_mode(options)
        self._options = options
        self._group = group
        # Runs write to the results folder: Tune makes its last copy of its session
        # folder before the runs end.
        self._folder = None if "://" in folder else Path(folder)
        self._runs: dict[str, Any] = {}
        self._logged: dict[str, _Logged] = {}
        self._memory = self._folder and self._folder / "wandb" / _MEMORY
        if self._memory is not None and self._memory.is_file():
            try:
                self.set_state(json.loads(self._memory.read_bytes()))
            except (OSError, ValueError, TypeError, AttributeError) as error:
                note(f"W&B: {self._memory} is damaged and is ignored: {error}")

    def _start(self, trial: Trial, several: bool) -> Any:
        import wandb

        name = self._options.run_name or str(trial)
        if self._options.run_name and several:
            name = f"{name}-{trial.trial_id.rsplit('_', 1)[-1]}"
        arguments: dict[str, Any] = {
            "project": self._options.project,
            "id": trial.trial_id,
            "name": name,
            "group": self._group,
            "dir": str(self._folder or Path(trial.local_path or ".").parent),
            "config": _plain(own_config(trial)),
            "resume": "allow",
            # Several trials of one process have open runs at the same time.
            "reinit": "create_new",
        }
        settings: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "init_timeout": _START_TIMEOUT_S,
        }
        if self._options.key:
            settings["api_key"] = self._options.key
        try:
            return wandb.init(
                **arguments, mode=self._mode, settings=wandb.Settings(**settings)
            )
        except Exception as error:  # a wrong key, a full quota, a broken connection
            if self._mode == "offline":
                raise
            note(f"W&B: {error}\nLogging offline instead.")
            self._mode = "offline"
            settings.pop("api_key", None)
            # W&B does not accept the id of a run that failed to start again.
            arguments["id"] = f"{trial.trial_id}-offline"
            return wandb.init(
                **arguments, mode="offline", settings=wandb.Settings(**settings)
            )

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Logs a result, unless its step was already logged before a restart."""
        flat = loggable(flatten_fresh(result))
        # Runs that learn from a dataset sample no env steps.
        step = int(flat.get(STEPS, 0) or flat.get(UPDATES, flat["training_iteration"]))
        logged = self._logged.setdefault(trial.trial_id, _Logged())
        if step <= logged.step:
            return
        run = self._runs.get(trial.trial_id)
        if run is None:
            run = self._runs[trial.trial_id] = self._start(trial, len(trials) > 1)
        logged.step = step
        for metric in _BEST_OF:
            if flat.get(metric, -math.inf) > logged.best.get(metric, (-math.inf, 0))[0]:
                logged.best[metric] = (flat[metric], step)
        run.log(flat, step=step)
        for metric, (value, at) in logged.best.items():
            run.summary[f"best/{metric}"] = value
            run.summary[f"best/{metric}_step"] = at
        # PBT changes a trial's configuration while it trains.
        run.config.update(_plain(own_config(trial)), allow_val_change=True)
        self._remember()

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Ends the trial's run."""
        self._finish(trial.trial_id, 0)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Ends the trial's run as failed."""
        self._finish(trial.trial_id, 1)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Ends the open runs, such as those of an interrupted experiment."""
        for trial_id in list(self._runs):
            self._finish(trial_id, 0)

    def _finish(self, trial_id: str, exit_code: int) -> None:
        run = self._runs.pop(trial_id, None)
        if run is not None:
            run.finish(exit_code=exit_code)

    def _remember(self) -> None:
        """Saves the state to a file: after SIGKILL, Tune's own state is older."""
        if self._memory is None:
            return
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        part = self._memory.with_suffix(".part")
        part.write_text(json.dumps(self.get_state()))
        part.replace(self._memory)

    def get_state(self) -> dict[str, Any]:
        """Returns what was logged, so that a resumed experiment repeats no step."""
        return {trial: [one.step, one.best] for trial, one in self._logged.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state from :meth:`get_state`; keeps trials that have logged."""
        for trial, (step, best) in state.items():
            if trial not in self._logged:
                pairs = {name: (value, at) for name, (value, at) in best.items()}
                self._logged[trial] = _Logged(step, pairs)


def loggable(flat: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a flat result that a run logs.

    Args:
        flat: The result, without a repeated older evaluation.
    """
    return {
        key: float(value)
        for key, value in flat.items()
        if isinstance(value, (int, float, np.number))
        and math.isfinite(value)
        and not key.startswith("config/")
    }


def own_config(trial: Trial) -> dict[str, Any]:
    """Returns the keys that the user set, with the sampled values."""
    return {k: v for k, v in trial.config.items() if k != "callbacks"}


def _plain(value: Any) -> Any:
    """Returns a configuration with JSON values only, for W&B's table."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
