"""Checks of the keys of learners."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import Any

from rllib_risk.config.schema import ConfigError

# Keys of the learners other than the trial's own process, and their defaults.
_OF_OTHERS: dict[str, Any] = {
    "num_cpus_per_learner": "auto",
    "num_gpus_per_learner": 0,
    "custom_resources_per_learner": {},
}


def check_learners(config: Any) -> None:
    """Checks the keys of learners, and that a batch can be split among them.

    Args:
        config: A configuration. A configuration of evaluations is not checked, because
            it learns nothing.

    Raises:
        ConfigError: If a key is wrong, or has no effect.
    """
    if config.in_evaluation:
        return
    for message in _problems(config):
        raise ConfigError(message)


def _problems(config: Any) -> Iterator[str]:
    number, cpus = config.num_learners, config.num_cpus_per_learner
    gpus = config.num_gpus_per_learner
    if cpus != "auto" and not _is_amount(cpus):
        yield f"num_cpus_per_learner: must be 'auto' or a number from 0, not {cpus!r}."
    if not _is_amount(gpus):
        yield f"num_gpus_per_learner: must be a number from 0, not {gpus!r}."
    if number < 2:
        for key, default in _OF_OTHERS.items():
            if getattr(config, key, default) not in (default, None):
                yield (
                    f"{key}: has no effect with num_learners: {number}, since the"
                    " trial's own process learns; set num_gpus or"
                    " num_cpus_for_main_process, or num_learners above 1."
                )
        return
    if config.num_gpus != gpus:
        yield (
            f"num_gpus_per_learner ({gpus:g}) must equal num_gpus ({config.num_gpus:g})"
            f" with num_learners: {number}: the trial's own process is one of the"
            " learners."
        )
    if config.batch_size_episodes < number:
        yield (
            f"num_learners ({number}) must be at most batch_size_episodes"
            f" ({config.batch_size_episodes}): a batch is split by whole episodes, or"
            " sequences of them."
        )
    yield from config.split_refusals()


def _is_amount(value: Any) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(float(value)) and float(value) >= 0
