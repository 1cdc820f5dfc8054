"""Builds every configuration and its environment before anything starts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rllib_risk.cli.catalog import default_config, is_team_algorithm
from rllib_risk.cli.options import RayOptions
from rllib_risk.cli.output import note
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.metrics import unreachable
from rllib_risk.config.mutations import with_mutations
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import concrete_configs
from rllib_risk.env_wrappers.errors import EnvConfigError

# A sweep over more values than this is checked in part; every single value was
# already checked against its key's declaration.
_MOST_CONFIGS = 32
_SUCCESS = "evaluation/success_rate"
_STACK = ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2")


def tune_config(spec: ExperimentSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the dict that Tune hands to the algorithm.

    Args:
        spec: The experiment.
        values: Its ``config``, with or without search spaces.

    Returns:
        The values with the env. Files for RLlib's own algorithms mean the older API
        stack unless they say otherwise, as they did in Ray 2.40.
    """
    if spec.config_object is not None:
        return dict(values)
    config = {**values, "env": spec.env}
    if not is_team_algorithm(spec.algorithm) and not any(k in values for k in _STACK):
        config.update(dict.fromkeys(_STACK, False))
    return config


def build_config(spec: ExperimentSpec, values: Mapping[str, Any]) -> Any:
    """Returns an ``AlgorithmConfig`` for values without search spaces."""
    # RLlib changes some of the dicts that it is given.
    values = copy.deepcopy(tune_config(spec, values))
    if spec.config_object is not None:
        return spec.config_object.copy(copy_frozen=False).update_from_dict(values)
    return default_config(spec.algorithm).update_from_dict(values)


def preflight(spec: ExperimentSpec) -> Any:
    """Checks an experiment as far as possible without starting it.

    Args:
        spec: The experiment.

    Returns:
        The ``AlgorithmConfig`` of its first trial, validated.

    Raises:
        ConfigError: With the place, if a configuration or its environment cannot work.
    """
    first = None
    mutated = spec.scheduler.mutated if spec.scheduler else {}
    everything = with_mutations(spec.config, mutated)
    for values in concrete_configs(everything, _MOST_CONFIGS):
        try:
            config = build_config(spec, values)
            config.validate()
            if hasattr(config, "preflight"):
                config.preflight()
        except ConfigError as error:
            raise spec.located(str(error)) from error
        except EnvConfigError as error:
            raise spec.located(str(error), "config.env_config", "env") from error
        except Exception as error:  # RLlib and environments raise all kinds
            raise spec.located(f"{type(error).__name__}: {error}") from error
        first = first or config
    return first


def check_reachable(metric: str, config: Any) -> None:
    """Refuses a metric that no result of a run can hold.

    Args:
        metric: What trials are compared by.
        config: The run's ``AlgorithmConfig``, validated.

    Raises:
        ConfigError: If the metric can never come, with what to use instead.
    """
    reason = unreachable(metric, config)
    if reason is None and metric == _SUCCESS and not reports_success(config):
        reason = (
            f"env {config.env!r} reports no is_success. Use evaluation/return_mean, or"
            " let the environment put is_success into the info of an episode's last"
            " step."
        )
    if reason is not None:
        raise ConfigError(f"metric: {metric} can never come: {reason}")


def reports_success(config: Any) -> bool:
    """Plays one episode with random actions to see whether it tells of success.

    Args:
        config: The ``AlgorithmConfig`` of an algorithm of this package. The episode is
            played where it evaluates.

    Returns:
        Whether the last info has ``is_success``; true as well if the episode does not
        end or fails, since nothing is known then.
    """
    from rllib_risk.core.envs import start_env, variants_of
    from rllib_risk.env_wrappers.scripted import RandomPolicy

    if not hasattr(config, "preflight"):
        return True  # RLlib's own algorithms have results of their own
    config = config.copy(copy_frozen=False)
    if config.evaluation_config:
        config = config.get_evaluation_config_object()
    env = start_env(variants_of(config)[0])
    rng, policy = np.random.default_rng(0), RandomPolicy()
    try:
        obs, _ = env.reset(seed=0)
        for _ in range(config.max_episode_steps):
            actions = policy.act(obs["obs"][None], obs["action_mask"][None], rng)[0]
            obs, _, terminated, truncated, info = env.step(actions)
            if terminated or truncated:
                return "is_success" in info
    except Exception:  # the run will say so, where restarts are counted
        return True
    finally:
        env.close()
    return True


def fit_to_machine(
    specs: Sequence[ExperimentSpec], options: RayOptions
) -> list[ExperimentSpec]:
    """Checks that trials can start on this machine, whose Ray must be up.

    Tune would wait for cores that are not there for ever, and without a word. Where
    there is no GPU at all, `num_gpus` becomes 0: learning needs none, and one file is
    to train everywhere. A cluster that was up before is taken as it is: it may grow.

    Args:
        specs: The experiments.
        options: How Ray was started.

    Returns:
        The experiments, perhaps without GPUs, of which a line is printed then.

    Raises:
        ConfigError: If a trial asks for more than there is.
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
            spec = replace(spec, config={**spec.config, "num_gpus": 0})
        _check_fits(spec, there)
        fitting.append(spec)
    if without_gpu:
        note(f"{', '.join(without_gpu)}: there is no GPU here, so num_gpus is 0.")
    return fitting


def _check_fits(spec: ExperimentSpec, there: Mapping[str, float]) -> None:
    for request, kind in itertools.product(_requests(spec), ("CPU", "GPU")):
        asked, found = request.get(kind, 0), there.get(kind, 0)
        if asked > found:
            text = f"{spec.name}: a trial asks for {asked:g} {kind}s, and Ray has"
            text += f" {found:g} here. Ask for less"
            text += " (num_env_runners)" if kind == "CPU" else ""
            if found:
                text += f", or share them with --ray-num-{kind.lower()}s {asked:g}"
            raise spec.located(f"{text}.")


def _requests(spec: ExperimentSpec) -> Iterator[Mapping[str, float]]:
    """What trials ask for: one request for all, or those of representative trials."""
    if spec.resources_per_trial:
        yield {key.upper(): n for key, n in spec.resources_per_trial.items()}
        return
    for values in concrete_configs(spec.config, _MOST_CONFIGS):
        algorithm = build_config(spec, values).algo_class
        # RLlib merges these values into its defaults, as it will for the trial.
        request = algorithm.default_resource_request(tune_config(spec, values))
        yield request.required_resources
