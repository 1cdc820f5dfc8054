"""RLlib's callbacks for rounds of whole episodes.

``callbacks`` takes what RLlib takes: a subclass of ``RLlibCallback``, a list of them, a
callable that makes one, and functions (``config.callbacks(on_episode_end=...)``). In a
file it is an import path, ``my_module:MyCallbacks``, or a list of them.

Hooks of episodes are called where episodes are played: in the trial's own process, or
in the remote env runners. A hook that can never be called here is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_risk.config.imports import import_path
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


# Hooks that can never be called here, and what to use instead.
REFUSED_HOOKS: dict[str, str] = {
    "on_postprocess_trajectory": "use on_sample_end, which gets whole episodes",
    "on_sub_environment_created": "use on_environment_created",
    "on_evaluate_offline_start": "use on_evaluate_start",
    "on_evaluate_offline_end": "use on_evaluate_end",
    "on_offline_eval_runners_recreated": "use on_env_runners_recreated",
    "on_workers_recreated": "use on_env_runners_recreated",
}
HOOKS: tuple[str, ...] = (
    "on_algorithm_init",
    "on_checkpoint_loaded",
    "on_train_result",
    "on_evaluate_start",
    "on_evaluate_end",
    "on_env_runners_recreated",
    "on_create_policy",
    "on_environment_created",
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
    "on_sample_end",
    "on_learn_on_batch",
)


class Hooks:
    """The hooks that a configuration's callbacks override; all others cost nothing."""

    def __init__(self, config: AlgorithmConfig) -> None:
        """Makes the callbacks.

        Args:
            config: A configuration; see RLlib's ``AlgorithmConfig.callbacks``.
        """
        combined = CombinedCallbacks(_as_list(config.callbacks_class))()
        self._calls: dict[str, list[Callable[..., None]]] = {}
        for name in HOOKS:
            calls = functions_of(config, name)
            if name in vars(combined):
                calls.insert(0, getattr(combined, name))
            if calls:
                self._calls[name] = calls

    def wants(self, prefix: str) -> bool:
        """Whether any hook whose name begins so is overridden.

        Args:
            prefix: Such as ``on_episode_``.
        """
        return any(name.startswith(prefix) for name in self._calls)

    def call(self, name: str, **arguments: Any) -> None:
        """Calls a hook of all callbacks, in the order in which they were given.

        Args:
            name: The hook.
            **arguments: As RLlib documents them.
        """
        for call in self._calls.get(name, ()):
            call(**arguments)


class CombinedCallbacks:
    """Several classes of callbacks as one, for RLlib, which calls what it is given.

    Attributes:
        makers: The classes, or callables that make callbacks.
    """

    def __init__(self, makers: Sequence[Any]) -> None:
        """Initializes what stands in for one class.

        Args:
            makers: See the attributes; texts are paths ``module:Class``.

        Raises:
            ConfigError: If one cannot be imported.
        """
        self.makers: list[Callable[[], RLlibCallback]] = resolve_callbacks(list(makers))

    def __repr__(self) -> str:
        """For ``params.json``."""
        return f"{type(self).__name__}({self.makers!r})"

    def __call__(self) -> RLlibCallback:
        """One callback object with the hooks of all of them, and no others."""
        instances = [make() for make in self.makers]
        combined = RLlibCallback()
        for name in (*HOOKS, *REFUSED_HOOKS):
            methods = [getattr(i, name) for i in instances if _overrides(i, name)]
            if methods:
                setattr(combined, name, partial(_call_all, methods))
        return combined


def _call_all(methods: list[Callable[..., None]], **arguments: Any) -> None:
    for method in methods:
        method(**arguments)


def functions_of(config: AlgorithmConfig, hook: str) -> list[Callable[..., None]]:
    """The functions that a configuration has for a hook.

    Args:
        config: The configuration.
        hook: Name of the hook.

    Returns:
        What ``config.callbacks(on_...=...)`` was given.
    """
    return _as_list(getattr(config, f"callbacks_{hook}", None))


def resolve_callbacks(value: Any) -> Any:
    """Imports callbacks that are named by import path.

    Args:
        value: What ``callbacks`` may be; texts are paths ``module:Class``.

    Returns:
        The same with classes in place of texts.

    Raises:
        ConfigError: If one cannot be imported.
    """
    if isinstance(value, (list, tuple)):
        return [resolve_callbacks(item) for item in value]
    if isinstance(value, str):
        return import_path(value, "callbacks", dotted=True)
    return value


def check_callbacks(config: AlgorithmConfig) -> None:
    """Refuses callbacks that override a hook that is never called.

    Args:
        config: The configuration.

    Raises:
        ConfigError: If there is one; the message names what to use instead.
    """
    functions = [function for hook in HOOKS for function in functions_of(config, hook)]
    for make in (*functions, *_as_list(config.callbacks_class)):
        if not callable(make):
            raise ConfigError(
                "callbacks: must be a subclass of RLlibCallback, a list of them,"
                f" 'module:Class', or functions, not {make!r}."
            )
    for make in _as_list(config.callbacks_class):
        made = make if isinstance(make, type) else make()
        for hook, instead in REFUSED_HOOKS.items():
            if _overrides(made, hook):
                name = getattr(make, "__name__", type(make).__name__)
                raise ConfigError(
                    f"callbacks: {name} overrides {hook}, which is never called here;"
                    f" {instead}. Several classes are given as a list."
                )


def _overrides(callbacks: Any, hook: str) -> bool:
    """Whether a class of callbacks, or an instance, has a hook of its own."""
    if not isinstance(callbacks, type):
        if hook in vars(callbacks):
            return True
        callbacks = type(callbacks)
    return getattr(callbacks, hook, None) is not getattr(RLlibCallback, hook, None)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
