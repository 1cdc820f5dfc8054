"""Reference lines of the env `hvac`: doing nothing, P-control, and a linear policy.

All three are decentralised and linear: the power of zone i is a weighted sum of what
agent i observes, rounded to the nearest action.

The weights of the third come from the dead-beat controller, which sees all zones and
the weather to come and brings every zone to the target in one step,

    u* = B^-1 (target - A x - w),

with the building's transition A, its actuators B and what the weather does, w.
`fit_linear_policy` gives the weights of agent i's observation that come closest to
agent i's part of u* in the sense of least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import (
    STEPS_PER_YEAR,
    load_building,
    load_weather,
    start_rows,
)
from rllib_risk.env_wrappers.hvac.env import HVAC, normalised
from rllib_risk.env_wrappers.hvac.scenario import HvacScenario
from rllib_risk.env_wrappers.scripted import ScriptedPolicy

# Power per degree Celsius that a zone is too cold; at 0.3, OfficeSmall starts to swing.
P_GAIN = 0.25

_DAY = 288  # steps
# The fit regresses differences from it on each other; another one would hardly move the
# constants and nothing else.
_FIT_TARGET = 22.0


class LinearPolicy:
    """Power of zone i = weights[i] . [T_i - target, T_outdoor - target, T_ground -
    target, sun, 1], rounded to the nearest action.

    It reads no temperatures of other zones, no occupancy, and keeps no memory.
    """

    def __init__(
        self,
        weights: np.ndarray,
        *,
        bins: int = 200,
        normalise: bool = False,
        target: float = 22.0,
    ) -> None:
        """Puts the weights into the units of the observations.

        Args:
            weights: Per degree Celsius, per full sun, and the constant, [n, 5].
            bins: As in `HVAC`.
            normalise: As in `HVAC`.
            target: As in `HVAC`.

        Raises:
            EnvConfigError: If the weights have another shape or are not finite.
        """
        weights = np.asarray(weights, np.float64)
        if weights.ndim != 2 or weights.shape[1] != 5 or not np.isfinite(weights).all():
            raise EnvConfigError(
                "weights must be finite numbers [zones, 5], not an array of shape "
                f"{weights.shape}"
            )
        per_feature = weights[:, :4].copy()
        if normalise:  # an affine map, so two points give its slope
            zero, one = normalised(np.array([0.0, 1.0]))
            per_feature[:, :3] /= one - zero
            target = float(normalised(np.array(target)))
        self._per_feature = per_feature  # [n, 4]
        self._constant = weights[:, 4] - target * per_feature[:, :3].sum(axis=1)
        # Action k has the power (k - zero) / zero, see `hvac.power_levels`.
        self._zero = bins // 2
        self._last = bins - 1

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The actions; see `ScriptedPolicy.act`. Neither mask nor rng is needed."""
        power = np.einsum("enf,nf->en", obs[..., :4], self._per_feature)
        nearest = np.rint((power + self._constant + 1.0) * self._zero)
        return nearest.clip(0, self._last).astype(np.int64)


def fit_linear_policy(
    city: str | Sequence[str] = "tucson",
    day_range: Sequence[int] = (0, 200),
    building: str = "OfficeSmall",
) -> np.ndarray:
    """Weights of the decentralised policy that is nearest to the dead-beat controller.

    Under dead-beat control only errors of the actuators (the rounding to actions) move
    a zone off its target: x - target = B e, with e independent between zones and of
    one size. So zone temperatures and weather are uncorrelated, and the least squares
    fall into two parts that need no simulation:

    * The weight of a zone's own temperature is the regression of u*_i on x_i, with the
      neighbours' share that is correlated with it:
      -(B^-1 A B B^T)_ii / (B B^T)_ii.
    * The other weights are the regression of u* at the target on the weather as the
      agents see it, which is one step old.

    In every building A's rows, the outdoor and the ground couplings add up to 1, so
    only differences from the target matter and the weights hold for any target.

    Args:
        city: See `HvacScenario`.
        day_range: First day and the day after the last.
        building: See `HvacScenario`.

    Returns:
        Weights for `LinearPolicy`, float64 [n, 5].

    Raises:
        EnvConfigError: If a name or the range is wrong.
    """
    scenario = HvacScenario(city, day_range, building=building)
    model = load_building(building)
    spread = model.actuators @ model.actuators.T  # [n, n], covariance of x
    feedback = -np.linalg.solve(model.actuators, model.transition)  # [n, n]
    own = np.diag(feedback @ spread) / np.diag(spread)  # [n]

    first = start_rows(scenario.days)[:, None]
    felt = ((first + np.arange(_DAY)) % STEPS_PER_YEAR).reshape(-1)
    # at the start of a day the agents see the weather of the first step already
    seen = ((first + np.arange(-1, _DAY - 1).clip(0)) % STEPS_PER_YEAR).reshape(-1)
    causes, features = [], []
    for name in scenario.cities:
        weather = load_weather(name)
        outdoor, ground = weather.outdoor - _FIT_TARGET, weather.ground - _FIT_TARGET
        ghi = weather.solar * weather.max_ghi
        causes.append(np.stack([outdoor, ground, ghi], 1)[felt])
        ones = np.ones_like(ghi)
        features.append(np.stack([outdoor, ground, weather.solar, ones], 1)[seen])
    foresight, *_ = np.linalg.lstsq(
        np.concatenate(features), np.concatenate(causes), rcond=None
    )  # [4, 3]
    effects = np.stack([model.outdoor, model.ground, model.solar], axis=1)  # [n, 3]
    others = -np.linalg.solve(model.actuators, effects) @ foresight.T  # [n, 4]
    return np.column_stack([own, others])


def reference_policies(**env_config: Any) -> dict[str, ScriptedPolicy]:
    """Scripted policies for the env that these arguments describe.

    The linear one is fitted to the building with its nominal physics, in Tucson on days
    0 to 199 at 22 degC, wherever it is to act: it is a line to measure robustness by,
    so it must not know the scenario.

    Args:
        **env_config: Arguments of `HVAC`.

    Returns:
        "no_op", "p_control" and "linear".

    Raises:
        EnvConfigError: If an argument is wrong.
    """
    # The env checks the arguments; nothing here depends on whose physics it runs.
    env = HVAC(**{**env_config, "backend": "native"})
    n = len(env.possible_agents)
    p_control = np.zeros((n, 5))
    p_control[:, 0] = -P_GAIN
    weights = {
        "no_op": np.zeros((n, 5)),
        "p_control": p_control,
        "linear": fit_linear_policy(building=env.scenario.building),
    }
    return {
        name: LinearPolicy(
            table, bins=len(env.levels), normalise=env.normalise, target=env.target
        )
        for name, table in weights.items()
    }
