"""Makes declarations (:class:`Field`) of keys that other code defines.

This package does not declare RLlib's own configuration keys, or the arguments of
environments and Tune schedulers. Their types come from type hints and default values.
The ranges of the common keys are listed here.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin

from rllib_risk.config.key_names import RENAMED
from rllib_risk.config.schema import MAX_EPISODES, MAX_RATE, MAX_SEED, Field

# Types that accept every value, for type hints that cannot be checked.
ANYTHING: tuple[type, ...] = (object, bool)


def anything(doc: str = "") -> Field:
    """Returns a declaration that accepts every value."""
    return Field(default=None, doc=doc, type=ANYTHING, optional=True)


_MAX_STEPS = 10**9
_MAX_ENVS = 10**5
_MAX_RUNNERS = 10**4

# Ranges of RLlib's common keys: low, high, and whether low itself is refused.
_RANGES: dict[str, tuple[float | None, float | None, bool]] = {
    "gamma": (0, 1, False),
    "lambda": (0, 1, False),
    "tau": (0, 1, False),
    "lr": (0, MAX_RATE, True),
    "actor_lr": (0, MAX_RATE, True),
    "critic_lr": (0, MAX_RATE, True),
    "alpha_lr": (0, MAX_RATE, True),
    "adam_epsilon": (0, None, True),
    "clip_param": (0, None, True),
    "vf_clip_param": (0, None, True),
    "grad_clip": (0, None, True),
    "entropy_coeff": (0, None, False),
    "kl_coeff": (0, None, False),
    "kl_target": (0, None, False),
    "vf_loss_coeff": (0, None, False),
    "num_epochs": (1, None, False),
    "minibatch_size": (1, _MAX_STEPS, False),
    "train_batch_size": (1, _MAX_STEPS, False),
    "train_batch_size_per_learner": (1, _MAX_STEPS, False),
    "rollout_fragment_length": (1, _MAX_STEPS, False),
    "num_env_runners": (0, _MAX_RUNNERS, False),
    "num_envs_per_env_runner": (1, _MAX_ENVS, False),
    "num_cpus_per_env_runner": (0, None, False),
    "num_gpus_per_env_runner": (0, None, False),
    "num_cpus_for_main_process": (0, None, False),
    "num_gpus": (0, None, False),
    "num_learners": (0, _MAX_RUNNERS, False),
    "num_cpus_per_learner": (0, None, False),
    "num_gpus_per_learner": (0, None, False),
    "evaluation_interval": (1, None, False),
    "evaluation_duration": (1, MAX_EPISODES, False),
    "evaluation_num_env_runners": (0, _MAX_RUNNERS, False),
    "metrics_num_episodes_for_smoothing": (1, None, False),
    "min_sample_timesteps_per_iteration": (0, None, False),
    "min_train_timesteps_per_iteration": (0, None, False),
    "min_time_s_per_iteration": (0, None, False),
    "sample_timeout_s": (0, None, False),
    "evaluation_sample_timeout_s": (0, None, False),
    "num_steps_sampled_before_learning_starts": (0, None, False),
    "target_network_update_freq": (0, None, False),
    "n_step": (1, None, False),
    "seed": (0, MAX_SEED, False),
}

# Keys that cannot change during a run; see Field.fixed.
_FIXED = (
    "env",
    "framework",
    "model",
    "multiagent",
    "enable_rl_module_and_learner",
    "enable_env_runner_and_connector_v2",
    "num_env_runners",
    "num_cpus_per_env_runner",
    "num_gpus_per_env_runner",
    "num_cpus_for_main_process",
    "num_gpus",
    "num_learners",
    "num_cpus_per_learner",
    "num_gpus_per_learner",
    "evaluation_num_env_runners",
)
# Keys for which null means "none", whatever their default is.
_NULLABLE = ("evaluation_interval", "grad_clip")

# Names that RLlib reads under another name.
ALIASES: dict[str, str] = {
    "num_workers": "num_env_runners",
    "num_cpus_for_driver": "num_cpus_for_main_process",
    "lambda_": "lambda",
    "input_": "input",
    "framework_str": "framework",
    "callbacks_class": "callbacks",
}


def range_of(key: str) -> dict[str, Any]:
    """Returns the range of one of RLlib's common keys, as arguments of :class:`Field`.

    Args:
        key: The key.

    Returns:
        ``low``, ``high`` and ``low_open``.
    """
    low, high, low_open = _RANGES.get(key, (None, None, False))
    return {"low": low, "high": high, "low_open": low_open}


def types_of_hint(hint: Any) -> tuple[tuple[type, ...], bool] | None:
    """Translates a type hint to types for checking a YAML value.

    Args:
        hint: A type hint such as ``Optional[Union[int, str]]``.

    Returns:
        The accepted types and whether ``None`` is accepted; None if the hint contains
        something that YAML cannot express (a class, a callable, ``Any``).
    """
    origin = get_origin(hint)
    if hint is None or hint is type(None):
        return (), True
    if hint in (bool, int, float, str):
        return (hint,), False
    if origin is Literal:
        return tuple({type(choice) for choice in get_args(hint)}), False
    if origin in (Union, types.UnionType):
        found: list[type] = []
        optional = False
        for part in get_args(hint):
            translated = types_of_hint(part)
            if translated is None:
                return None
            found += [t for t in translated[0] if t not in found]
            optional = optional or translated[1]
        return tuple(found), optional
    base = origin or hint
    if not isinstance(base, type) or base in (object, type):
        return None
    if issubclass(base, Mapping):
        return (dict,), False
    if base in (list, tuple, set) or issubclass(base, typing.Sequence):
        return (list, tuple), False
    return None


def field_for(key: str, default: Any, hint: Any = None) -> Field:
    """Declares a key from its default value and, if there is one, its type hint.

    Args:
        key: The key, by which its range is looked up.
        default: The default value.
        hint: The type hint of its setter or argument; None: no hint.

    Returns:
        A declaration that is as strict as hint and default allow.
    """
    translated = None if hint is None else types_of_hint(hint)
    if translated is None and hint is None and default is not None:
        # Without a hint, the type of the default is the only information.
        translated = types_of_hint(type(default))
    if translated is None or not translated[0]:
        return replace(anything(), default=default, fixed=key in _FIXED)
    accepted, optional = translated
    own = type(default)
    if default is not None and own in (bool, int, float, str, dict, list, tuple):
        accepted = (*accepted, *(t for t in (own,) if t not in accepted))
    if key in _RANGES and default is not None and key not in _NULLABLE:
        # RLlib's setters are Optional for every key, even if None cannot work.
        optional = False
    return Field(
        default=default,
        doc="",
        type=accepted,
        optional=optional or default is None,
        fixed=key in _FIXED,
        **range_of(key),
    )


def setter_hints(config_class: type, not_provided: object) -> dict[str, Any]:
    """Collects the type hints of an ``AlgorithmConfig`` class's setter methods.

    Args:
        config_class: RLlib's ``AlgorithmConfig`` or a subclass.
        not_provided: The default value of all arguments of RLlib's setters.

    Returns:
        Type hints by key. Hints of a subclass replace those of its parents.
    """
    hints: dict[str, Any] = {}
    for parent in reversed(config_class.__mro__):
        for method in vars(parent).values():
            if not inspect.isfunction(method):
                continue
            names = [
                name
                for name, parameter in inspect.signature(method).parameters.items()
                if parameter.default is not_provided
            ]
            if names:
                known = _resolved_hints(method)
                hints.update({name: known[name] for name in names if name in known})
    return {ALIASES.get(name, name): hint for name, hint in hints.items()}


def setter_of(config_class: type, key: str, not_provided: object) -> str | None:
    """Finds the setter method of an ``AlgorithmConfig`` class that takes a key.

    Args:
        config_class: RLlib's ``AlgorithmConfig`` or a subclass.
        key: The key.
        not_provided: See :func:`setter_hints`.

    Returns:
        Name of the method, such as ``reporting``; None if no method takes the key.
    """
    for parent in config_class.__mro__:
        for name, method in vars(parent).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            parameter = inspect.signature(method).parameters.get(key)
            if parameter is not None and parameter.default is not_provided:
                return name
    return None


def _resolved_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        # A hint names a class that is imported only for type checkers. Hints that are
        # not texts are still usable as they are.
        return dict(function.__annotations__)


def rllib_fields(
    defaults: Mapping[str, Any], hints: Mapping[str, Any]
) -> dict[str, Field]:
    """Declares all keys of an RLlib algorithm.

    Args:
        defaults: ``AlgorithmConfig().to_dict()`` of the algorithm.
        hints: The type hints of its setters, see :func:`setter_hints`.

    Returns:
        Declarations by key, with aliases and without renamed keys.
    """
    fields = {
        key: field_for(key, default, hints.get(key))
        for key, default in defaults.items()
        if key not in RENAMED
    }
    fields["multiagent"] = field_for("multiagent", {})
    for alias, key in ALIASES.items():
        if key in fields:
            fields.setdefault(alias, fields[key])
    return fields


def signature_fields(function: Callable[..., Any]) -> dict[str, Field] | None:
    """Declares the keyword arguments of a function or class.

    Args:
        function: A factory, such as an environment's, or a class.

    Returns:
        Declarations by argument name; None if the function takes ``**kwargs``, because
        its names are unknown then.
    """
    hints = _resolved_hints(
        function.__init__ if inspect.isclass(function) else function
    )
    fields: dict[str, Field] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            continue
        default = None if parameter.default is parameter.empty else parameter.default
        fields[name] = field_for("", default, hints.get(name))
    return fields
