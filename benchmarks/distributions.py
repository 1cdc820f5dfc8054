"""Measures one update of DDN, DMIX, DPLEX and RiskQ, relative to RMIX.

All learners have the size of 5m_vs_6m and 32 atoms. RMIX makes its TD step. The updates
run in turns. Times are CPU times, so that other work on the machine matters less. The
ratio is the median of the ratios within each turn.

Run: ``python benchmarks/distributions.py``. With a checkout of a paper's released code,
its learner is measured too, on the same batch::

    python benchmarks/distributions.py --dfac ../dfac-extended
    python benchmarks/distributions.py --riskq ../RiskQ
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from update import A, D, N, S, random_episodes

from rllib_risk.algorithms import config_class
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import Episode, collate

ATOMS = 32
# Number of state features of one agent, as in SMAC without shields.
UNIT = 4
KEYS: dict[str, dict[str, Any]] = {
    "RMIX": {"qr_gate": "never"},
    "DDN": {},
    "DMIX": {},
    "DPLEX": {},
    "RiskQ": {},
}


def make_policy(name: str, keys: dict[str, Any]) -> ValuePolicy:
    """Builds our policy.

    Args:
        name: Name of the algorithm.
        keys: Configuration keys besides the number of atoms.
    """
    torch.manual_seed(0)
    team = spaces.Dict(
        obs=spaces.Box(-np.inf, np.inf, (N, D), np.float32),
        state=spaces.Box(-np.inf, np.inf, (S,), np.float32),
        action_mask=spaces.Box(0, 1, (N, A), np.uint8),
    )
    config = config_class(name)().debugging(seed=0)
    config.training(num_atoms=ATOMS, **keys)
    config.validate()
    return ValuePolicy(team, spaces.MultiDiscrete([A] * N), config.to_dict())


def released(
    arguments: argparse.Namespace, episodes: list[Episode]
) -> dict[str, Callable[[], Any]]:
    """Returns the updates of the released learners.

    Args:
        arguments: Options of the command line.
        episodes: The batch.

    Returns:
        Update functions by title; empty without a checkout.
    """
    path, folder = (
        (arguments.dfac, "pymarl/src")
        if arguments.dfac
        else (arguments.riskq, "RiskQ/src")
    )
    if path is None:
        return {}
    source = (path / folder).resolve()
    if not source.is_dir():
        raise SystemExit(f"{source} does not exist. Give the root of the checkout.")
    tools = Path(__file__).resolve().parents[1] / "tools"
    sys.path[:0] = [str(source), str(tools)]
    from official import pymarl
    from official.distributions import make_dfac, make_riskq

    sizes = {"n_agents": N, "n_actions": A, "state_shape": S}
    pymarl.SCHEME["obs"]["vshape"], pymarl.SCHEME["state"]["vshape"] = D, S
    for key in ("avail_actions", "actions_onehot"):
        pymarl.SCHEME[key]["vshape"] = (A,)
    batch = pymarl.their_batch(episodes)
    learners = (
        {
            name: make_dfac(name.lower(), ATOMS, **sizes)
            for name in ("DDN", "DMIX", "DPLEX")
        }
        if arguments.dfac
        else {"RiskQ": make_riskq(ATOMS, UNIT, **sizes)}
    )

    def update(learner: Any) -> Callable[[], None]:
        # A copy, because their learners write into the mask of the batch.
        return lambda: learner.train(batch[:], 0, 0)

    return {f"{name}, released": update(learner) for name, learner in learners.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repetitions", type=int, default=5, help="number of turns (default 5)"
    )
    codes = parser.add_mutually_exclusive_group()
    codes.add_argument("--dfac", type=Path, help="checkout of j3soon/dfac-extended")
    codes.add_argument("--riskq", type=Path, help="checkout of xmu-rl-3dv/RiskQ")
    arguments = parser.parse_args()
    episodes = random_episodes(np.random.default_rng(0))
    samples = collate(episodes)
    policies = {name: make_policy(name, keys) for name, keys in KEYS.items()}
    updates: dict[str, Callable[[], Any]] = {
        name: lambda policy=policy: policy.learn_on_batch(samples)  # type: ignore[misc]
        for name, policy in policies.items()
    }
    updates |= released(arguments, episodes)
    times: dict[str, list[float]] = {name: [] for name in updates}
    for turn in range(arguments.repetitions + 1):
        for name, update in updates.items():
            start = time.process_time()
            update()
            # The first turn allocates the optimizers' moments.
            if turn:
                times[name].append(time.process_time() - start)
    threads = torch.get_num_threads()
    print(f"torch threads: {threads}; median of {arguments.repetitions} turns")
    print("| update | CPU s | ratio to RMIX |")
    print("|---|---|---|")
    for name, own in times.items():
        ratio = statistics.median(
            mine / base for mine, base in zip(own, times["RMIX"], strict=True)
        )
        print(f"| {name} | {statistics.median(own):.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
