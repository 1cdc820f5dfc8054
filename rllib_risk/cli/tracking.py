"""Weights & Biases: one run per trial, with env steps as its step.

Ray's own callback counts iterations, starts each run anew on ``--resume`` and needs a
key. This one keeps a run's id (the trial's), never writes a step twice, and works
offline. The key goes to W&B only: not into configurations, results or logs.
"""

from __future__ import annotations

import math
import netrc
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_risk.cli.options import WandbOptions
from rllib_risk.cli.output import note
from rllib_risk.cli.progress import STEPS, UPDATES, flatten_fresh

_START_TIMEOUT_S = 30
_CONNECT_TIMEOUT_S = 5


def choose_mode(options: WandbOptions) -> str:
    """Decides whether to log online.

    Args:
        options: May hold a key.

    Returns:
        ``WANDB_MODE`` if it is set; ``offline`` without a key or without a connection,
        which is said on stderr; otherwise ``online``.
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
        # W&B itself would try for minutes, for each trial.
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


class WandbRuns(Callback):
    """Logs every trial's results to a run of its own."""

    def __init__(self, options: WandbOptions, group: str) -> None:
        """Keeps what a run needs.

        Args:
            options: Project, key and run name.
            group: Name of the experiment, under which its runs are grouped.
        """
        # W&B announces the key's origin on stdout otherwise.
        os.environ.setdefault("WANDB_SILENT", "true")
        self._mode: Any = choose_mode(options)
        self._options = options
        self._group = group
        self._runs: dict[str, Any] = {}
        self._last_step: dict[str, int] = {}

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
            # W&B still holds the id of the run that it could not start.
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
        flat = {
            key: float(value)
            for key, value in flatten_fresh(result).items()
            if isinstance(value, (int, float, np.number))
            and math.isfinite(value)
            and not key.startswith("config/")
        }
        # Who learns from a dataset samples no steps.
        step = int(flat.get(STEPS, 0) or flat.get(UPDATES, flat["training_iteration"]))
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
