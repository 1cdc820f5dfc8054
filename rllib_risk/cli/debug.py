"""Training in this process, without Tune and worker processes (``--debug``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rllib_risk.cli.option_groups import RayOptions
from rllib_risk.cli.output import say
from rllib_risk.cli.preflight import preflight
from rllib_risk.cli.progress import Timer, flatten, format_line
from rllib_risk.cli.session import prepare, ray_session, register_all
from rllib_risk.cli.status import status_lines
from rllib_risk.config.experiments import ExperimentSpec


def run_debug(specs: Sequence[ExperimentSpec], ray_options: RayOptions) -> int:
    """Trains the first configuration of each experiment in this process.

    Environments run in this process too (``num_env_runners: 0``), so that breakpoints
    and ``print`` work everywhere. No checkpoint is written.

    Args:
        specs: The experiments.
        ray_options: Options for starting Ray, which RLlib always needs.

    Returns:
        The exit code.

    Raises:
        ConfigError: If an experiment cannot run.
    """
    prepare(ray_options.verbose)
    register_all()
    checked = [preflight(spec) for spec in specs]
    imports = sorted({name for spec in specs for name in spec.imports})
    with ray_session(ray_options, imports):
        for spec, found in zip(specs, checked, strict=True):
            config = found.config
            config.num_env_runners = 0
            config.evaluation_num_env_runners = 0
            stop = spec.stop or "never (interrupt it)"
            say(f"{spec.name}: debugging without checkpoints; stops at: {stop}")
            if found.risk:
                say(found.risk)
            if found.replays:
                say(f"Replay: {found.replays[0]}")
            for _ in train_here(config.build_algo(), spec.stop):
                pass
    return 0


def train_here(algorithm: Any, stop: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Trains in this process until a result meets a stop criterion.

    Args:
        algorithm: The algorithm; it is stopped at the end, also after an error.
        stop: Stop criteria: name of a result to the value at which to stop.

    Yields:
        The flat result of every iteration, after its line was printed.
    """
    from rllib_risk.core.rounds import one_thread

    timer = Timer()
    # RLlib's own algorithms report no progress.
    doing = getattr(algorithm, "progress", lambda: "training")
    try:
        while True:
            # As in a trial of Tune, which has one thread per requested core.
            with one_thread(), status_lines(doing, say):
                result = flatten(algorithm.train())
            timer.update(result, stop)
            say(format_line(result, timer, stop))
            yield result
            if any(result.get(key, -float("inf")) >= v for key, v in stop.items()):
                return
    finally:
        algorithm.stop()
