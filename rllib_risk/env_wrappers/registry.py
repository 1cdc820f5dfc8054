"""Registry of the envs, by the names that YAML files and the command line use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pettingzoo import ParallelEnv

from rllib_risk.config.imports import import_path
from rllib_risk.env_wrappers.action_masks import ACTION_MASK
from rllib_risk.env_wrappers.arguments import (
    argument_names,
    check_arguments,
    suggestion,
)
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.failures import close_env
from rllib_risk.env_wrappers.observation_noise import NoisyTeamEnvs, check_std
from rllib_risk.env_wrappers.team_env import (
    BatchedTeamEnv,
    LoopedTeamEnvs,
    TeamEnv,
)
from rllib_risk.env_wrappers.watchdog import Watchdog

# Keys of env_config that belong to the adapter, with the adapter's defaults; every
# other key is an argument of the env.
ADAPTER_DEFAULTS: dict[str, Any] = {
    "team_reward": "shared",
    "time_limit_is_terminal": False,
    "state": "auto",
    "box_bins": None,
    "action_mask_key": ACTION_MASK,
    "obs_noise_std": 0.0,
}
# Adapter keys that every vectorised twin implements; an env lists further ones in its
# attribute `batched_keys`. A wrapper adds the noise. If any other adapter key differs
# from its default, `LoopedTeamEnvs` replaces the twin.
_TWIN_KEYS = ("time_limit_is_terminal", "state")

PETTINGZOO = "pettingzoo"
GYMNASIUM = "gymnasium"


@dataclass(frozen=True)
class EnvEntry:
    """A registered env.

    Attributes:
        name: Name in configurations.
        factory: "pkg.module:callable" that returns a PettingZoo ParallelEnv; empty for
            `pettingzoo`, where the user names the factory.
        doc: One line for listings.
        max_copies: Number of copies that a command may start at once if the user named
            no number.
    """

    name: str
    factory: str
    doc: str
    max_copies: int = 32


_HERE = "rllib_risk.env_wrappers"
ENVS: dict[str, EnvEntry] = {
    entry.name: entry
    for entry in (
        EnvEntry(
            "macn",
            f"{_HERE}.macn:MACN",
            "Multi-Agent Cliff Navigation: two agents meet at a goal beside a cliff.",
        ),
        EnvEntry(
            "matrix_game",
            f"{_HERE}.games.matrix_games:MatrixGame",
            "One-step matrix games P3, P4, P3_star, climb, or a table of your own.",
        ),
        EnvEntry(
            "two_step",
            f"{_HERE}.games.two_step:TwoStepGame",
            "The two-step game of QMIX: 8 with a monotonic mixer, 7 with a sum.",
        ),
        EnvEntry(
            "mmdp",
            f"{_HERE}.games.mmdp_game:MMDPGame",
            "The two-state game of QPLEX: 1 per step until one joint mistake ends it.",
        ),
        EnvEntry(
            "memory_game",
            f"{_HERE}.games.memory_game:MemoryGame",
            "Answer a cue shown some steps ago; 1.0 with memory, at most 0.5 without.",
        ),
        EnvEntry(
            "risky_bandit",
            f"{_HERE}.games.risky_bandit:RiskyBandit",
            "One joint choice between a sure reward and a better mean with a bad tail.",
        ),
        EnvEntry(
            "risky_two_step",
            f"{_HERE}.games.risky_two_step:RiskyTwoStep",
            "Two steps whose mean, static and nested risk have three different optima.",
        ),
        EnvEntry(
            "car_following",
            f"{_HERE}.car_following:CarFollowing",
            "Two cars drive to a target, near one another; speeding risks a crash.",
        ),
        EnvEntry(
            "hvac",
            f"{_HERE}.hvac:HVAC",
            "Heating and cooling of a building through a day, one agent per zone.",
        ),
        EnvEntry(
            "uav",
            f"{_HERE}.uav:UAV",
            "UAVs that keep data from devices fresh, beside a region of risk.",
        ),
        EnvEntry(
            "smac",
            f"{_HERE}.smac:SMAC",
            "StarCraft II battles of SMAC; needs the game and the extra [smac].",
            max_copies=1,  # each copy is a process of the game
        ),
        EnvEntry(
            "smax",
            f"{_HERE}.smax:SMAX",
            "Battles like StarCraft's, in JAX and without the game; the extra [smax].",
        ),
        EnvEntry(
            "tabular",
            f"{_HERE}.games.tabular_game:TabularGame",
            "Small Markov games with a known robust optimum, or one of your own.",
        ),
        EnvEntry(
            "lbf",
            f"{_HERE}.gymnasium_teams:LBF",
            "Level-based foraging: agents load food together; the extra [lbf].",
        ),
        EnvEntry(
            "rware",
            f"{_HERE}.gymnasium_teams:RWARE",
            "Robots of a warehouse that bring shelves to a goal; the extra [rware].",
        ),
        EnvEntry(
            "mpe",
            f"{_HERE}.mpe:MPE",
            "Cooperative tasks of the particle envs of MPE2; the extra [mpe].",
        ),
        EnvEntry(
            "vmas",
            f"{_HERE}.vmas:VMAS",
            "Physical tasks of VMAS, all copies in one call; the extra [vmas].",
        ),
        EnvEntry(
            GYMNASIUM,
            f"{_HERE}.gymnasium_teams:GymnasiumTeam",
            "Any Gymnasium env with a space for each agent: id or factory, kwargs.",
        ),
        EnvEntry(
            PETTINGZOO,
            "",
            "Any PettingZoo ParallelEnv: factory: 'pkg.module:parallel_env', kwargs.",
        ),
    )
}


def make_team_env(name: str, env_config: Mapping[str, Any] | None = None) -> TeamEnv:
    """Builds one env and wraps it in the adapter `TeamEnv`.

    Args:
        name: A key of `ENVS`.
        env_config: Arguments of the env and keys of the adapter (`ADAPTER_DEFAULTS`);
            for `pettingzoo`: factory, kwargs and keys of the adapter.

    Returns:
        The wrapped env.

    Raises:
        EnvConfigError: If the name, a key or a value is wrong.
    """
    factory, kwargs, adapter = resolve(name, env_config)
    env = build_parallel_env(factory, kwargs)
    try:
        return TeamEnv(env, **adapter)
    except BaseException:
        close_env(env)
        raise


def make_batched(
    name: str,
    env_config: Mapping[str, Any] | None,
    num_envs: int,
    *,
    max_restarts: int = 3,
    timeout_s: float | None = None,
    skip_nonfinite: bool = True,
) -> BatchedTeamEnv:
    """Builds `num_envs` copies of an env behind one call.

    If the env has a vectorised twin (attribute `batched`), the twin is used, unless an
    adapter key that it does not implement differs from its default. Otherwise,
    `LoopedTeamEnvs` loops over single envs.

    Args:
        name: A key of `ENVS`.
        env_config: As in `make_team_env`.
        num_envs: Number of copies.
        max_restarts: See `LoopedTeamEnvs`.
        timeout_s: See `LoopedTeamEnvs`.
        skip_nonfinite: See `EnvFailures`.

    Returns:
        The batched env.

    Raises:
        EnvConfigError: If the name, a key or a value is wrong.
        EnvFailedError: If a single env cannot be built.
        EnvTimeoutError: If building the twin takes longer than `timeout_s`.
    """
    factory, kwargs, adapter = resolve(name, env_config)
    twin = getattr(factory, "batched", None)
    known = (*_TWIN_KEYS, *getattr(factory, "batched_keys", ()))
    twin_adapter = {key: adapter.pop(key) for key in known if key in adapter}
    noise_std = adapter.pop("obs_noise_std", 0.0)
    noisy = check_std(noise_std).any()
    if twin is not None and all(
        value == ADAPTER_DEFAULTS[key] for key, value in adapter.items()
    ):
        envs = Watchdog(env_title(name, env_config), timeout_s).build(
            0, lambda: twin(num_envs, **kwargs, **twin_adapter)
        )
        if not noisy:
            return envs
        if not envs.pads_observations:
            return NoisyTeamEnvs(envs, noise_std)
        envs.close()  # padding gets no noise; only the loop knows the padding
    return LoopedTeamEnvs(
        partial(make_team_env, name, dict(env_config or {})),
        num_envs,
        max_restarts=max_restarts,
        env_name=env_title(name, env_config),
        timeout_s=timeout_s,
        skip_nonfinite=skip_nonfinite,
    )


def env_title(name: str, env_config: Mapping[str, Any] | None) -> str:
    """Name of an env in messages, with the factory or id if the user names one."""
    config = env_config or {}
    named = config.get("factory") or (name == GYMNASIUM and config.get("id"))
    return f"{name} ({named})" if name in (PETTINGZOO, GYMNASIUM) and named else name


def register_envs() -> None:
    """Registers every env with Ray; it may be called more than once."""
    from ray.tune import register_env

    for name in ENVS:
        register_env(name, partial(make_team_env, name))


def resolve(
    name: str, env_config: Mapping[str, Any] | None
) -> tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]:
    """Finds the factory of an env; splits env_config into arguments and adapter keys.

    Args:
        name: A key of `ENVS`.
        env_config: As in `make_team_env`.

    Returns:
        The factory, its keyword arguments, and the adapter keys. These are the given
        keys, and keys for which the env has its own default.

    Raises:
        EnvConfigError: If the name or a key is unknown or the factory is missing.
    """
    if name not in ENVS:
        raise EnvConfigError(f"unknown env '{name}'{suggestion(name, ENVS)}")
    rest = dict(env_config or {})
    adapter = {key: rest.pop(key) for key in ADAPTER_DEFAULTS if key in rest}
    if name != PETTINGZOO:
        factory = import_factory(ENVS[name].factory)
        check_arguments(factory, rest, "env_config", tuple(ADAPTER_DEFAULTS))
        own_defaults = getattr(factory, "adapter_defaults", None)
        defaults = {} if own_defaults is None else own_defaults(**rest)
        return factory, rest, {**defaults, **adapter}
    for key in rest:
        if key not in ("factory", "kwargs"):
            known = ("factory", "kwargs", *ADAPTER_DEFAULTS)
            raise EnvConfigError(
                f"unknown key env_config.{key}{suggestion(key, known)} (arguments of "
                "the env itself go into env_config.kwargs)"
            )
    if not isinstance(rest.get("factory"), str):
        raise EnvConfigError(
            "env 'pettingzoo' needs env_config.factory, the name of a function that "
            "returns a ParallelEnv, for example "
            "mpe2.simple_spread_v3:parallel_env"
        )
    kwargs = rest.get("kwargs") or {}
    if not isinstance(kwargs, Mapping):
        raise EnvConfigError("env_config.kwargs must be a mapping of argument names")
    factory = import_factory(rest["factory"])
    check_arguments(factory, kwargs, "env_config.kwargs", ())
    return factory, dict(kwargs), adapter


def import_factory(path: str) -> Callable[..., Any]:
    """Imports the callable "pkg.module:callable"; see `import_path`.

    Args:
        path: Module and attribute, joined by a colon.

    Returns:
        The callable.

    Raises:
        EnvConfigError: If it cannot be imported; the text gives the reason.
    """
    factory: Callable[..., Any] = import_path(path, "factory", error=EnvConfigError)
    return factory


def takes_render_mode(factory: Callable[..., Any]) -> bool:
    """Whether a factory may be called with the argument ``render_mode``.

    Args:
        factory: Returns a PettingZoo ParallelEnv.

    Returns:
        True also for a factory that takes any keyword argument.
    """
    named = argument_names(factory)
    return named is None or "render_mode" in named


def envs_that_render() -> list[str]:
    """The names of the envs of this package that can render pictures."""
    return [
        name
        for name, entry in ENVS.items()
        if entry.factory and takes_render_mode(import_factory(entry.factory))
    ]


def build_parallel_env(
    factory: Callable[..., Any], kwargs: Mapping[str, Any]
) -> ParallelEnv:
    """Calls a factory; refuses None and a `TeamEnv` as its result.

    Args:
        factory: Returns a PettingZoo ParallelEnv.
        kwargs: Its keyword arguments.

    Returns:
        The env.

    Raises:
        EnvConfigError: If the arguments do not fit the factory, or it returns None or a
            `TeamEnv`.
    """
    try:
        inspect.signature(factory).bind(**kwargs)
    except ValueError:
        pass  # a built-in callable without a signature
    except TypeError as error:
        raise EnvConfigError(f"the env cannot be built: {error}") from error
    try:
        env = factory(**kwargs)
    except TypeError as error:
        # A factory that takes **kwargs may pass them on to a class that refuses them.
        if "keyword argument" not in str(error):
            raise
        raise EnvConfigError(f"the env cannot be built: {error}") from error
    if env is None or isinstance(env, TeamEnv):
        raise EnvConfigError(
            f"the factory returned {type(env).__name__}, not a PettingZoo ParallelEnv"
        )
    return env
