"""Weights & Biases: one run per trial, with env steps as its step.

Ray's own callback counts iterations, starts each run anew on ``--resume`` and needs a
key. This one keeps a run's id (the trial's), never writes a step twice, and works
offline. The key goes to W&B only: not into configurations, results or logs.
"""

from __future__ import annotations

import math
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_risk.cli.options import WandbOptions
from rllib_risk.cli.output import note
from rllib_risk.cli.progress import STEPS, flatten

_API = "https://api.wandb.ai"
_START_TIMEOUT_S = 30


def has_login() -> bool:
    """Returns whether ``wandb login`` left a key on this machine."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", _API)).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbRuns(Callback):
    """Logs every trial's results to a run of its own."""

    def __init__(self, options: WandbOptions, group: str) -> None:
        """Keeps what a run needs.

        Args:
            options: Project, key and run name.
            group: Name of the experiment, under which its runs are grouped.
        """
        self._options = options
        self._group = group
        self._runs: dict[str, Any] = {}
        self._last_step: dict[str, int] = {}

    def _mode(self) -> str:
        if os.environ.get("WANDB_MODE"):
            return os.environ["WANDB_MODE"]
        key = self._options.key or os.environ.get("WANDB_API_KEY") or has_login()
        return "online" if key else "offline"

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
            "dir": str(Path(trial.local_path or ".").parent),
            "config": _plain(trial.config),
            "resume": "allow",
            # Several trials of one process have a run each at the same time.
            "reinit": "create_new",
        }
        settings: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "init_timeout": _START_TIMEOUT_S,
        }
        if self._options.key:
            settings["api_key"] = self._options.key
        mode: Any = self._mode()
        try:
            return wandb.init(
                **arguments, mode=mode, settings=wandb.Settings(**settings)
            )
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            if mode != "online":
                raise
            note(f"W&B cannot be reached ({error}); logging offline instead.")
            settings.pop("api_key", None)
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
        flat = {
            key: float(value)
            for key, value in flatten(result).items()
            if isinstance(value, (int, float, np.number))
            and math.isfinite(value)
            and not key.startswith("config/")
        }
        step = int(flat.get(STEPS, flat.get("training_iteration", 0)))
        if step <= self._last_step.get(trial.trial_id, -1):
            return
        if trial.trial_id not in self._runs:
            self._runs[trial.trial_id] = self._start(trial, len(trials) > 1)
        self._runs[trial.trial_id].log(flat, step=step)
        self._last_step[trial.trial_id] = step

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
        """Ends the runs that are left, such as those of an interrupted experiment."""
        for trial_id in list(self._runs):
            self._finish(trial_id, 0)

    def _finish(self, trial_id: str, exit_code: int) -> None:
        run = self._runs.pop(trial_id, None)
        if run is not None:
            run.finish(exit_code=exit_code)

    def get_state(self) -> dict[str, Any]:
        """The last step of each run, so that a resumed experiment repeats none."""
        return {"last_step": self._last_step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores :meth:`get_state`."""
        self._last_step = dict(state["last_step"])


def _plain(value: Any) -> Any:
    """Returns a configuration with JSON values only, for W&B's table."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
