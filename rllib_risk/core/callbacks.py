"""RLlib's callbacks for rounds of whole episodes.

``callbacks`` accepts the same as in RLlib: a subclass of ``RLlibCallback``, a list of
subclasses, a callable that creates callbacks, and functions
(``config.callbacks(on_episode_end=...)``). In a file it is an import path,
``my_module:MyCallbacks``, or a list of import paths.

Hooks of episodes are called where episodes are played: in the trial's own process, or
in the remote env runners. A hook that this package never calls is refused.
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


# Hooks that this package never calls, and what to use instead.
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
    """Calls the hooks that a configuration's callbacks override, and no others."""

    def __init__(self, config: AlgorithmConfig) -> None:
        """Creates the callbacks.

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
        """Whether any hook with a prefix is overridden.

        Args:
            prefix: Start of the hook's name, such as ``on_episode_``.
        """
        return any(name.startswith(prefix) for name in self._calls)

    def call(self, name: str, **arguments: Any) -> None:
        """Calls a hook of all callbacks, in the order in which they were given.

        Args:
            name: Name of the hook.
            **arguments: Arguments of the hook, as RLlib documents them.
        """
        for call in self._calls.get(name, ()):
            call(**arguments)


class CombinedCallbacks:
    """Several classes of callbacks as one; RLlib calls it to create callbacks.

    Attributes:
        makers: Classes of callbacks, or callables that create callbacks.
    """

    def __init__(self, makers: Sequence[Any]) -> None:
        """Initializes the combination.

        Args:
            makers: See the attributes. Strings are import paths ``module:Class``.

        Raises:
            ConfigError: If a class cannot be imported.
        """
        self.makers: list[Callable[[], RLlibCallback]] = resolve_callbacks(list(makers))

    def __repr__(self) -> str:
        """Returns the text that ``params.json`` holds."""
        return f"{type(self).__name__}({self.makers!r})"

    def __call__(self) -> RLlibCallback:
        """Creates one callback object with the overridden hooks of all classes."""
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
    """Returns the functions that a configuration has for a hook.

    Args:
        config: The configuration.
        hook: Name of the hook.

    Returns:
        The functions that ``config.callbacks(on_...=...)`` set.
    """
    return _as_list(getattr(config, f"callbacks_{hook}", None))


def resolve_callbacks(value: Any) -> Any:
    """Imports callbacks that are named by import path.

    Args:
        value: Value of ``callbacks``. Strings are import paths ``module:Class``.

    Returns:
        The value with classes in place of strings.

    Raises:
        ConfigError: If a class cannot be imported.
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
        ConfigError: If there is such a hook, or a callback cannot be called. The
            message names what to use instead.
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
    """Whether a class of callbacks, or an instance, overrides a hook."""
    if not isinstance(callbacks, type):
        if hook in vars(callbacks):
            return True
        callbacks = type(callbacks)
    return getattr(callbacks, hook, None) is not getattr(RLlibCallback, hook, None)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
