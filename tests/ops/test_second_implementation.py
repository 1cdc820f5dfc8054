"""A second implementation of every public function of `ops`: plain loops in float64.

Numbers worked out by hand are in the tests of this folder that `BY_HAND` names.
"""

import ast
import itertools
import math
import statistics
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from rllib_risk.ops import (
    conservative,
    counterfactual,
    hysteresis,
    implicit,
    off_policy,
    policy_gradient,
    qtran,
    quantile,
    ratio_terms,
    risk,
    robust,
    robust_mdp,
    run_comparison,
    schedule,
    shapes,
    shortfall,
    targets,
    value_norm,
)
from rllib_risk.ops import statistics as run_statistics

OPS = Path(risk.__file__).parent
HERE = Path(__file__).parent
LEVELS = [Fraction(1, 100), 0.1, "0.3", 0.55, 0.7, 1]
# The tests with numbers worked out by hand.
BY_HAND = {
    "cvar_mean": "test_exact_risk.py::test_cvar_as_a_maximum",
    "nested_q": "test_exact_risk.py::test_nested_values_without_a_limit",
    "nested_value_iteration": "test_exact_risk.py::test_nested_values_without_a_limit",
    "static_optima": "test_exact_risk.py::test_discounted_returns",
    "play_out": "test_exact_risk.py::test_discounted_returns",
    "exact_frontier": "test_exact_risk.py::test_the_frontier_of_a_coin",
    "cumulative_ratios": "test_off_policy.py::test_ratios_by_hand",
    "episode_weights": (
        "test_off_policy.py::test_the_shares_of_episodes_that_end_early_add_up"
    ),
    "ratios_of_means": "test_off_policy.py::test_sums_of_ratios_by_hand",
    "resamples": "test_off_policy.py::test_sums_of_ratios_by_hand",
    "effective_sample_size": "test_off_policy.py::test_importance_sampling_by_hand",
    "mean_terms": "test_off_policy.py::test_intervals_by_hand",
    "importance_terms": "test_off_policy.py::test_importance_sampling_by_hand",
    "doubly_robust_terms": "test_off_policy.py::test_doubly_robust_by_hand",
    "below_terms": "test_off_policy.py::test_distribution_by_hand",
    "weighted_cvar": "test_off_policy.py::test_distribution_by_hand",
    "weighted_cvar_interval": "test_off_policy.py::test_intervals_by_hand",
    "studentised_interval": "test_off_policy.py::test_intervals_by_hand",
    "refit_interval": "test_off_policy.py::test_intervals_by_hand",
    "probability_of_improvement": "test_run_comparison.py::test_pairs_by_hand",
    "probability_of_improvement_ci": "test_run_comparison.py::test_pairs_by_hand",
    "performance_profile": "test_run_comparison.py::test_a_profile_by_hand",
    "aggregate_iqm": "test_run_comparison.py::test_a_profile_by_hand",
    "stratified_ci": "test_run_comparison.py::test_resamples_stay_in_their_task",
    "cvar_ci": "test_statistics.py::test_interval_of_a_tail_by_hand",
    "conservative_penalty": "test_conservative.py::test_by_hand",
    "sampled_penalty": "test_conservative.py::test_sampled_joint_actions_by_hand",
    "counterfactual_penalty": "test_conservative.py::test_departures_by_hand",
    "divergence_weights": "test_conservative.py::test_divergences_by_hand",
    "batch_weights": "test_conservative.py::test_weights_of_a_batch_by_hand",
    "counterfactual_advantages": "test_counterfactual.py::test_by_hand",
    "generalized_advantages": "test_policy_gradient.py::test_advantages_by_hand",
    "standardized": "test_policy_gradient.py::test_standardized_by_hand",
    "clipped_surrogate": "test_policy_gradient.py::test_clipped_surrogate_by_hand",
    "clipped_value_losses": (
        "test_policy_gradient.py::test_clipped_value_losses_by_hand"
    ),
    "entropies": "test_policy_gradient.py::test_entropies_by_hand",
    "update_moments": "test_policy_gradient.py::test_moments_by_hand",
    "mean_and_deviation": "test_policy_gradient.py::test_moments_by_hand",
    "optimality_losses": "test_qtran.py::test_by_hand",
    "nonoptimality_losses": "test_qtran.py::test_by_hand",
    "check_shapes": ("test_qtran.py::test_shapes_that_would_broadcast_are_refused"),
    "central_weights": "test_hysteresis.py::test_central_weights_by_hand",
    "dummy_reward_targets": (
        "test_quantile_loss.py::test_dummy_reward_targets_by_hand"
    ),
    "contaminated_rewards": "test_robust.py::test_contaminated_rewards_by_hand",
    "td_likelihood": "test_hysteresis.py::test_likelihood_by_hand",
    "hysteretic_weights": "test_hysteresis.py::test_weights_by_hand",
    "huber": "test_quantile_loss.py::test_huber",
    "quantile_fractions": "test_quantile_loss.py::test_fractions",
    "pairwise_quantile_huber_loss": "test_quantile_loss.py::test_hand_worked_losses",
    "quantile_huber_loss": "test_quantile_loss.py::test_hand_worked_losses",
    "mean_and_shape": "test_quantile_loss.py::test_mean_and_shape_by_hand",
    "as_fraction": "test_risk_measures.py::test_kept_atoms",
    "simple_level": "test_second_implementation.py::test_levels_by_hand",
    "num_kept_atoms": "test_risk_measures.py::test_kept_atoms",
    "num_kept_atoms_float32": (
        "test_risk_measures.py::test_kept_atoms_of_the_released_float32_code"
    ),
    "cvar_weights": "test_risk_measures.py::test_cvar_of_one_to_ten",
    "cvar": "test_risk_measures.py::test_cvar_of_one_to_ten",
    "var_weights": "test_distortions.py::test_var_of_one_to_ten",
    "check_distortion": "test_distortions.py::test_cpw_is_refused_where_its_map_falls",
    "distort_fractions": "test_distortions.py::test_cpw_in_the_middle",
    "distortion_weights": "test_distortions.py::test_power_weights_of_four_atoms",
    "mean_variance": "test_distortions.py::test_mean_variance_by_hand",
    "sort_atoms": "test_risk_measures.py::test_cvar_of_one_to_ten",
    "straight_through_level": "test_second_implementation.py::test_levels_by_hand",
    "contaminate": "test_robust.py::test_contamination_of_the_same",
    "worst_tv": "test_robust.py::test_total_variation_of_a_finite_distribution",
    "dual_losses": "test_second_implementation.py::test_dual_losses_by_hand",
    "returns_so_far": "test_shortfall.py::test_a_path_by_hand",
    "shortfall_rewards": "test_shortfall.py::test_a_path_by_hand",
    "threshold_values": "test_shortfall.py::test_thresholds_of_the_two_step_game",
    "worst_case_mean": "test_robust_mdp.py::test_the_worked_table",
    "robust_q": (
        "test_robust_mdp.py::test_with_true_ends_the_fail_value_changes_policies"
    ),
    "robust_value_iteration": (
        "test_robust_mdp.py::test_with_true_ends_the_fail_value_changes_policies"
    ),
    "policy_value": "test_robust_mdp.py::test_policy_values_by_hand",
    "lambda_returns": "test_targets.py::test_hand_worked_returns",
    "tree_backup_targets": "test_tree_backup.py::test_hand_worked_errors_and_weights",
    "masked_mean": "test_targets.py::test_masked_mean",
    "mask_utilities": "test_targets.py::test_unavailable_utilities_never_win",
    "schedule_value": "test_schedule.py::test_points_in_one_unit",
    "return_statistics": "test_statistics.py::test_return_statistics_of_four_episodes",
    "cvar_of_returns": "test_statistics.py::test_cvar_10_takes_a_tenth_rounded_up",
    "mean_interval": "test_statistics.py::test_interval_of_a_mean_by_hand",
    "iqm": "test_statistics.py::test_iqm_drops_a_quarter_on_each_side",
    "bootstrap_ci": (
        "test_statistics.py::test_bootstrap_of_two_runs_has_a_known_distribution"
    ),
    "aggregate_curves": (
        "test_statistics.py::test_a_run_that_ended_early_keeps_its_last_value"
    ),
}


def tensor(values):
    return torch.tensor(np.asarray(values, np.float64))


def same(got, expected):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-6, atol=1e-6)


def huber(error, kappa):
    size = abs(error)
    return error**2 / 2 if size <= kappa else kappa * (size - kappa / 2)


def kept(level, number):
    """The lowest whole k with k / number >= level."""
    level = Fraction(str(level))
    return next(k for k in range(1, number + 1) if Fraction(k, number) >= level)


def check_conservative_penalty(rng):
    values, mask = rng.normal(size=(3, 4, 5)), rng.random((3, 4)) < 0.7
    mask[:, 0] = True
    expected = []
    for row, legal in zip(values, mask, strict=True):
        atoms = []
        for m in range(5):
            total = sum(math.exp(row[a, m]) for a in range(4) if legal[a])
            atoms.append(math.log(total) - row[0, m])
        expected.append(sum(atoms) / 5)
    taken = torch.zeros(3, dtype=torch.long)
    got = conservative.conservative_penalty(
        tensor(values), taken, torch.from_numpy(mask).float()
    )
    same(got, expected)


def check_sampled_penalty(rng):
    sampled, taken = rng.normal(size=(3, 4)), rng.normal(size=3)
    expected = [
        math.log(math.exp(q) + sum(math.exp(x) for x in row)) - q
        for row, q in zip(sampled, taken, strict=True)
    ]
    same(conservative.sampled_penalty(tensor(sampled), tensor(taken)), expected)


def some_departures(rng):
    """Values ``[3, 2, 4]`` of departures, their action mask, weights ``[3, 2]``."""
    mask = rng.random((3, 2, 4)) < 0.7
    mask[..., 1] = True
    return rng.normal(size=(3, 2, 4)), mask, rng.random((3, 2))


def check_counterfactual_penalty(rng):
    values, mask, weights = some_departures(rng)
    taken = rng.normal(size=3)
    expected = []
    for b in range(3):
        total = -taken[b]
        for i in range(2):
            legal = [math.exp(values[b, i, a]) for a in range(4) if mask[b, i, a]]
            total += weights[b, i] * math.log(sum(legal))
        expected.append(total)
    got = conservative.counterfactual_penalty(
        tensor(values), tensor(taken), tensor(mask), tensor(weights)
    )
    same(got, expected)


def check_divergence_weights(rng):
    values, mask, _ = some_departures(rng)
    behaviour = rng.random((3, 2, 4))
    expected = []
    for b in range(3):
        powers = []
        for i in range(2):
            legal = [a for a in range(4) if mask[b, i, a]]
            total = sum(math.exp(values[b, i, a]) for a in legal)
            divergence = 0.0
            for a in legal:
                mu = math.exp(values[b, i, a]) / total + 1e-5
                divergence += mu * math.log(mu / (behaviour[b, i, a] + 1e-5))
            powers.append(math.exp(0.5 * divergence))
        expected.append([power / sum(powers) for power in powers])
    got = conservative.divergence_weights(
        tensor(values), tensor(behaviour), tensor(mask), 0.5
    )
    same(got, expected)


def check_batch_weights(rng):
    values, mask = rng.normal(size=(5, 3)), rng.random((5, 3)) < 0.6
    mask[:, 2] = False  # a step that no row has
    expected = np.zeros((5, 3))
    for t in range(2):
        rows = [b for b in range(5) if mask[b, t]]
        total = sum(math.exp(values[b, t] / 0.7) for b in rows)
        for b in rows:
            expected[b, t] = len(rows) * math.exp(values[b, t] / 0.7) / total
    same(implicit.batch_weights(tensor(values), tensor(mask), 0.7), expected)


def check_td_likelihood(rng):
    samples, fractions = rng.normal(size=6), rng.random(6)
    goals, half = rng.normal(size=4), 0.4
    z, tau, total = sorted(samples), sorted(fractions), 0.0
    for goal, b in itertools.product(goals, range(5)):
        overlap = min(goal + half, z[b + 1]) - max(goal - half, z[b])
        total += (tau[b + 1] - tau[b]) * max(overlap, 0) / (z[b + 1] - z[b]) / 4
    got = hysteresis.td_likelihood(
        tensor(samples), tensor(fractions), tensor(goals), half
    )
    same(got, total)


def check_hysteretic_weights(rng):
    errors, likely = rng.normal(size=20), rng.random(20)
    expected = [
        1.0 if error >= 0 else max(0.3, chance)
        for error, chance in zip(errors, likely, strict=True)
    ]
    got = hysteresis.hysteretic_weights(tensor(errors), 0.3, tensor(likely))
    same(got, expected)


def check_counterfactual_advantages(rng):
    values, chances = rng.normal(size=(2, 4)), rng.dirichlet(np.ones(4), size=2)
    actions = rng.integers(4, size=2)
    expected = [
        values[i][actions[i]]
        - sum(p * q for p, q in zip(chances[i], values[i], strict=True))
        for i in range(2)
    ]
    got = counterfactual.counterfactual_advantages(
        tensor(values), tensor(chances), torch.from_numpy(actions)
    )
    same(got, expected)


def check_generalized_advantages(rng):
    gamma, lam = 0.9, 0.8
    lengths, ended = [4, 6, 3], [True, False, True]
    rewards, values = rng.normal(size=(3, 6)), rng.normal(size=(3, 7))
    mask, ends = np.zeros((3, 6)), np.zeros((3, 6))
    expected = np.zeros((3, 6))
    for b, (length, end) in enumerate(zip(lengths, ended, strict=True)):
        mask[b, :length], ends[b, length - 1] = 1.0, end
        for t in range(length):
            # A weighted mean of n-step returns; the longest gets the remaining weight.
            for n in range(1, length - t + 1):
                total = sum(gamma**k * rewards[b, t + k] for k in range(n))
                whole = n == length - t
                if not (whole and end):
                    total += gamma**n * values[b, t + n]
                weight = lam ** (n - 1) * (1.0 if whole else 1.0 - lam)
                expected[b, t] += weight * (total - values[b, t])
    arrays = (rewards, values, ends, mask)
    got = policy_gradient.generalized_advantages(
        *(tensor(a).unsqueeze(-1) for a in arrays), gamma=gamma, gae_lambda=lam
    )
    same(got.squeeze(-1), expected)


def check_standardized(rng):
    values, mask = rng.normal(size=(3, 5, 2)), rng.random((3, 5, 1)) < 0.6
    real = [x for row, m in zip(values, mask, strict=True) for x in row[m[:, 0]].flat]
    mean, deviation = statistics.fmean(real), statistics.pstdev(real)
    got = policy_gradient.standardized(tensor(values), tensor(mask))
    same(got, np.where(mask, (values - mean) / (deviation + 1e-5), 0.0))


def check_clipped_surrogate(rng):
    ratios, gains = rng.uniform(0.3, 2.0, 30), rng.normal(size=30)
    expected = []
    for x, a in zip(ratios, gains, strict=True):
        # In the form of its authors: g(clip, A) is (1 + clip) A or (1 - clip) A.
        bound = 1.3 * a if a >= 0 else 0.7 * a
        expected.append(-min(x * a, bound))
    same(
        policy_gradient.clipped_surrogate(tensor(ratios), tensor(gains), 0.3), expected
    )


def check_clipped_value_losses(rng):
    values, old, goals = rng.normal(size=(3, 30))
    for delta in (None, 0.5):
        expected = []
        for v, o, y in zip(values, old, goals, strict=True):
            near = min(max(v, o - 0.3), o + 0.3)
            kappa = math.inf if delta is None else delta
            expected.append(max(huber(y - v, kappa), huber(y - near, kappa)))
        got = policy_gradient.clipped_value_losses(
            *map(tensor, (values, old, goals)), clip=0.3, huber_delta=delta
        )
        same(got, expected)


def check_entropies(rng):
    chances = rng.dirichlet(np.ones(4), size=5)
    chances[0] = [0.0, 0.0, 0.25, 0.75]
    expected = [-sum(p * math.log(p) for p in row if p) for row in chances]
    same(policy_gradient.entropies(tensor(chances)), expected)


def _batches(rng):
    """Three batches: returns, masks, and the returns of real steps."""
    for _ in range(3):
        values, mask = rng.normal(2.0, 3.0, (2, 6, 1)), rng.random((2, 6, 1)) < 0.7
        yield (
            values,
            mask,
            [x for x, m in zip(values.flat, mask.flat, strict=True) if m],
        )


def check_update_moments(rng):
    moments, expected = torch.zeros(3, dtype=torch.float64), [0.0, 0.0, 0.0]
    for values, mask, real in _batches(rng):
        moments = value_norm.update_moments(moments, tensor(values), tensor(mask), 0.9)
        squares = [x * x for x in real]
        batch = (statistics.fmean(real), statistics.fmean(squares), 1.0)
        expected = [0.9 * m + 0.1 * b for m, b in zip(expected, batch, strict=True)]
        same(moments, expected)


def check_mean_and_deviation(rng):
    # Weights of the batches by their age, instead of running sums.
    moments, seen = torch.zeros(3, dtype=torch.float64), []
    for values, mask, real in _batches(rng):
        moments = value_norm.update_moments(moments, tensor(values), tensor(mask), 0.9)
        seen.append(real)
    weights = [0.9**age for age in (2, 1, 0)]

    def mean_of(power):
        means = [statistics.fmean(x**power for x in real) for real in seen]
        return sum(w * m for w, m in zip(weights, means, strict=True)) / sum(weights)

    expected = (mean_of(1), math.sqrt(mean_of(2) - mean_of(1) ** 2))
    same(value_norm.mean_and_deviation(moments), expected)


def _constraints(rng):
    mixed, joint, offset = rng.normal(size=(3, 20))
    gaps = [m - j + v for m, j, v in zip(mixed, joint, offset, strict=True)]
    return map(tensor, (mixed, joint, offset)), gaps


def check_optimality_losses(rng):
    given, gaps = _constraints(rng)
    same(qtran.optimality_losses(*given), [gap**2 for gap in gaps])


def check_nonoptimality_losses(rng):
    given, gaps = _constraints(rng)
    same(qtran.nonoptimality_losses(*given), [min(gap, 0.0) ** 2 for gap in gaps])


def check_check_shapes(rng):
    for one, other in rng.integers(1, 4, size=(20, 2)).tolist():
        pair = torch.zeros(one), torch.zeros(other)
        try:
            shapes.check_shapes(pair=pair)
        except ValueError:
            assert one != other
        else:
            assert one == other


def check_central_weights(rng):
    actions, greedy = rng.integers(2, size=(2, 1, 30, 2))
    goals, best = rng.normal(size=(2, 1, 30, 1))
    expected = [
        1.0
        if list(actions[0, t]) == list(greedy[0, t]) or goals[0, t] > best[0, t]
        else 0.3
        for t in range(30)
    ]
    numbers = torch.from_numpy(actions), torch.from_numpy(greedy)
    got = hysteresis.central_weights(*numbers, tensor(goals), tensor(best), 0.3)
    same(got.flatten(), expected)


def check_huber(rng):
    errors = 3 * rng.normal(size=30)
    same(quantile.huber(tensor(errors), 0.7), [huber(e, 0.7) for e in errors])


def check_quantile_fractions(rng):
    for number in (1, 2, 7, 100):
        middle = [(m + 0.5) / number for m in range(number)]
        same(quantile.quantile_fractions(number), middle)
        edges = [(m + 1) / number for m in range(number)]
        same(quantile.quantile_fractions(number, "right_edge"), edges)


def _quantile_loss(rng, function):
    atoms, goals, fractions = rng.normal(size=5), rng.normal(size=7), rng.random(5)
    total = 0.0
    for (atom, tau), goal in itertools.product(
        zip(atoms, fractions, strict=True), goals
    ):
        error = goal - atom
        total += (tau if error > 0 else 1 - tau) * huber(error, 0.7) / 0.7 / 7
    same(function(tensor(atoms), tensor(goals), tensor(fractions), 0.7), total)


def check_pairwise_quantile_huber_loss(rng):
    _quantile_loss(rng, quantile.pairwise_quantile_huber_loss)


def check_quantile_huber_loss(rng):
    _quantile_loss(rng, quantile.quantile_huber_loss)


def check_mean_and_shape(rng):
    atoms = rng.normal(size=(2, 3, 4))
    for groups in (1, 3):
        values = rng.normal(size=(2, groups))
        expected = np.empty((2, groups, 4))
        for b, g, m in itertools.product(range(2), range(groups), range(4)):
            agents = range(3) if groups == 1 else [g]
            expected[b, g, m] = values[b, g] + sum(
                atoms[b, i, m] - sum(atoms[b, i]) / 4 for i in agents
            )
        same(quantile.mean_and_shape(tensor(values), tensor(atoms)), expected)


def check_dummy_reward_targets(rng):
    now, later = rng.normal(size=(2, 1, 3, 2))
    atoms, discount = rng.normal(size=(1, 3, 2, 4)), rng.random((1, 3, 1))
    given = tensor(now), tensor(atoms), tensor(discount)
    for implied in (None, tensor(later)):
        expected = np.empty_like(atoms)
        for t, i, j in itertools.product(range(3), range(2), range(4)):
            d = discount[0, t, 0]
            reward = now[0, t, i] - (0 if implied is None else d * later[0, t, i])
            expected[0, t, i, j] = reward + d * atoms[0, t, i, j]
        same(quantile.dummy_reward_targets(*given, implied), expected)


def check_as_fraction(rng):
    for digits in rng.integers(1, 10_000, 20).tolist():
        assert risk.as_fraction(digits / 10_000) == Fraction(digits, 10_000)


def check_simple_level(rng):
    # No fraction with a denominator up to this one is nearer.
    for level in rng.random(5).tolist():
        got = risk.simple_level(level)
        assert got.denominator < 1_000_000
        nearest = min(
            abs(Fraction(level) - Fraction(round(level * d), d))
            for d in range(999_000, 1_000_000)
        )
        assert abs(Fraction(level) - got) <= nearest


def check_num_kept_atoms(rng):
    for level, number in itertools.product(LEVELS, (1, 3, 55, 100)):
        assert risk.num_kept_atoms(level, number) == kept(level, number)


def check_num_kept_atoms_float32(rng):
    # Atom i is kept if i <= ceil(alpha M - 1), each operation rounded to float32.
    for k, number in itertools.product(range(1, 11), (1, 3, 50, 55, 100, 200)):
        level = torch.tensor(float(k)) / torch.tensor(10.0)
        last = torch.ceil(level * torch.tensor(float(number)) - 1)
        count = sum(i <= last for i in range(number))
        assert risk.num_kept_atoms_float32(Fraction(k, 10), number) == count


def _cvar(atoms, level, norm):
    lowest = sorted(atoms)[: kept(level, len(atoms))]
    parts = {
        "count": len(lowest),
        "eq2_raw": len(atoms),
        "code_offby1": max(len(lowest) - 1, 1),
    }
    return sum(lowest) / parts[norm]


def check_cvar(rng):
    atoms = rng.normal(size=33)
    for level, norm in itertools.product(LEVELS, ("count", "eq2_raw", "code_offby1")):
        same(risk.cvar(tensor(atoms), level, norm=norm), _cvar(atoms, level, norm))


def check_cvar_weights(rng):
    # Exact: the quantile function is a staircase; integrate it up to the level.
    for level, number in itertools.product(LEVELS, (1, 7, 55)):
        share = float(Fraction(str(level)))
        expected = [
            max(min((m + 1) / number, share) - m / number, 0) / share
            for m in range(number)
        ]
        same(risk.cvar_weights([level], number, mode="exact")[0], expected)


def check_var_weights(rng):
    for level, number in itertools.product(LEVELS, (1, 7, 100)):
        expected = [0.0] * number
        expected[kept(level, number) - 1] = 1.0
        same(risk.var_weights([level], number)[0], expected)


NORMAL = statistics.NormalDist()


def _map(kind, tau, eta):
    if kind == "wang":
        return NORMAL.cdf(NORMAL.inv_cdf(tau) + eta)
    if kind == "cpw":
        return tau**eta / (tau**eta + (1 - tau) ** eta) ** (1 / eta)
    power = 1 / (1 + abs(eta))
    return tau**power if eta >= 0 else 1 - (1 - tau) ** power


MAPS = [("wang", -0.75), ("wang", 0.5), ("cpw", 0.71), ("power", 1.5), ("power", -2.0)]


def check_distort_fractions(rng):
    fractions = rng.random(20)
    for kind, eta in MAPS:
        expected = [_map(kind, tau, eta) for tau in fractions]
        same(risk.distort_fractions(kind, tensor(fractions), eta), expected)


def check_distortion_weights(rng):
    # Atom j has the fractions that the map takes into ((j - 1)/M, j/M].
    for kind, eta in MAPS:
        edges = [0.0]
        for j in range(1, 9):
            low, high = 0.0, 1.0
            for _ in range(60):
                middle = (low + high) / 2
                if _map(kind, middle, eta) < j / 9:
                    low = middle
                else:
                    high = middle
            edges.append(low)
        same(risk.distortion_weights(kind, eta, 9), np.diff([*edges, 1.0]))


def check_check_distortion(rng):
    grid = np.linspace(0.001, 0.999, 999)
    for eta in (0.2, 0.27, 0.29, 0.5, 1.0, 3.0):
        rises = (np.diff([_map("cpw", tau, eta) for tau in grid]) > 0).all()
        if rises:
            risk.check_distortion("cpw", eta)
        else:
            with pytest.raises(ValueError, match="increasing"):
                risk.check_distortion("cpw", eta)


def check_mean_variance(rng):
    atoms = rng.normal(size=9)
    mean = sum(atoms) / 9
    variance = sum((atom - mean) ** 2 for atom in atoms) / 9
    same(risk.mean_variance(tensor(atoms), 0.4), mean - 0.4 * variance)


def check_sort_atoms(rng):
    atoms = rng.normal(size=(3, 8))
    same(risk.sort_atoms(tensor(atoms)), [sorted(row) for row in atoms])


def check_straight_through_level(rng):
    values, chances = rng.normal(size=(4, 5)), rng.dirichlet(np.ones(5), 4)
    expected = [
        max(zip(row, value, strict=True))[1]
        for row, value in zip(chances, values, strict=True)
    ]
    same(risk.straight_through_level(tensor(values), tensor(chances)), expected)


def check_contaminate(rng):
    values = rng.normal(size=12)
    # Replace the share rho of the kernel by the fail state.
    expected = [sum([0.7 * value, 0.3 * -4.0]) for value in values]
    same(robust.contaminate(tensor(values), 0.3, -4.0), expected)


def check_contaminated_rewards(rng):
    # Both sides of the equation, for any next value.
    given, values = rng.normal(size=12), rng.normal(size=12)
    for over in ("next_value", "transition"):
        rewards, gamma = robust.contaminated_rewards(tensor(given), 0.9, 0.3, -4, over)
        expected = []
        for r, v in zip(given, values, strict=True):
            if over == "transition":
                expected.append(0.7 * (r + 0.9 * v) + 0.3 * -4)
            else:
                expected.append(r + 0.9 * (0.7 * v + 0.3 * -4))
        same(rewards + gamma * tensor(values), expected)


def check_worst_tv(rng):
    values, dual = rng.normal(size=12), rng.normal(size=12)
    expected = [
        0.7 * eta - (eta - value if eta > value else 0) + 0.3 * -4.0
        for value, eta in zip(values, dual, strict=True)
    ]
    same(robust.worst_tv(tensor(values), tensor(dual), 0.3, -4.0), expected)


def check_dual_losses(rng):
    values, dual = rng.normal(size=12), rng.normal(size=12)
    pinball, squared = [], []
    for value, eta in zip(values, dual, strict=True):
        error = value - eta
        pinball.append(0.7 * error if error > 0 else -0.3 * error)
        squared.append((max(eta - value, 0) - 0.7 * eta) ** 2)
    args = tensor(values), tensor(dual), 0.3
    same(robust.dual_losses(*args, "pinball"), pinball)
    same(robust.dual_losses(*args, "squared_released"), squared)
    smooth = []
    for value, eta in zip(values, dual, strict=True):
        error, weight = abs(value - eta), 0.7 if value > eta else 0.3
        smooth.append(weight * (error - 0.25 if error > 0.5 else error**2))
    same(robust.dual_losses(*args, "pinball", 0.5), smooth)


def _paths(rng):
    """Rewards of three rows of four steps, their first steps, and earlier returns."""
    return rng.normal(size=(3, 4)), np.array([0, 2, 5]), rng.normal(size=3)


def _path_of(rewards, first, earned):
    path = [earned]
    for step, reward in enumerate(rewards):
        path.append(path[-1] + 0.9 ** (first + step) * reward)
    return path


def check_returns_so_far(rng):
    rewards, first, earned = _paths(rng)
    got = shortfall.returns_so_far(
        tensor(rewards), 0.9, torch.from_numpy(first), tensor(earned)
    )
    rows = zip(rewards, first, earned, strict=True)
    same(got, [_path_of(*row) for row in rows])


def check_shortfall_rewards(rng):
    paths, thresholds = rng.normal(size=(3, 5)), rng.normal(size=3)
    expected = []
    for path, b in zip(paths, thresholds, strict=True):
        utility = [x - b if x < b else 0.0 for x in path]
        expected.append([utility[i + 1] - utility[i] for i in range(4)])
    got = shortfall.shortfall_rewards(tensor(paths), tensor(thresholds[:, None]))
    same(got, expected)


def check_threshold_values(rng):
    returns, thresholds = rng.normal(size=(3, 20)), rng.normal(size=3)
    expected = [
        b + sum(x - b for x in row if x < b) / 20 / 0.3
        for row, b in zip(returns, thresholds, strict=True)
    ]
    same(shortfall.threshold_values(returns, thresholds, 0.3), expected)


def _worst(values, chances, rho, v_min, kind):
    """Contamination by its formula; total variation by moving mass, best first."""
    pairs = [list(pair) for pair in zip(values, chances, strict=True)]
    if kind == "contamination":
        return sum((1 - rho) * v * p for v, p in pairs) + rho * v_min
    left = rho
    for pair in sorted(pairs, reverse=True):
        moved = min(left, pair[1])
        left -= moved
        pair[1] -= moved
    # `sorted` does not copy the pairs, so these have moved.
    return sum(v * p for v, p in pairs) + rho * v_min


KINDS = [*itertools.product(("contamination", "tv"), ("next_value", "transition"))]


def _mdp(rng):
    shape = (4, 2, 3)
    chances = rng.random(shape)
    return robust_mdp.TabularMDP(
        next_states=rng.integers(4, size=shape),
        probabilities=chances / chances.sum(axis=-1, keepdims=True),
        rewards=rng.normal(size=shape),
        terminals=rng.random(shape) < 0.3,
        start=0,
    )


def _robust_q(mdp, values, kind, over):
    q = np.zeros((4, 2))
    for s, a in itertools.product(range(4), range(2)):
        after, chances = [], mdp.probabilities[s, a]
        for k in range(3):
            goes_on = not mdp.terminals[s, a, k]
            after.append(values[mdp.next_states[s, a, k]] if goes_on else 0.0)
        if over == "transition":
            outcomes = [mdp.rewards[s, a, k] + 0.9 * after[k] for k in range(3)]
            q[s, a] = _worst(outcomes, chances, 0.3, -20.0, kind)
        else:
            reward = sum(chances[k] * mdp.rewards[s, a, k] for k in range(3))
            q[s, a] = reward + 0.9 * _worst(after, chances, 0.3, -20.0, kind)
    return q


ROBUST = {"gamma": 0.9, "rho": 0.3, "v_min": -20.0}


def check_worst_case_mean(rng):
    values, chances = rng.normal(size=5), rng.dirichlet(np.ones(5))
    for kind in ("contamination", "tv"):
        got = robust_mdp.worst_case_mean(values, chances, 0.3, -4.0, kind)
        same(got, _worst(values, chances, 0.3, -4.0, kind))


def check_robust_q(rng):
    mdp, values = _mdp(rng), rng.normal(size=4)
    for kind, over in KINDS:
        got = robust_mdp.robust_q(mdp, values, **ROBUST, uncertainty=kind, over=over)
        same(got, _robust_q(mdp, values, kind, over))


def check_robust_value_iteration(rng):
    mdp = _mdp(rng)
    for kind, over in KINDS:
        values = np.zeros(4)
        for _ in range(250):
            values = _robust_q(mdp, values, kind, over).max(axis=1)
        got, q = robust_mdp.robust_value_iteration(
            mdp, **ROBUST, uncertainty=kind, over=over
        )
        same(got, values)
        same(q, _robust_q(mdp, values, kind, over))


def check_policy_value(rng):
    mdp, policy = _mdp(rng), rng.integers(2, size=4)

    def value(state, steps):
        total = 0.0
        for k in range(3):
            here = state, policy[state], k
            after = 0.0
            if steps > 1 and not mdp.terminals[here]:
                after = value(mdp.next_states[here], steps - 1)
            total += mdp.probabilities[here] * (mdp.rewards[here] + 0.9 * after)
        return total

    got = robust_mdp.policy_value(mdp, policy, gamma=0.9, step_limit=5)
    same(got, [value(state, 5) for state in range(4)])


def column(values):
    return tensor(values).reshape(1, -1, 1)


def check_lambda_returns(rng):
    rewards, following = rng.normal(size=6), rng.normal(size=6)
    expected = [0.0] * 6
    for ended in (0.0, 1.0):
        expected[5] = rewards[5] + 0.9 * (1 - ended) * following[5]
        for t in range(4, -1, -1):
            mixed = 0.3 * following[t] + 0.7 * expected[t + 1]
            expected[t] = rewards[t] + 0.9 * mixed
        got = targets.lambda_returns(
            column(rewards),
            column(following),
            column([0.0] * 5 + [ended]),
            column([1.0] * 6),
            gamma=0.9,
            td_lambda=0.7,
        )
        same(got.flatten(), expected)


def check_tree_backup_targets(rng):
    rewards, values, expected, chances = rng.random((4, 6))
    deltas = [rewards[t] + 0.9 * expected[t] - values[t] for t in range(6)]
    goals = []
    for t in range(6):
        goal, weight = values[t], 1.0
        for ahead in range(min(3, 6 - t)):
            if ahead:
                weight *= 0.9 * 0.8 * chances[t + ahead]
            goal += weight * deltas[t + ahead]
        goals.append(goal)
    got = targets.tree_backup_targets(
        *map(column, (rewards, values, expected, chances)),
        column([0.0] * 6),
        column([1.0] * 6),
        gamma=0.9,
        backup_lambda=0.8,
        steps=3,
    )
    same(got.flatten(), goals)


def check_masked_mean(rng):
    values, mask = rng.normal(size=(3, 4, 2)), rng.random((3, 4, 1)) < 0.6
    real = [v for v, m in zip(values.reshape(-1, 2), mask.ravel(), strict=True) if m]
    got = targets.masked_mean(tensor(values), torch.from_numpy(mask).float())
    same(got, sum(map(sum, real)) / (2 * len(real)))


def check_mask_utilities(rng):
    values, mask = rng.normal(size=(3, 4)), rng.random((3, 4)) < 0.6
    expected = [
        [v if m else targets.UNAVAILABLE_UTILITY for v, m in zip(*rows, strict=True)]
        for rows in zip(values, mask, strict=True)
    ]
    same(targets.mask_utilities(tensor(values), torch.from_numpy(mask)), expected)


def between(points, x):
    """The value of a curve of (x, y) points at x: straight lines, flat outside."""
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]


def middle(values):
    """The mean without the lowest and the highest quarter, rounded down."""
    cut = len(values) // 4
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def check_schedule_value(rng):
    points = [[100, 1.0], [250, 0.2], [300, 0.6]]
    for env_steps in (0, 100, 130, 250, 270, 300, 1000):
        got = schedule.schedule_value(points, env_steps)
        same(got, between(points, env_steps))


def check_return_statistics(rng):
    returns, lengths = rng.normal(size=23), rng.integers(1, 9, 23)
    got = run_statistics.return_statistics(returns, returns > 0, lengths)
    low, median, high = statistics.quantiles(returns, n=4, method="inclusive")
    same([got["return_q25"], got["return_median"]], [low, median])
    same([got["return_q75"], got["return_mean"]], [high, sum(returns) / 23])
    same([got["return_min"], got["return_max"]], [min(returns), max(returns)])
    same(got["return_cvar_10"], statistics.fmean(sorted(returns)[:3]))
    same(got["return_std"], statistics.stdev(returns))
    same(got["success_rate"], sum(r > 0 for r in returns) / 23)
    same([got["episode_len_mean"], got["episodes"]], [sum(lengths) / 23, 23])


def check_mean_interval(rng):
    # Student's distribution of 2 degrees of freedom: F(t) = (1 + t / sqrt(2 + t^2)) / 2
    mean, std = rng.normal(), rng.random()
    quantile = math.sqrt(2 * 0.95**2 / (1 - 0.95**2))
    half = quantile * std / math.sqrt(3)
    same(run_statistics.mean_interval(mean, std, 3), [mean - half, mean + half])


def check_cvar_of_returns(rng):
    returns = rng.normal(size=30)
    for level in (0.1, 0.3, 0.55, 1.0):
        lowest = sorted(returns)[: kept(level, 30)]
        same(run_statistics.cvar_of_returns(returns, level), statistics.fmean(lowest))


def check_iqm(rng):
    for number in (1, 3, 4, 11):
        values = rng.normal(size=number)
        same(run_statistics.iqm(values), middle(values))


def check_bootstrap_ci(rng):
    values, draws = rng.normal(size=6), np.random.default_rng(4)
    means = [middle(values[draws.integers(0, 6, 6)]) for _ in range(20_000)]
    # Other random numbers: two standard errors of a 5 % quantile are about 0.02.
    got = run_statistics.bootstrap_ci(values, reps=20_000, level=0.9, seed=1)
    np.testing.assert_allclose(got, np.quantile(means, [0.05, 0.95]), atol=0.04)


def check_probability_of_improvement(rng):
    x, y = rng.integers(0, 5, 6), rng.integers(0, 5, 4)  # with ties
    pairs = [(a > b) + 0.5 * (a == b) for a in x for b in y]
    same(run_comparison.probability_of_improvement(x, y), statistics.fmean(pairs))


def check_probability_of_improvement_ci(rng):
    x, y, draws = rng.normal(size=5), rng.normal(size=4), np.random.default_rng(4)
    shares = [
        run_comparison.probability_of_improvement(
            x[draws.integers(0, 5, 5)], y[draws.integers(0, 4, 4)]
        )
        for _ in range(5_000)
    ]
    got = run_comparison.probability_of_improvement_ci(x, y, reps=5_000, level=0.9)
    # Shares are multiples of 1/20, so a quantile may be off by one multiple.
    np.testing.assert_allclose(got, np.quantile(shares, [0.05, 0.95]), atol=0.051)


def check_performance_profile(rng):
    tasks = [rng.integers(0, 5, 6) / 4, rng.integers(0, 5, 3) / 4]  # with ties
    shares = [
        statistics.fmean(sum(x > limit for x in task) / len(task) for task in tasks)
        for limit in (0.0, 0.3, 0.5, 1.0)
    ]
    same(run_comparison.performance_profile(tasks, [0.0, 0.3, 0.5, 1.0]), shares)


def check_aggregate_iqm(rng):
    tasks = [rng.normal(size=5), rng.normal(size=4)]
    same(run_comparison.aggregate_iqm(tasks), middle([x for t in tasks for x in t]))


def check_stratified_ci(rng):
    tasks, draws = [rng.normal(size=6), rng.normal(size=4)], np.random.default_rng(4)
    means = [
        middle([x for t in tasks for x in t[draws.integers(0, len(t), len(t))]])
        for _ in range(20_000)
    ]
    got = run_comparison.stratified_ci(
        tasks, run_comparison.aggregate_iqm, reps=20_000, level=0.9
    )
    np.testing.assert_allclose(got, np.quantile(means, [0.05, 0.95]), atol=0.04)


def check_cvar_ci(rng):
    values, draws = rng.normal(size=9), np.random.default_rng(4)
    # ceil(.25 * 9) = 3 lowest of each resample.
    tails = [
        sum(sorted(values[draws.integers(0, 9, 9)])[:3]) / 3 for _ in range(20_000)
    ]
    got = run_statistics.cvar_ci(values, 0.25, reps=20_000, seed=1)
    np.testing.assert_allclose(got, np.quantile(tails, [0.025, 0.975]), atol=0.04)


def check_aggregate_curves(rng):
    xs = [[10, 20, 40], [0, 15, 30, 60]]
    ys = [list(rng.normal(size=len(x))) for x in xs]
    got = run_statistics.aggregate_curves(xs, ys)
    curves = [list(zip(x, y, strict=True)) for x, y in zip(xs, ys, strict=True)]
    grid = [10 + 50 * k / 3 for k in range(4)]
    same(got.x, grid)
    same(got.center, [middle([between(c, x) for c in curves]) for x in grid])


def episodes_of_two(rng):
    """Six episodes of up to four steps: probabilities, real steps and rewards."""
    target, played = rng.uniform(0.2, 0.9, size=(2, 6, 4, 2))
    mask = np.arange(4) < rng.integers(1, 5, size=6)[:, None]
    return target, played, mask, rng.normal(size=(6, 4)) * mask


def ratios_of(target, played, mask):
    """Ratios of every episode, one step and agent at a time."""
    found = []
    for e, real in enumerate(mask):
        ratio, row = 1.0, []
        for t, counts in enumerate(real):
            if counts:
                for i in range(target.shape[-1]):
                    ratio *= target[e, t, i] / played[e, t, i]
            row.append(ratio)
        found.append(row)
    return np.array(found)


def shares_of(ratios, mask, rows=None):
    """Share of every episode at every step that it reaches, one row at a time.

    ``rows`` selects the episodes, and may name an episode twice.
    """
    rows = list(range(len(mask)) if rows is None else rows)
    left, found = 1.0, {}
    for t in range(len(mask[0])):
        alive = [e for e in rows if mask[e][t]]
        total = sum(ratios[e][t] for e in alive)
        for e in alive:
            found[e, t] = left * ratios[e][t] / total
        left = sum(
            found[e, t] for e in alive if t + 1 < len(mask[0]) and mask[e][t + 1]
        )
    return found


def estimate(per_step, weights, mask, gamma, weighted):
    """Sum over steps of the mean of weight times number."""
    rows, shares = range(len(per_step)), shares_of(weights, mask) if weighted else {}
    total = 0.0
    for t in range(len(per_step[0])):
        if weighted:
            mean = sum(shares[e, t] * per_step[e][t] for e in rows if mask[e][t])
        else:
            mean = sum(weights[e][t] * per_step[e][t] for e in rows) / len(rows)
        total += gamma**t * mean
    return total


def check_cumulative_ratios(rng):
    target, played, mask, _ = episodes_of_two(rng)
    got = off_policy.cumulative_ratios(target, played, mask)
    same(got, ratios_of(target, played, mask))


def check_effective_sample_size(rng):
    weights = rng.exponential(size=7)
    # Through the variance of the weights: E / (1 + Var / mean^2).
    spread = statistics.pvariance(weights) / statistics.fmean(weights) ** 2
    same(off_policy.effective_sample_size(weights), 7 / (1 + spread))


def check_mean_terms(rng):
    values = rng.normal(size=9)
    got = ratio_terms.mean_terms(values)
    same(got.value, statistics.fmean(values))
    same(got.standard_error, statistics.stdev(values) / 3)


def check_importance_terms(rng):
    target, played, mask, rewards = episodes_of_two(rng)
    ratios = ratios_of(target, played, mask)
    for weighted in (False, True):
        got = off_policy.importance_terms(ratios, rewards, mask, 0.8, weighted=weighted)
        same(got.value, estimate(rewards, ratios, mask, 0.8, weighted))


def check_doubly_robust_terms(rng):
    target, played, mask, rewards = episodes_of_two(rng)
    ratios = ratios_of(target, played, mask)
    taken, values = rng.normal(size=(2, 6, 4)) * mask
    for weighted in (False, True):
        got = off_policy.doubly_robust_terms(
            ratios, rewards, taken, values, mask, 0.8, weighted=weighted
        )
        total = estimate(rewards - taken, ratios, mask, 0.8, weighted)
        shares = shares_of(ratios, mask)
        for t in range(4):
            # An episode's weight before its action is its share of the step before.
            reach = [e for e in range(6) if mask[e][t]]
            before = [ratios[e][t - 1] / 6 if t else 1 / 6 for e in reach]
            if weighted:
                before = [shares[e, t - 1] if t else 1 / 6 for e in reach]
            total += sum(
                0.8**t * b * values[e][t] for b, e in zip(before, reach, strict=True)
            )
        same(got.value, total)


def check_episode_weights(rng):
    target, played, mask, _ = episodes_of_two(rng)
    ratios = ratios_of(target, played, mask)
    shares = shares_of(ratios, mask)
    last = [shares[e, int(real.sum()) - 1] for e, real in enumerate(mask)]
    same(off_policy.episode_weights(ratios, mask), last)


def check_below_terms(rng):
    target, played, mask, rewards = episodes_of_two(rng)
    ratios, returns = ratios_of(target, played, mask), rewards.sum(1)
    shares = shares_of(ratios, mask)
    last = [shares[e, int(real.sum()) - 1] for e, real in enumerate(mask)]
    below = sum(s for r, s in zip(returns, last, strict=True) if r < 0.3)
    same(off_policy.below_terms(ratios, returns, mask, 0.3).value, below)


def cvar_of_weighted(returns, weights, level):
    """The maximum over thresholds b of b - E[(b - X)+] / level."""
    shares = np.asarray(weights) / sum(weights)
    return max(b - (shares * np.maximum(b - returns, 0)).sum() / level for b in returns)


def check_weighted_cvar(rng):
    returns, weights = rng.normal(size=8), rng.exponential(size=8)
    for level in (0.05, 0.3, 1.0):
        got = off_policy.weighted_cvar(returns, weights, level)
        same(got, cvar_of_weighted(returns, weights, level))


def resampled(number, reps, seed):
    """Episodes of each resample, some of them several times."""
    counts = np.random.default_rng(seed).multinomial(
        number, np.full(number, 1 / number), size=reps
    )
    return [[e for e, n in enumerate(row) for _ in range(n)] for row in counts]


def check_weighted_cvar_interval(rng):
    # In ascending order, because resamples draw the returns in that order.
    returns, weights = np.sort(rng.normal(size=8)), rng.exponential(size=8)
    got = off_policy.weighted_cvar_interval(returns, weights, 0.3, reps=60, seed=4)
    found = [
        cvar_of_weighted(returns[rows], weights[rows], 0.3)
        for rows in resampled(8, 60, 4)
    ]
    same(got, np.quantile(found, [0.025, 0.975]))


def check_studentised_interval(rng):
    """Takes the error of a ratio from residuals: sqrt(sum (w (r - x))^2) / sum w."""
    values, weights = rng.normal(size=8), rng.uniform(0.5, 2.0, size=8)

    def of(rows):
        total = sum(weights[e] for e in rows)
        mean = sum(weights[e] * values[e] for e in rows) / total
        squares = sum((weights[e] * (values[e] - mean)) ** 2 for e in rows)
        return mean, math.sqrt(squares * len(rows) / (len(rows) - 1)) / total

    mean, error = of(range(8))
    scores = [(m - mean) / s for m, s in map(of, resampled(8, 60, 4))]
    low, high = np.quantile(scores, [0.025, 0.975])
    arrays = weights[:, None], values[:, None], np.ones((8, 1), bool)
    terms = off_policy.importance_terms(*arrays, 1.0)
    got = ratio_terms.studentised_interval(terms, reps=60, seed=4)
    same(got, (mean - error * high, mean - error * low))


def check_ratios_of_means(rng):
    above, below = rng.normal(size=(2, 5)).tolist()
    got = ratio_terms.ratios_of_means(np.array(above), np.array(below))
    same(got, [a / b for a, b in zip(above, below, strict=True)])


def check_resamples(rng):
    blocks = ratio_terms.resamples(8, 250, np.random.default_rng(4))
    got = np.concatenate(blocks)
    counted = [[rows.count(e) for e in range(8)] for rows in resampled(8, 250, 4)]
    same(got, counted)


def check_refit_interval(rng):
    refits = rng.normal(size=5)
    got = ratio_terms.refit_interval(1.0, refits)
    half = 2.7764451 * statistics.stdev(refits)  # t of four degrees of freedom
    same(got, (1.0 - half, 1.0 + half))
    left_over = rng.normal(size=7)
    got = ratio_terms.refit_interval(1.0, refits, left_over=left_over)
    deviation = statistics.stdev(left_over) / math.sqrt(7)
    common = 1.9599640 * math.hypot(statistics.fmean(left_over), deviation)
    half = math.hypot(half, common)
    same(got, (1.0 - half, 1.0 + half))


# Functions whose second implementation needs whole games, and the test that has it.
OF_GAMES = {
    "cvar_mean": "test_exact_risk.py::test_nested_value_iteration",
    "nested_q": "test_exact_risk.py::test_nested_value_iteration",
    "nested_value_iteration": "test_exact_risk.py::test_nested_value_iteration",
    "static_optima": "test_exact_risk.py::test_no_policy_is_better_than_the_optimum",
    "play_out": "test_exact_risk.py::test_no_policy_is_better_than_the_optimum",
    "exact_frontier": "test_exact_risk.py::test_frontier_equals_enumeration",
}
CHECKS = {
    name.removeprefix("check_"): value
    for name, value in list(globals().items())
    if name.startswith("check_")
}


@pytest.mark.parametrize("function", sorted(CHECKS))
def test_against_loops(function):
    """R1: a second implementation, one number at a time; tolerance 1e-6."""
    CHECKS[function](np.random.default_rng(5))


def test_levels_by_hand():
    # A schedule computes these levels with rounding errors: 3/10 and 2/3.
    assert risk.simple_level(0.30000000000000004) == Fraction(3, 10)
    assert risk.simple_level(2 / 3) == Fraction(2, 3)
    # The likelier of two levels decides the value: .4 and .6; .7 and .3.
    values, chances = [[1.0, 5.0], [2.0, 9.0]], [[0.4, 0.6], [0.7, 0.3]]
    got = risk.straight_through_level(tensor(values), tensor(chances))
    assert got.tolist() == [5.0, 2.0]


def test_dual_losses_by_hand():
    # rho .25, V = 3. eta 1: .75 * 2; eta 5: .25 * 2. Squared: (0 - .75)^2 and
    # (2 - .75 * 5)^2 = 1.75^2.
    values, dual = tensor([3.0, 3.0]), tensor([1.0, 5.0])
    assert robust.dual_losses(values, dual, 0.25, "pinball").tolist() == [1.5, 0.5]
    got = robust.dual_losses(values, dual, 0.25, "squared_released")
    assert got.tolist() == [0.5625, 3.0625]


def functions_of(file):
    """Names of the functions that a module defines."""
    body = ast.parse(file.read_text("utf-8")).body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def test_no_function_is_left_out():
    """R1: every public function of `ops` has numbers by hand and a second form."""
    public = {
        name
        for file in OPS.glob("*.py")
        for name in functions_of(file)
        if not name.startswith("_")
    }
    assert public == set(CHECKS) | set(OF_GAMES) == set(BY_HAND)
    for place in (*BY_HAND.values(), *OF_GAMES.values()):
        file, _, test = place.partition("::")
        assert test in functions_of(HERE / file), place
