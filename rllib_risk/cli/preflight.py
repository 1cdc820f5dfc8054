"""Checks experiments before they start: builds configurations and environments."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.cli.api_stack import STACK_KEYS, Stack, choose_stack
from rllib_risk.cli.catalog import default_config, is_team_algorithm
from rllib_risk.cli.option_groups import RayOptions
from rllib_risk.cli.output import note
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.imports import import_path
from rllib_risk.config.metrics import TEAM_METRICS, excluded_by
from rllib_risk.config.mutations import with_mutations
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import concrete_configs
from rllib_risk.core import remarks
from rllib_risk.data.replay_memory import ReplayBound
from rllib_risk.env_wrappers.errors import EnvConfigError

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.team_env import TeamEnv

# At most this number of configurations of a sweep are built. The values of all of them
# are already checked against the declarations of their keys.
MAX_CONFIGS = 32
# Time limit in seconds for the episode that shows what an env reports.
_EPISODE_S = 5.0
_STEPS = "num_env_steps_sampled_lifetime"
_MIN_STEPS = "min_sample_timesteps_per_iteration"
_SUCCESS = "evaluation/success_rate"
_MODEL = "model_config"
_MAPPING = "policy_mapping_fn"


def tune_config(spec: ExperimentSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configuration dict that Tune passes to the algorithm.

    Args:
        spec: The experiment.
        values: Its ``config``, with or without search spaces.

    Returns:
        The values with the env and, for RLlib's own algorithms, the API stack.

    Raises:
        ConfigError: If the keys need both API stacks.
    """
    if spec.config_object is not None:
        return dict(values)
    config = {**values, **_stack_switches(spec)}
    if spec.env is not None:  # Tune would name the trial's folder after None
        config["env"] = spec.env
    if is_team_algorithm(spec.algorithm):
        notes = type(default_config(spec.algorithm)).note_of_own_parts(spec.config)
        return config | notes
    if _MODEL in config:
        # As `config.rl_module(model_config=...)` does; RLlib has no public key for it.
        config[f"_{_MODEL}"] = config.pop(_MODEL)
    mapping = config.get(_MAPPING)
    if isinstance(mapping, str):
        config[_MAPPING] = import_path(mapping, _MAPPING, dotted=True)
    return config


def _stack(spec: ExperimentSpec) -> Stack | None:
    """Returns the API stack of all trials; None for algorithms of this package."""
    if spec.config_object is not None or is_team_algorithm(spec.algorithm):
        return None
    defaults = default_config(spec.algorithm).to_dict()
    return choose_stack(spec.algorithm, spec.config, defaults)


def _stack_switches(spec: ExperimentSpec) -> dict[str, bool]:
    stack = _stack(spec)
    return {} if stack is None or stack.new else dict.fromkeys(STACK_KEYS, False)


def build_config(spec: ExperimentSpec, values: Mapping[str, Any]) -> Any:
    """Returns an ``AlgorithmConfig`` for values without search spaces."""
    # Copied, because RLlib changes some of the dicts that it receives.
    values = copy.deepcopy(tune_config(spec, values))
    if spec.config_object is not None:
        return spec.config_object.copy(copy_frozen=False).update_from_dict(values)
    return default_config(spec.algorithm).update_from_dict(values)


@dataclass(frozen=True)
class Checked:
    """Results of the checks of an experiment.

    Attributes:
        config: The validated ``AlgorithmConfig`` of the first trial.
        replays: Upper bound of each replay's size, over the checked configurations.
        risks: Distinct descriptions of the controlled risk, over these configurations.
    """

    config: Any
    replays: tuple[ReplayBound, ...]
    risks: tuple[str, ...] = ()

    @property
    def risk(self) -> str:
        """The risks as one line; empty for RLlib's own algorithms."""
        return risk_line(self.risks)


def preflight(spec: ExperimentSpec) -> Checked:
    """Checks an experiment as far as possible without starting it.

    Args:
        spec: The experiment.

    Returns:
        The results of the checks.

    Raises:
        ConfigError: If a configuration or its env is wrong. The message has the place.
    """
    first = None
    replays: list[ReplayBound | None] = []
    risks: dict[str, None] = {}
    for config in _validated(spec):
        if hasattr(config, "preflight"):
            with _located(spec):
                replays.append(config.preflight())
                remarks.tell(config, lambda text: note(f"Warning: {text}"))
        first = first or config
        if hasattr(config, "risk"):
            risks[config.risk()] = None
    stack = _stack(spec)
    if stack is not None and stack.key:
        note(f"{spec.name} {stack.reason()}")
    bounds = tuple(bound for bound in replays if bound is not None)
    return Checked(first, bounds, tuple(risks))


def risk_line(risks: Sequence[str]) -> str:
    """Returns the line about the controlled risk, printed before an experiment.

    Args:
        risks: Descriptions of the risks; empty for RLlib's own algorithms.
    """
    return f"Risk: {' / '.join(risks)}." if risks else ""


def check_combinations(spec: ExperimentSpec) -> None:
    """Checks that the keys of an experiment are compatible; builds no environment.

    Args:
        spec: The experiment.

    Raises:
        ConfigError: If keys are incompatible. The message has the place.
    """
    for _ in _validated(spec):
        pass


def _validated(spec: ExperimentSpec) -> Iterator[Any]:
    """Yields validated configurations that represent all trials."""
    mutated = spec.scheduler.mutated if spec.scheduler else {}
    everything = with_mutations(spec.config, mutated)
    for values in concrete_configs(everything, MAX_CONFIGS):
        with _located(spec):
            config = build_config(spec, values)
            config.validate()
        yield config


@contextlib.contextmanager
def _located(spec: ExperimentSpec) -> Iterator[None]:
    """Adds the place in the file to errors of a configuration or its environment."""
    try:
        yield
    except ConfigError as error:
        raise spec.located(str(error)) from error
    except EnvConfigError as error:
        raise spec.located(str(error), "config.env_config", "env") from error
    except Exception as error:  # RLlib and environments raise many exception types
        raise spec.located(f"{type(error).__name__}: {error}") from error


def check_reachable(metric: str, config: Any) -> None:
    """Refuses a metric that a run can never report.

    Args:
        metric: Name of the metric that compares trials.
        config: The validated ``AlgorithmConfig`` of the run.

    Raises:
        ConfigError: If the run can never report it. The message suggests another one.
    """
    reason = unreachable(metric, config)
    if reason is not None:
        raise ConfigError(f"metric: this run can never report {metric}: {reason}")


def fit_to_machine(
    specs: Sequence[ExperimentSpec], options: RayOptions
) -> list[ExperimentSpec]:
    """Checks that this machine has the CPUs and GPUs of each trial; Ray must run.

    Tune would wait forever, without a message, for missing CPUs. On a machine without
    GPUs, ``num_gpus`` becomes 0, so that the same file trains everywhere. A cluster
    that was already running is not checked, since it may grow.

    Args:
        specs: The experiments.
        options: Options with which Ray was started.

    Returns:
        The experiments. If ``num_gpus`` became 0, a line is printed.

    Raises:
        ConfigError: If a trial requests more than this machine has.
    """
    if options.address:
        return list(specs)
    import ray

    there = ray.cluster_resources()
    fitting, without_gpu = [], []
    for spec in specs:
        gpus = spec.config.get("num_gpus")
        if isinstance(gpus, int | float) and gpus > 0 and not there.get("GPU"):
            without_gpu.append(spec.name)
            # `num_gpus` also selects the API stack, which must stay the same.
            asked = {"num_gpus", "num_gpus_per_learner"} & spec.config.keys()
            fixed = _stack_switches(spec) | dict.fromkeys(asked, 0)
            spec = replace(spec, config={**spec.config, **fixed})
        _check_fits(spec, there)
        fitting.append(spec)
    if without_gpu:
        note(f"{', '.join(without_gpu)}: this machine has no GPU, so num_gpus is 0.")
    return fitting


def _check_fits(spec: ExperimentSpec, there: Mapping[str, float]) -> None:
    for request, kind in itertools.product(requests(spec), ("CPU", "GPU")):
        asked, found = request.get(kind, 0), there.get(kind, 0)
        if asked > found:
            text = f"{spec.name}: a trial requests {asked:g} {kind}s, but Ray has only"
            text += f" {found:g} on this machine. Request fewer"
            text += " (num_env_runners, num_learners)" if kind == "CPU" else ""
            if found:
                text += f", or share them: --ray-num-{kind.lower()}s {asked:g}"
            raise spec.located(f"{text}.")


def requests(spec: ExperimentSpec) -> Iterator[Mapping[str, float]]:
    """Yields the resource requests of an experiment's trials.

    Args:
        spec: The experiment.

    Yields:
        Amounts by ``CPU``, ``GPU`` and so on: one request for all trials, or one per
        checked configuration.
    """
    if spec.resources_per_trial:
        yield {key.upper(): n for key, n in spec.resources_per_trial.items()}
        return
    for values in concrete_configs(spec.config, MAX_CONFIGS):
        algorithm = build_config(spec, values).algo_class
        # RLlib merges these values into its defaults, as in the trial.
        request = algorithm.default_resource_request(tune_config(spec, values))
        yield request.required_resources


def check_stop_can_be_met(spec: ExperimentSpec, config: Any) -> None:
    """Refuses a stop criterion that a run can never meet.

    Args:
        spec: The experiment.
        config: The validated ``AlgorithmConfig`` of one of its trials.

    Raises:
        ConfigError: If there is such a criterion. The message has its place.
    """
    for metric in spec.stop:
        reason = unreachable(metric, config)
        if reason is None and metric == _SUCCESS and spec.stop[metric] > 1:
            reason = "it is a share between 0 and 1. Use a value of at most 1."
        if reason is not None:
            message = f"stop: {metric} can never be met: {reason}"
            if spec.document is None:
                raise ConfigError(message)
            place = (*spec.path, "stop")
            whole = (*place, metric)
            nested = (*place, *metric.split("/"))
            known = whole if whole in spec.document.places else nested
            raise spec.document.error(message, *known)


def first_iteration(stop: Mapping[str, float], config: Any) -> str:
    """Explains that a run passes its stop criterion within the first iteration.

    Args:
        stop: The stop criteria.
        config: The validated ``AlgorithmConfig`` of the run.

    Returns:
        A line to print; empty if the first iteration is shorter than the criterion,
        and for RLlib's own algorithms.
    """
    asked = stop.get(_STEPS)
    least = getattr(config, _MIN_STEPS, None)
    if asked is None or not hasattr(config, "preflight") or not least or asked >= least:
        return ""
    return (
        f"Stop: {asked:,} env steps are less than one iteration. A trial stops only at"
        f" the end of an iteration, after {least:,} env steps or more ({_MIN_STEPS})."
    )


def unreachable(metric: str, config: Any) -> str | None:
    """Returns why a run can never report a metric.

    Args:
        metric: Name of the metric, such as ``evaluation/success_rate``.
        config: The validated ``AlgorithmConfig`` of the run.

    Returns:
        The reason; None if the run can report the metric, or if that is unknown.
    """
    reason = excluded_by(config, metric)
    folder, _, name = metric.partition("/")
    if reason is not None or folder != "evaluation":
        return reason
    # RLlib's own algorithms may report anything that their callbacks add.
    return _unknown_to_env(name, config) if hasattr(config, "preflight") else None


def _unknown_to_env(name: str, config: Any) -> str | None:
    from rllib_risk.core.callbacks import Hooks

    known = (f"evaluation/{name}" in TEAM_METRICS) and name != "success_rate"
    if known or name.startswith(("env_runners/", "risk_level_", "return_")):
        return None
    if Hooks(config).wants("on_"):
        return None  # a user's callbacks may add any metric
    wanted = "is_success" if name == "success_rate" else name
    reported = numbers_of_one_episode(config)
    if reported is None or wanted in reported:
        return None
    others = ", ".join(sorted(reported)) or "nothing"
    return (
        f"the env does not report '{wanted}' in the info of an episode's last step (it"
        f" reports {others})."
    )


def numbers_of_one_episode(config: Any) -> set[str] | None:
    """Plays one episode with random actions; returns the names of reported numbers.

    An env that lists them under ``reports`` in its ``metadata`` is not played.

    Args:
        config: The ``AlgorithmConfig`` of an algorithm of this package.

    Returns:
        Names of the numbers in the info of the last step; None if the episode failed or
        did not end within ``max_episode_steps`` and a few seconds.
    """
    from rllib_risk.core.envs import env_name, start_env
    from rllib_risk.env_wrappers.watchdog import Watchdog

    if config.evaluation_config:
        config = config.get_evaluation_config_object()
    with (
        contextlib.suppress(Exception),  # The run itself reports the error.
        contextlib.closing(start_env(config)) as env,
    ):
        declared = getattr(env.parallel_env, "metadata", {}).get("reports")
        if declared is not None:
            return set(declared)
        watchdog = Watchdog(env_name(config), config.env_timeout_s)
        return watchdog.bounded("one episode", _EPISODE_S, _play, env, config)
    return None


def _play(env: TeamEnv, config: Any) -> set[str]:
    from rllib_risk.core.players import ScriptedPlayer
    from rllib_risk.core.rounds import play_episodes
    from rllib_risk.env_wrappers.episode_loop import OneTeamEnv
    from rllib_risk.env_wrappers.scripted import RandomPolicy

    rng = np.random.default_rng(0)
    player = ScriptedPlayer([RandomPolicy()], np.empty(0, np.int64), rng)
    seeds = np.zeros(1, np.int64)
    (episode,), _ = play_episodes(config, OneTeamEnv(env), player, seeds, rng)
    return set(episode.metrics)
