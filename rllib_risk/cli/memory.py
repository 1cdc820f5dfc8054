"""Checks that the replays of a run fit into memory, and reports their size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rllib_risk.cli.option_groups import RayOptions
from rllib_risk.cli.output import note
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import walk_domains
from rllib_risk.data.replay_memory import (
    ReplayBound,
    check_room,
    machine_memory,
    node_memory,
)


@dataclass(frozen=True)
class Trials:
    """Trials of an experiment and the memory of their replays.

    Attributes:
        spec: The experiment.
        replays: Upper bound of the replay size, for each checked configuration.
        seeds: Number of runs of each configuration.
    """

    spec: ExperimentSpec
    replays: Sequence[ReplayBound]
    seeds: int = 1

    def __len__(self) -> int:
        """Returns the number of trials."""
        grids = (
            len(domain.args)
            for _, domain in walk_domains(self.spec.config)
            if domain.kind == "grid_search"
        )
        return self.spec.num_samples * self.seeds * math.prod(grids)

    def largest_first(self) -> list[ReplayBound]:
        """Returns the bound of each trial, assuming equally many per configuration."""
        each = -(-len(self) // max(len(self.replays), 1))
        bounds = sorted(self.replays, key=lambda bound: -bound.bytes)
        return [bound for bound in bounds for _ in range(each)][: len(self)]


def check_memory(trials: Sequence[Trials], options: RayOptions) -> str:
    """Refuses replays that do not fit into memory; Ray must be running.

    Trials that run at the same time share the memory of a machine.

    Args:
        trials: Trials that Tune schedules together.
        options: Options with which Ray was started.

    Returns:
        A line to print about the replays; empty if there are none.

    Raises:
        ConfigError: If the replays do not fit. The message has the place of the key.
    """
    bounds = [bound for each in trials for bound in each.largest_first()]
    bounds.sort(key=lambda bound: -bound.bytes)
    if not bounds:
        return ""
    room, cpus, where = _machine(options)
    bounds = bounds[: _most_at_once(trials, cpus)]
    try:
        warning = check_room(bounds, room, where)
    except ConfigError as error:
        raise trials[0].spec.located(str(error)) from error
    if warning:
        note(f"Warning: {warning}")
    line = f"Replay: {bounds[0]}"
    if len(bounds) > 1:
        line += f" in each of {len(bounds)} trials at the same time"
    return line


def _machine(options: RayOptions) -> tuple[int | None, float, str]:
    """Returns memory, CPUs and a name of the machine that will run the trials."""
    import ray

    if not options.address:  # emulated nodes share this machine as well
        return machine_memory(), ray.cluster_resources().get("CPU", 0), "this machine"
    nodes = ray.nodes()
    cpus = [node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]]
    return node_memory(nodes), max(cpus, default=0), "the largest node of the cluster"


def _most_at_once(trials: Sequence[Trials], cpus: float) -> int:
    """Returns how many trials can run on one machine at the same time."""
    number = sum(map(len, trials))
    asked = [_cpus(each.spec) for each in trials]
    if cpus and min(asked) > 0:
        number = min(number, int(cpus // min(asked)))
    limits = [each.spec.max_concurrent_trials or number for each in trials]
    return max(min(number, *limits), 1)


def _cpus(spec: ExperimentSpec) -> float:
    """Returns the smallest number of CPUs that a trial of an experiment requests."""
    from rllib_risk.cli.preflight import requests

    return min(request.get("CPU", 0) for request in requests(spec))
