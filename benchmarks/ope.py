"""Compares off-policy estimates with true returns, for policies of varying quality.

    python benchmarks/ope.py                 # tabular, with exact true returns
    python benchmarks/ope.py uav --logs 3
    python benchmarks/ope.py macn hvac
    python benchmarks/ope.py macn --logs 10 --methods wis --known-behaviour

In each environment one policy plays a log, from which other policies are evaluated. In
`tabular` the policies are tables of probabilities in a random game of two agents. In
`macn` with wind they are the best policies for several strengths of the wind. In the
other environments they are scripted policies. Outside `tabular`, each agent takes a
random action with probability epsilon. The true return is computed exactly in
`tabular`, and simulated elsewhere. The script prints for every method:

* refused: number of policies without an estimate, because the effective sample size is
  too small;
* rank: Spearman's correlation of estimates and true returns over policies (of one log);
* regret at 1: true return of the best policy minus that of the policy with the best
  estimate, as a share of the range of true returns;
* bias, size: mean error (estimate minus true return) and mean absolute error, as shares
  of that range;
* coverage: share of 95 % intervals that contain the true return.

It also prints the smallest, median and largest effective sample size (ESS).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.core.off_policy.log import Log, Replayed
from rllib_risk.env_wrappers.game_tables import tables_of
from rllib_risk.env_wrappers.registry import register_envs
from rllib_risk.env_wrappers.scripted import ScriptedPolicy, reference_policies
from rllib_risk.evaluation.off_policy.behaviour import Behaviour, clone_behaviour
from rllib_risk.evaluation.off_policy.estimates import (
    METHODS,
    Choices,
    PolicyResult,
    evaluate_policy,
)
from rllib_risk.ops.robust_mdp import robust_value_iteration

STATES, ACTIONS, AGENTS, STEPS = 5, 3, 2, 8
# Settings, policy of the log, its epsilon, and episodes of a log, by environment.
SCRIPTED: dict[str, tuple[dict[str, Any], str, float, int]] = {
    "uav": ({}, "greedy", 0.3, 100),
    "macn": ({"episode_limit": 30, "wind_probability": 0.2}, "wind 0.2", 0.3, 200),
    "hvac": ({}, "linear", 0.3, 60),
}
# Strengths of the wind for which policies of `macn` are optimal; 0.02 to 0.5 have the
# same optimum.
WINDS = (0.0, 0.2)
EPSILONS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)


@dataclass
class Candidate:
    """A policy to evaluate.

    Attributes:
        name: Name of the policy.
        truth: True mean return.
        probabilities: Function from a log to the probabilities of all actions in its
            steps, float64 [M, N, A].
    """

    name: str
    truth: float
    probabilities: Callable[[Log], np.ndarray]


@dataclass
class Table:
    """A stationary policy of the random game, with the interface of scripted ones."""

    probabilities: np.ndarray  # [S, N, A]

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        chances = self.of(obs).cumsum(-1)
        return (chances <= rng.random((*obs.shape[:2], 1))).sum(-1)

    def of(self, obs: np.ndarray) -> np.ndarray:
        return self.probabilities[obs[:, 0].argmax(-1)]


def game(rng: np.random.Generator) -> dict[str, Any]:
    """Returns the tables of a random game.

    The last state is terminal and unreachable, so that only the time limit ends a game.
    """
    shape = (STATES, ACTIONS, ACTIONS)
    moves = np.zeros((*shape, STATES + 1))
    moves[..., :STATES] = rng.dirichlet(np.full(STATES, 0.5), size=shape)
    end = np.zeros((1, ACTIONS, ACTIONS, STATES + 1))
    end[..., -1] = 1.0
    rewards = np.concatenate([rng.normal(size=shape), np.zeros((1, ACTIONS, ACTIONS))])
    return {
        "transitions": np.concatenate([moves, end]).tolist(),
        "rewards": rewards.tolist(),
        "terminal_states": [STATES],
        "episode_limit": STEPS,
    }


def exact(settings: dict[str, Any], table: np.ndarray) -> float:
    """Returns the mean return of a stationary policy, by backward induction."""
    moves = np.asarray(settings["transitions"])
    rewards = np.asarray(settings["rewards"])
    joint = np.einsum("sa,sb->sab", table[:, 0], table[:, 1])
    values = np.zeros(STATES + 1)
    for _ in range(STEPS):
        values = (joint * (rewards + moves @ values)).sum((1, 2))
    return float(values[0])


def tables(
    settings: dict[str, Any], number: int, rng: np.random.Generator
) -> tuple[Table, list[Candidate]]:
    """Returns the policy that plays the log, and the policies to evaluate."""
    shape = (STATES + 1, AGENTS, ACTIONS)
    behaviour = rng.dirichlet(np.full(ACTIONS, 3.0), size=shape[:2])
    found = []
    for index in range(number):
        other = rng.dirichlet(np.full(ACTIONS, 0.5), size=shape[:2])
        kind = ("near", "far", "greedy")[index % 3]
        if kind == "near":
            other = 0.7 * behaviour + 0.3 * other
        elif kind == "greedy":
            other = np.eye(ACTIONS)[other.argmax(-1)]
        found.append(
            Candidate(f"{kind} {index}", exact(settings, other), at_obs(Table(other)))
        )
    return Table(behaviour), found


def at_obs(table: Table) -> Callable[[Log], np.ndarray]:
    return lambda log: table.of(log.obs)


@dataclass
class BestInWind:
    """The optimal joint policy of `macn` for a strength of the wind."""

    actions: dict[bytes, np.ndarray]  # int64 [N] by observations [N, D] as bytes

    @classmethod
    def of(cls, settings: dict[str, Any], wind: float) -> BestInWind:
        game = tables_of("macn", {**settings, "wind_probability": wind})
        _, q = robust_value_iteration(game.mdp, gamma=0.99)
        best = np.unravel_index(q.argmax(-1), game.num_actions)
        views = [view.tobytes() for view in game.views]
        return cls(dict(zip(views, np.stack(best, -1), strict=True)))

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return np.stack([self.actions[view.tobytes()] for view in obs])


def policies_of(env: str) -> dict[str, ScriptedPolicy]:
    """Returns the policies to mix with random actions, by name."""
    settings = SCRIPTED[env][0]
    known = reference_policies(env, settings)
    if env == "macn":
        known |= {f"wind {w:g}": BestInWind.of(settings, w) for w in WINDS}
    return known


def mixed(policy: ScriptedPolicy, epsilon: float) -> Callable[[Log], np.ndarray]:
    """Returns the probabilities of a scripted policy mixed with random actions."""

    def of(log: Log) -> np.ndarray:
        rng = np.random.default_rng(0)
        greedy = np.eye(log.action_mask.shape[-1])[
            policy.act(log.obs, log.action_mask, rng)
        ]
        uniform = log.action_mask / log.action_mask.sum(-1, keepdims=True)
        return (1.0 - epsilon) * greedy + epsilon * uniform

    return of


def scripted(env: str, episodes: int) -> tuple[TeamConfig, list[Candidate]]:
    """Returns scripted policies mixed with random actions, with simulated returns."""
    settings = SCRIPTED[env][0]
    config = TeamConfig().environment(env, env_config=settings)
    found = []
    for name, policy in policies_of(env).items():
        for epsilon in (1.0,) if name == "random" else EPSILONS:
            player = scripted_player(policy, epsilon)
            played = record(config, [player], episodes, seed=99)
            truth = float(np.mean([e.episode_return for e in played]))
            found.append(
                Candidate(f"{name} {epsilon:g}", truth, mixed(policy, epsilon))
            )
    return config, found


def run(env: str, arguments: argparse.Namespace) -> None:
    """Evaluates the policies of an environment from one or more logs; prints tables."""
    start = time.process_time()
    if env == "tabular":
        rng = np.random.default_rng(arguments.seed)
        settings = game(rng)
        player, candidates = tables(settings, arguments.policies, rng)
        config = TeamConfig().environment(env, env_config=settings)
        make, number = scripted_player(player, 0.0), arguments.episodes or 400
        played = at_obs(player)
    else:
        settings, name, epsilon, number = SCRIPTED[env]
        number = arguments.episodes or number
        config, candidates = scripted(env, arguments.truth_episodes)
        player = policies_of(env)[name]
        make, played = scripted_player(player, epsilon), mixed(player, epsilon)
    methods = tuple(arguments.methods)
    results: list[list[PolicyResult]] = []
    owns: list[float] = []
    for seed in range(arguments.logs):
        log = Log.of(record(config, [make], number, seed=seed))
        owns.append(float(log.returns().mean()))
        if arguments.known_behaviour:
            behaviour = Behaviour(played(log), 0.0, 0.0)
        else:
            behaviour = clone_behaviour(log, seed=seed)
        choices = Choices(methods=methods, seed=seed, min_ess=arguments.min_ess)
        of_log = []
        for candidate in candidates:
            probabilities = candidate.probabilities(log)
            nothing = np.zeros((len(log.rewards), 0), np.float32)
            replayed = Replayed(probabilities, nothing)
            found = evaluate_policy(
                log, behaviour, replayed, choices, label=candidate.name
            )
            of_log.append(found)
            if arguments.verbose:
                means = {m.method: m.mean for m in found.methods}
                shown = ", ".join(
                    f"{k} {v.value:.2f} [{v.low:.2f}, {v.high:.2f}]"
                    for k, v in means.items()
                    if v
                )
                print(
                    f"  {candidate.name}: {candidate.truth:.2f}; {shown};"
                    f" ESS {found.ess:.0f}, support {found.support:.2f}",
                    flush=True,
                )
        results.append(of_log)
    table(env, candidates, results, owns, methods, number)
    print(f"{time.process_time() - start:.0f} s of CPU\n", flush=True)


def table(
    env: str,
    candidates: list[Candidate],
    results: list[list[PolicyResult]],
    owns: list[float],
    methods: tuple[str, ...],
    number: int,
) -> None:
    """Prints the table of methods, and how often each verdict is right.

    Args:
        env: Name of the environment.
        candidates: The policies.
        results: Results of the policies, by log.
        owns: Mean return of each log.
        methods: The methods, in the order of the results.
        number: Number of episodes of a log.
    """
    from scipy.stats import spearmanr

    truths = np.array([c.truth for c in candidates])
    span = np.ptp(truths)
    print(
        f"{env}: {len(candidates)} policies of {truths.min():.2f} to"
        f" {truths.max():.2f}, {len(results)} log(s) of {number} episodes"
    )
    ess = np.array([p.ess for log in results for p in log])
    quartiles = np.quantile(ess, [0.0, 0.5, 1.0])
    print("ESS: least {:.1f}, median {:.1f}, most {:.1f}".format(*quartiles))
    print("| method | refused | rank | regret at 1 | bias | size | coverage |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    verdicts = defaultdict(list)
    for place, method in enumerate(methods):
        ranks, regrets, errors, held, refused = [], [], [], [], 0
        for log in results:
            means = [policy.methods[place].mean for policy in log]
            kept = [i for i, mean in enumerate(means) if mean is not None]
            refused += len(means) - len(kept)
            values = np.array([means[i].value for i in kept])
            if len(kept) > 2:
                ranks.append(spearmanr(values, truths[kept]).statistic)
                regrets.append((truths.max() - truths[kept][values.argmax()]) / span)
            errors += ((values - truths[kept]) / span).tolist()
            held += [means[i].low <= truths[i] <= means[i].high for i in kept]
        if not errors:
            print(f"| {method} | {refused} | – | – | – | – | – |")
            continue
        print(
            f"| {method} | {refused} | {np.mean(ranks):.2f} | {np.mean(regrets):.2f} |"
            f" {np.mean(errors):+.3f} | {np.abs(errors).mean():.3f} |"
            f" {np.mean(held):.0%} of {len(held)} |"
        )
    for log, own in zip(results, owns, strict=True):
        for policy, truth in zip(log, truths, strict=True):
            verdicts[policy.verdict].append(truth > own)
    for verdict, better in sorted(verdicts.items()):
        print(f"verdict {verdict}: {len(better)} policies, {sum(better)} truly better")


def main() -> None:
    """Prints a table for each environment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "envs",
        nargs="*",
        default=["tabular"],
        help="environments: tabular, uav, macn, hvac (default tabular)",
    )
    parser.add_argument(
        "--logs", type=int, default=1, help="number of logs (default 1)"
    )
    parser.add_argument(
        "--policies",
        type=int,
        default=21,
        help="number of policies in tabular (default 21)",
    )
    parser.add_argument(
        "--episodes",
        type=int,
        default=None,
        help="episodes of a log (default: depends on the environment)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=METHODS,
        help="methods to compare (default: all)",
    )
    parser.add_argument(
        "--known-behaviour",
        action="store_true",
        help="weight by the true probabilities of the policy that played the log"
        " instead of cloned ones",
    )
    parser.add_argument(
        "--truth-episodes",
        type=int,
        default=300,
        help="episodes that simulate a true return (default 300)",
    )
    parser.add_argument(
        "--min-ess",
        type=float,
        default=30.0,
        help="smallest effective sample size for an estimate (default 30)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random game (default 0)"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print the estimates of every policy"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    register_envs()
    for env in arguments.envs:
        run(env, arguments)


if __name__ == "__main__":
    main()
