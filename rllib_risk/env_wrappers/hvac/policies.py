"""Reference policies of the env `hvac`: no-op, P-control, and a fitted linear policy.

All three are decentralised and linear: the power of zone i is a weighted sum of what
agent i observes, rounded to the nearest action.

The weights of the linear policy come from the dead-beat controller. This controller
sees all zones and the weather of the next step, and brings every zone to the target in
one step,

    u* = B^-1 (target - A x - w),

with the building's transition A, its actuators B and the effect of the weather w.
`fit_linear_policy` fits the weights of agent i's observation to agent i's part of u* by
least squares.
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

# Power per degree Celsius below the target; at 0.3, OfficeSmall starts to oscillate.
P_GAIN = 0.25

_DAY = 288  # steps
# The regression uses differences from this target in degrees Celsius. Another target
# would change only the constants, and hardly.
_FIT_TARGET = 22.0


class LinearPolicy:
    """A decentralised linear policy without memory.

    Power of zone i = weights[i] . [T_i - target, T_outdoor - target, T_ground - target,
    sun, 1], rounded to the nearest action. It reads neither temperatures of other zones
    nor occupancy.
    """

    def __init__(
        self,
        weights: np.ndarray,
        *,
        bins: int = 200,
        normalise: bool = False,
        target: float = 22.0,
    ) -> None:
        """Converts the weights to the units of the observations.

        Args:
            weights: Weights per degree Celsius (three), per full sun, and the constant,
                [n, 5].
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

    Under dead-beat control, only the rounding to actions moves a zone off its target:
    x - target = B e, with rounding errors e that are independent between zones and
    equally large. So zone temperatures and weather are uncorrelated. The least-squares
    problem then splits into two parts, which need no simulation:

    * The weight of a zone's own temperature is the regression of u*_i on x_i. It
      includes the neighbours' correlated share: -(B^-1 A B B^T)_ii / (B B^T)_ii.
    * The other weights are the regression of u* at the target on the weather that the
      agents see, which is one step old.

    In every building, each row of A plus the outdoor and ground couplings sums to 1.
    Only differences from the target matter therefore, and the weights are valid for any
    target.

    Args:
        city: City or cities of the weather; see `HvacScenario`.
        day_range: First day and the day after the last.
        building: The building; see `HvacScenario`.

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
    # at the start of a day, the agents already see the weather of the first step
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
    """Reference policies for the env that these arguments describe.

    The linear policy is always fitted to the building with its nominal physics, in
    Tucson on days 0 to 199 at 22 degC. It is a reference for robustness, so it must not
    know the scenario in which it acts.

    Args:
        **env_config: Arguments of `HVAC`.

    Returns:
        "no_op", "p_control" and "linear".

    Raises:
        EnvConfigError: If an argument is wrong.
    """
    # The env checks the arguments. The policies do not depend on the backend.
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
