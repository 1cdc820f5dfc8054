"""Exact robust and nested CVaR values of a tabular Markov decision process.

Tests compare learned robust values with these exact values. Both uncertainty sets of
:mod:`rllib_risk.ops.robust` are implemented for known distributions instead of samples:

* contamination: ``inf E[V] = (1 - rho) E[V] + rho v_min``;
* total variation: the probability ``rho`` of the best outcomes is moved to the fail
  state. The result is the integral of the quantile function up to ``1 - rho``, plus
  ``rho v_min``.

Both are worst cases only if no outcome is below ``v_min``. With a higher ``v_min`` the
fail state is better than some outcomes, and the numbers are not lower bounds.

The nested CVaR, ``V(s) = max_a CVaR_alpha[r + gamma V(s')]``, is a third worst case. At
every step the probability of an outcome may grow to ``1 / alpha`` times the nominal
one. There is no fail state.

Source: Qu et al., "Distributionally Robust Cooperative Multi-Agent Reinforcement
Learning via Robust Value Factorization" (ICLR 2026); the tail form of total variation
follows from the dual in Panaganti et al. (2022, RFQI).

Letters: ``S`` states, ``A`` joint actions, ``K`` outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

UNCERTAINTIES = ("contamination", "tv")
OVER = ("next_value", "transition")

# Value iteration stops when no value changes by more than this. After a change of c the
# error is at most gamma c / (1 - gamma).
TOLERANCE = 1e-10
MAX_SWEEPS = 100_000


@dataclass(frozen=True)
class TabularMDP:
    """A team's decision process as tables of outcomes for each state and joint action.

    Joint actions are numbered in row-major order: the last agent's action changes
    fastest.

    Attributes:
        next_states: Next state of each outcome, int64 ``[S, A, K]``.
        probabilities: Probability of each outcome, float64 ``[S, A, K]``; sums to 1
            over ``K``.
        rewards: Team reward of each outcome, float64 ``[S, A, K]``.
        terminals: Whether an outcome ends the episode, bool ``[S, A, K]``.
        start: The state in which an episode starts.
    """

    next_states: Integers
    probabilities: Floats
    rewards: Floats
    terminals: Flags
    start: int

    def __post_init__(self) -> None:
        """Checks that the tables describe a decision process.

        Raises:
            ValueError: If a table is invalid.
        """
        shape = self.next_states.shape
        tables = (self.probabilities, self.rewards, self.terminals)
        if len(shape) != 3 or any(table.shape != shape for table in tables):
            raise ValueError(
                "All tables of a TabularMDP must have one shape [S, A, K], not "
                f"{[shape, *(table.shape for table in tables)]}."
            )
        if self.next_states.min() < 0 or self.next_states.max() >= shape[0]:
            raise ValueError(f"next_states must be states 0 .. {shape[0] - 1}.")
        sums = self.probabilities.sum(axis=-1)
        if self.probabilities.min() < 0 or not np.allclose(sums, 1.0, rtol=0.0):
            raise ValueError(
                "The probabilities of each state and joint action must not be negative "
                "and must sum to 1."
            )
        if not 0 <= self.start < shape[0]:
            raise ValueError(f"start must be a state 0 .. {shape[0] - 1}.")


def worst_case_mean(
    values: Floats,
    probabilities: Floats,
    rho: float,
    v_min: float,
    uncertainty: str,
) -> Floats:
    """Worst-case mean of a finite distribution over an uncertainty set.

    Args:
        values: Value of each outcome, ``[..., K]``.
        probabilities: Nominal probability of each outcome, ``[..., K]``.
        rho: Size of the set, in [0, 1].
        v_min: Value of the fail state, which every state can reach.
        uncertainty: ``contamination`` or ``tv``.

    Returns:
        Worst-case means, ``[...]``.

    Raises:
        ValueError: If ``rho`` is out of range or ``uncertainty`` is unknown.
    """
    if not 0.0 <= rho <= 1.0:
        raise ValueError(f"rho must be in [0, 1], not {rho}.")
    if uncertainty not in UNCERTAINTIES:
        raise ValueError(f"uncertainty must be in {UNCERTAINTIES}, not {uncertainty}.")
    if uncertainty == "contamination":
        kept = (1.0 - rho) * probabilities
    else:
        order = np.argsort(values, axis=-1)
        values = np.take_along_axis(values, order, axis=-1)
        probabilities = np.take_along_axis(probabilities, order, axis=-1)
        below = np.cumsum(probabilities, axis=-1) - probabilities
        # the part of each outcome that lies within the lowest 1 - rho of the mass
        kept = np.clip(1.0 - rho - below, 0.0, probabilities)
    return np.asarray((kept * values).sum(axis=-1) + rho * v_min)


def robust_q(
    mdp: TabularMDP,
    values: Floats,
    *,
    gamma: float,
    rho: float,
    v_min: float,
    uncertainty: str,
    over: str,
) -> Floats:
    """Applies the robust Bellman operator once, without the maximum over actions.

    Args:
        mdp: The decision process.
        values: Value of every state, ``[S]``.
        gamma: Discount in [0, 1].
        rho: Size of the set, in [0, 1].
        v_min: Value of the fail state.
        uncertainty: ``contamination`` or ``tv``.
        over: What the transition decides. ``next_value``: the next value only,
            ``Q = E[r] + gamma inf E[V']``. ``transition``: the reward as well,
            ``Q = inf E[r + gamma V']``; ``v_min`` is then the whole return from this
            step on. Termination is an ordinary outcome with ``V' = 0``.

    Returns:
        Action values, ``[S, A]``.

    Raises:
        ValueError: If an argument is not one of these values.
    """
    if over not in OVER:
        raise ValueError(f"over must be in {OVER}, not {over}.")
    after = np.where(mdp.terminals, 0.0, values[mdp.next_states])
    if over == "transition":
        outcomes = mdp.rewards + gamma * after
        return worst_case_mean(outcomes, mdp.probabilities, rho, v_min, uncertainty)
    worst = worst_case_mean(after, mdp.probabilities, rho, v_min, uncertainty)
    rewards: Floats = (mdp.probabilities * mdp.rewards).sum(axis=-1)
    return rewards + gamma * worst


def robust_value_iteration(
    mdp: TabularMDP,
    *,
    gamma: float,
    rho: float = 0.0,
    v_min: float = 0.0,
    uncertainty: str = "tv",
    over: str = "next_value",
) -> tuple[Floats, Floats]:
    """Robust value iteration; with ``rho = 0`` it is plain value iteration.

    Args:
        mdp: The decision process.
        gamma: Discount in [0, 1]; 1 only if episodes end under every policy.
        rho: Size of the set, in [0, 1].
        v_min: Value of the fail state.
        uncertainty: ``contamination`` or ``tv``.
        over: ``next_value`` or ``transition``; see :func:`robust_q`.

    Returns:
        Values ``[S]`` and action values ``[S, A]``.

    Raises:
        ValueError: If an argument is out of range, or the values do not converge.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], not {gamma}.")
    values = np.zeros(mdp.next_states.shape[0])
    for _ in range(MAX_SWEEPS):
        q = robust_q(
            mdp,
            values,
            gamma=gamma,
            rho=rho,
            v_min=v_min,
            uncertainty=uncertainty,
            over=over,
        )
        before, values = values, q.max(axis=-1)
        if np.abs(values - before).max() <= TOLERANCE:
            return values, q
    raise ValueError(
        f"The values did not converge in {MAX_SWEEPS} sweeps: lower gamma ({gamma})."
    )


def cvar_mean(values: Floats, probabilities: Floats, alpha: float) -> Floats:
    """CVaR of a finite distribution: the mean of its lowest fraction ``alpha``.

    An outcome that lies only partly within the fraction counts with that part. CVaR is
    the maximum over ``eta`` of ``eta - E[(eta - X)+] / alpha`` (Rockafellar and
    Uryasev, 2000). It is also the worst-case mean over all distributions that give each
    outcome at most ``1 / alpha`` times its probability: total variation with
    ``rho = 1 - alpha`` and ``v_min = 0``, divided by ``alpha``.

    Args:
        values: Value of each outcome, ``[..., K]``.
        probabilities: Probability of each outcome, ``[..., K]``; sum to 1.
        alpha: Risk level in (0, 1]; 1 gives the mean.

    Returns:
        CVaRs, ``[...]``.

    Raises:
        ValueError: If ``alpha`` is outside (0, 1].
    """
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha must be in (0, 1], not {alpha}.")
    worst = worst_case_mean(values, probabilities, 1.0 - alpha, 0.0, "tv")
    return np.asarray(worst / alpha)


def nested_q(
    mdp: TabularMDP, values: Floats, *, alpha: float, gamma: float = 1.0
) -> Floats:
    """Applies the nested CVaR operator once, without the maximum over actions.

    ``Q(s, a) = CVaR_alpha[r + gamma V(s')]`` over the pair ``(r, s')``, with
    ``V(s') = 0`` where the episode terminates.

    Args:
        mdp: The decision process.
        values: Value of every state, ``[S]``.
        alpha: Risk level in (0, 1]; 1 is the plain operator.
        gamma: Discount in [0, 1].

    Returns:
        Action values ``[S, A]``.

    Raises:
        ValueError: If ``alpha`` is outside (0, 1].
    """
    after = np.where(mdp.terminals, 0.0, values[mdp.next_states])
    return cvar_mean(mdp.rewards + gamma * after, mdp.probabilities, alpha)


def nested_value_iteration(
    mdp: TabularMDP,
    *,
    alpha: float,
    gamma: float = 1.0,
    step_limit: int | None = None,
) -> tuple[Floats, Integers]:
    """Value iteration for nested CVaR; with ``alpha = 1`` for the mean.

    Args:
        mdp: The decision process.
        alpha: Risk level in (0, 1].
        gamma: Discount in [0, 1]. Without a step limit, 1 is allowed only if episodes
            end under every policy.
        step_limit: Steps after which an episode ends; None: no limit.

    Returns:
        Values of every state at the start of an episode, ``[S]``, and the best joint
        action by step and state, ``[T, S]``. Without a limit ``T`` is 1, and the action
        is the same at every step.

    Raises:
        ValueError: If an argument is out of range or the values do not converge.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], not {gamma}.")
    values = np.zeros(mdp.next_states.shape[0])
    choices: list[Integers] = []
    for _ in range(MAX_SWEEPS if step_limit is None else step_limit):
        q = nested_q(mdp, values, alpha=alpha, gamma=gamma)
        before, values = values, q.max(axis=-1)
        choices.append(q.argmax(axis=-1))
        if step_limit is None and np.abs(values - before).max() <= TOLERANCE:
            return values, np.stack(choices[-1:])
    if step_limit is None:
        raise ValueError(
            f"The values did not converge in {MAX_SWEEPS} sweeps: lower gamma"
            f" ({gamma})."
        )
    return values, np.stack(choices[::-1])


def policy_value(
    mdp: TabularMDP, policy: Integers, *, gamma: float, step_limit: int | None = None
) -> Floats:
    """Exact expected return of a deterministic joint policy under the nominal kernel.

    Args:
        mdp: The decision process.
        policy: Joint action in every state, ``[S]``.
        gamma: Discount in [0, 1]; below 1 if there is no step limit.
        step_limit: Steps after which an episode is truncated; None: no limit.

    Returns:
        The expected return from every state, ``[S]``.

    Raises:
        ValueError: If ``gamma`` is 1 without a limit.
    """
    if gamma >= 1.0 and step_limit is None:
        raise ValueError(
            "gamma 1 needs a step_limit, because the return may be infinite: set a"
            " step_limit or a gamma below 1."
        )
    num_states = mdp.next_states.shape[0]
    rows = np.arange(num_states)
    chances = mdp.probabilities[rows, policy]  # [S, K]
    rewards = (chances * mdp.rewards[rows, policy]).sum(axis=-1)
    kernel = np.zeros((num_states, num_states))  # without the steps that end an episode
    goes_on = np.where(mdp.terminals[rows, policy], 0.0, chances)
    np.add.at(kernel, (rows[:, None], mdp.next_states[rows, policy]), goes_on)
    if step_limit is None:
        solved: Floats = np.linalg.solve(np.eye(num_states) - gamma * kernel, rewards)
        return solved
    values = np.zeros(num_states)
    for _ in range(step_limit):
        values = rewards + gamma * kernel @ values
    return values
