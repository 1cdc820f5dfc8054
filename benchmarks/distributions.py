"""One update of the learners of a team's distribution, beside RMIX's, at one size.

The size is that of 5m_vs_6m, with 32 atoms for all of them. RMIX takes its TD step. The
updates take turns; times are of the processor, so that other work on the machine counts
less; the ratio is the median of the turns' ratios.

Run: ``python benchmarks/distributions.py``. With a checkout of a released code, its
learner takes its turn too, on the same batch::

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
# Numbers of the state that describe one agent, as in SMAC without shields.
UNIT = 4
KEYS: dict[str, dict[str, Any]] = {
    "RMIX": {"qr_gate": "never"},
    "DDN": {},
    "DMIX": {},
    "DPLEX": {},
    "RiskQ": {},
}


def make_policy(name: str, keys: dict[str, Any]) -> ValuePolicy:
    """Our policy.

    Args:
        name: Of the algorithm.
        keys: Beside the number of atoms.
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
    """Updates of the released learners, where there is a checkout.

    Args:
        arguments: Of the command line.
        episodes: The batch.

    Returns:
        Title -> update.
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
        raise SystemExit(f"{source} does not exist; give the root of the checkout.")
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
        # Their learners write into the batch's mask.
        return lambda: learner.train(batch[:], 0, 0)

    return {f"{name}, released": update(learner) for name, learner in learners.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    codes = parser.add_mutually_exclusive_group()
    codes.add_argument("--dfac", type=Path, help="a checkout of j3soon/dfac-extended")
    codes.add_argument("--riskq", type=Path, help="a checkout of xmu-rl-3dv/RiskQ")
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
    print("| update | CPU s | of RMIX's |")
    print("|---|---|---|")
    for name, own in times.items():
        ratio = statistics.median(
            mine / base for mine, base in zip(own, times["RMIX"], strict=True)
        )
        print(f"| {name} | {statistics.median(own):.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
