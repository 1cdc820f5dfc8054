"""Prepares the process, starts Ray and stops it."""

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
    # Each worker imports this module and should not load the command line.
    from rllib_risk.cli.option_groups import RayOptions

# Time limit in seconds for connecting to a cluster.
_CONNECT_S = 10.0
_IMPORTS = "RLLIB_RISK_IMPORTS"
_FOLDER = "RLLIB_RISK_FOLDER"


def prepare(verbose: int) -> None:
    """Sets up the process before Ray is imported: quiet logs, our own Ctrl-C handler.

    Args:
        verbose: Number of ``-v`` flags. 0: show only what the command itself prints.
    """
    # A user's modules are in the working directory. A console script does not search
    # it, and workers search only PYTHONPATH.
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (here, *paths) if p)
    # Tune's handler would end the run without a checkpoint; see interrupt.py.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # Tune would end all trials at a result without the metric of the scheduler or
    # searcher, as before the first evaluation. preflight.py refuses metrics that a run
    # can never report.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Trials keep the working directory of the command, so that relative paths work.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    # Otherwise every process warns about a change in a future release of Ray.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if verbose > 0:
        # At this level, the log includes tracebacks of crashes in an environment.
        logging.getLogger("rllib_risk").setLevel(logging.INFO)
    if verbose == 0:
        # Only the older one of Tune's two reporters can be silenced.
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")
        warnings.filterwarnings("ignore", message="Consider boosting PBT")
        # The model of PB2 warns at every step.
        warnings.filterwarnings("ignore", module="sklearn.gaussian_process")
        os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
        os.environ.setdefault("PYTHONWARNINGS", "ignore::DeprecationWarning")
        quieten()


def quieten() -> None:
    """Silences loggers whose messages do not help a user."""
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def setup_worker() -> None:
    """Sets up a Ray worker: working directory, user modules, quiet logs."""
    quieten()
    # Worker logs are shown only with -v, and then with tracebacks.
    logging.getLogger("rllib_risk").setLevel(logging.INFO)
    folder = os.environ.get(_FOLDER, "")
    # Other machines of a cluster may not have this folder.
    if os.path.isdir(folder):
        os.chdir(folder)
    for name in os.environ.get(_IMPORTS, "").split(","):
        if name:
            importlib.import_module(name)


def register_all() -> None:
    """Registers this package's algorithms, envs and models with Ray."""
    import rllib_risk

    rllib_risk.register()


@contextlib.contextmanager
def ray_session(options: RayOptions, imports: Sequence[str] = ()) -> Iterator[None]:
    """Context manager that starts Ray, and stops it at the end even after an error.

    Args:
        options: Options for starting Ray or joining a cluster.
        imports: Modules that every worker imports too. They register a user's
            environments, which workers create.

    Yields:
        Nothing.
    """
    import ray

    note("Starting Ray ...")
    folder = tempfile.TemporaryDirectory(
        prefix="rllib_risk_", ignore_cleanup_errors=True
    )
    os.environ[progress.FOLDER] = folder.name
    # Workers of a running cluster have another working directory and environment.
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
        # Without sizes, a cluster that already runs on this machine is joined.
        new = any(size is not None for size in own.values())
        ray.init("local" if new else None, **own, **shared)


def _check_address(address: str) -> None:
    """Refuses an address that does not answer: Ray would end the process."""
    scheme, mark, rest = address.rpartition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit() or (mark and scheme != "ray"):
        return  # Ray resolves other forms, such as 'auto'.
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ConfigError:
    cause = str(error).strip().partition("\n")[0].rstrip(".")
    return ConfigError(
        f"--ray-address: cannot join a Ray cluster at {address!r}:"
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
