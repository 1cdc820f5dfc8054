"""Starts and stops Ray."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rllib_risk.cli.output import note
from rllib_risk.cli.signals import sigterm_held_back
from rllib_risk.config.schema import ConfigError
from rllib_risk.core import progress
from rllib_risk.core.ray_internals import NOISY_LOGGERS

if TYPE_CHECKING:
    # Each worker imports this module; it needs no command line.
    from rllib_risk.cli.option_groups import RayOptions

# Longest time in which a cluster must take a connection.
_CONNECT_S = 10.0
_IMPORTS = "RLLIB_RISK_IMPORTS"
_FOLDER = "RLLIB_RISK_FOLDER"


def prepare(verbose: int) -> None:
    """Sets the process up before Ray is imported: quiet logs, our own Ctrl-C.

    Args:
        verbose: 0 for only what the command itself prints.
    """
    # A user's modules are where the command is run; a console script does not look
    # there, and workers look where PYTHONPATH points.
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (here, *paths) if p)
    # Tune's handler would end the run without a checkpoint; see interrupt.py.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # Tune would end all trials at a result without the metric that a scheduler or
    # searcher compares by. Before the first evaluation there is none; a metric that can
    # never come is refused before the start (preflight.py).
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Trials stay where the command was run, so that relative paths mean the same there.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    # Ray announces a change of a future release in every process otherwise.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if verbose > 0:
        # With the traceback of a crash in an environment.
        logging.getLogger("rllib_risk").setLevel(logging.INFO)
    if verbose == 0:
        # The older of Tune's two reporters is the one that can be silent.
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")
        warnings.filterwarnings("ignore", message="Consider boosting PBT")
        # Of the model behind PB2, at every step.
        warnings.filterwarnings("ignore", module="sklearn.gaussian_process")
        os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
        os.environ.setdefault("PYTHONWARNINGS", "ignore::DeprecationWarning")
        quieten()


def quieten() -> None:
    """Lets only errors through from loggers that say nothing a user can act on."""
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def setup_worker() -> None:
    """Runs in each Ray worker: the command's folder, the user's modules, quiet logs."""
    quieten()
    # What workers log is shown with -v only, and then with tracebacks.
    logging.getLogger("rllib_risk").setLevel(logging.INFO)
    folder = os.environ.get(_FOLDER, "")
    # Not there on other machines of a cluster that share no files.
    if os.path.isdir(folder):
        os.chdir(folder)
    for name in os.environ.get(_IMPORTS, "").split(","):
        if name:
            importlib.import_module(name)


def register_all() -> None:
    """Makes this package's algorithms, envs and models known to Ray."""
    import rllib_risk

    rllib_risk.register()


@contextlib.contextmanager
def ray_session(options: RayOptions, imports: Sequence[str] = ()) -> Iterator[None]:
    """Starts Ray and stops it at the end, whatever happens.

    Args:
        options: What to start or to join.
        imports: Modules that every worker imports too, since a user's registrations
            must be known where environments are made.

    Yields:
        Nothing; Ray is up inside.
    """
    import ray

    note("Starting Ray ...")
    folder = tempfile.TemporaryDirectory(
        prefix="rllib_risk_", ignore_cleanup_errors=True
    )
    os.environ[progress.FOLDER] = folder.name
    # Workers of a cluster that was up before are where that was started.
    runtime_env = {
        "worker_process_setup_hook": "rllib_risk.cli.session.setup_worker",
        "env_vars": {
            _IMPORTS: ",".join(imports),
            _FOLDER: os.getcwd(),
            progress.FOLDER: folder.name,
        },
    }
    shared: dict[str, Any] = {
        "include_dashboard": options.dashboard,
        "log_to_driver": options.verbose > 0,
        "logging_level": logging.INFO if options.verbose > 1 else logging.ERROR,
        "runtime_env": runtime_env,
    }
    clusters: list[Any] = []
    try:
        with sigterm_held_back():
            _start_ray(options, shared, clusters)
        register_all()
        yield
    finally:
        ray.shutdown()
        for cluster in clusters:
            cluster.shutdown()
        os.environ.pop(progress.FOLDER, None)
        folder.cleanup()


def _start_ray(
    options: RayOptions, shared: dict[str, Any], clusters: list[Any]
) -> None:
    import ray

    if options.num_nodes:
        clusters.append(_emulated_cluster(options))
        shared.pop("include_dashboard")
        ray.init(address=clusters[0].address, **shared)
    elif options.address:
        shared.pop("include_dashboard")
        _check_address(options.address)
        try:
            ray.init(address=options.address, **shared)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _unreachable(options.address, error) from error
    else:
        own = {
            "num_cpus": options.num_cpus,
            "num_gpus": options.num_gpus,
            "object_store_memory": options.object_store_memory,
        }
        # A cluster that runs here is joined, unless sizes for a new one are given.
        new = any(size is not None for size in own.values())
        ray.init("local" if new else None, **own, **shared)


def _check_address(address: str) -> None:
    """Refuses an address where nothing answers: Ray would end the process there."""
    scheme, mark, rest = address.rpartition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit() or (mark and scheme != "ray"):
        return  # such as 'auto', which Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ConfigError:
    cause = str(error).strip().partition("\n")[0].rstrip(".")
    return ConfigError(
        f"--ray-address: no Ray cluster can be joined at {address!r}:"
        f" {type(error).__name__}: {cause}. Check the address, or leave it out to start"
        " Ray on this machine."
    )


def _emulated_cluster(options: RayOptions) -> Any:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for node in range(options.num_nodes or 1):
        cluster.add_node(
            num_cpus=options.num_cpus or 1,
            num_gpus=options.num_gpus or 0,
            object_store_memory=options.object_store_memory,
            include_dashboard=options.dashboard and node == 0,
        )
    return cluster
