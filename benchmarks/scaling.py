"""A small simulation of runs on 1 to 1,000 cores, from measured costs.

A run plays rounds of whole episodes on runners and makes updates on learners. The first
learner is the trial's own process. With ``overlap_sampling``, runners need not wait for
updates. Lengths of episodes are random, and the real function splits every batch. The
costs are options. Their defaults were measured on one core of a 2-core machine
(benchmarks/README.md).

Run: ``python benchmarks/scaling.py``
"""

from __future__ import annotations

import argparse
import functools
import math
from dataclasses import dataclass

import numpy as np

from rllib_risk.data.splitting import split_batch

CORES = (1, 2, 10, 100, 1000)
COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 998)
LEARNERS = (*range(1, 17), 20, 24, 28, 32)


@dataclass(frozen=True)
class Costs:
    """Costs of the parts of a run.

    Attributes:
        update_s: Time of one update on one learner, in seconds.
        fixed_share: Share of this time that does not shrink with the part of the batch.
        step_s: Seconds per env step on one runner, over all its environments.
        episode_steps: Length of the longest episode. Lengths are uniform from a third
            of it on.
        updates_per_episode: Number of updates per sampled episode.
        batch: Number of episodes of a batch.
        call_s: Time of an update without work on two learners: requests and answers.
        batch_mb: Size of the batch.
        parameters_mb: Size of the parameters that are sent, and of the gradients.
        mb_per_s: Speed of the network.
    """

    update_s: float
    fixed_share: float
    step_s: float
    episode_steps: int
    updates_per_episode: float
    batch: int
    call_s: float
    batch_mb: float
    parameters_mb: float
    mb_per_s: float

    @functools.cached_property
    def masks(self) -> list[np.ndarray]:
        """Masks of 20 random batches."""
        rng, longest = np.random.default_rng(0), self.episode_steps
        return [
            np.arange(longest)
            < rng.integers(longest // 3, longest + 1, size=(self.batch, 1))
            for _ in range(20)
        ]

    @functools.cache  # noqa: B019
    def largest_part(self, learners: int) -> float:
        """Returns the largest share of the batch that a learner has, on average."""
        parts = [
            max(rows.weight for _, rows in split_batch({"mask": mask}, learners))
            for mask in self.masks
        ]
        return sum(parts) / len(parts)

    def update(self, learners: int) -> dict[str, float]:
        """Returns the seconds of each part of one update.

        Args:
            learners: Number of learners.
        """
        part = self.largest_part(learners)
        computing = self.update_s * (self.fixed_share + (1 - self.fixed_share) * part)
        if learners == 1:
            return {"computing": computing, "sending": 0.0, "adding up": 0.0}
        # The trial's process sends every part. Parameters and sums pass along a tree.
        sent = self.batch_mb * (learners - 1) / learners / self.mb_per_s
        depth, each = math.ceil(math.log2(learners)), self.parameters_mb / self.mb_per_s
        return {
            "computing": computing,
            "sending": sent + depth * 2 * each,
            "adding up": self.call_s + depth * each,
        }

    def seconds_per_episode(self, runners: int, learners: int) -> tuple[float, str]:
        """Returns the seconds per episode of a run, and what limits the run.

        Args:
            runners: Number of remote runners; 0: the trial's own process plays.
            learners: Number of learners.
        """
        playing = self.step_s * self.episode_steps * 2 / 3 / max(runners, 1)
        learning = self.updates_per_episode * sum(self.update(learners).values())
        if runners == 0:
            return playing + learning, "learning" if learning > playing else "sampling"
        if playing > learning:
            return playing, "sampling"
        return learning, "learning"

    def best(self, cores: int) -> tuple[float, int, int, str]:
        """Returns time per episode, runners, learners and limit of the fastest run."""
        found = [
            (*self.seconds_per_episode(runners, learners), runners, learners)
            for runners in COUNTS
            for learners in LEARNERS
            if runners + learners <= cores and learners <= self.batch
        ]
        # Among runs within 1 % of the fastest, take the one with the fewest cores.
        least = min(found)[0]
        near = [row for row in found if row[0] <= 1.01 * least]
        seconds, limit, runners, learners = min(near, key=lambda row: row[2] + row[3])
        return seconds, runners, learners, limit


def table(name: str, costs: Costs, episodes: int, trials: int) -> None:
    """Prints the results of one run and of many trials for each number of cores.

    Args:
        name: Name of the workload.
        costs: Costs of the workload.
        episodes: Number of episodes of a run.
        trials: Number of trials: seeds times configurations.
    """
    alone = costs.best(1)[0]
    print(f"\n{name}: {episodes:,} episodes a run, {trials} trials")
    print(
        "| cores | one run, h | times faster | runners | learners | waits for"
        " | all trials, h | cores per trial |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for cores in CORES:
        seconds, runners, learners, limit = costs.best(cores)
        hours = {}
        for each in range(1, min(cores, 40) + 1):
            rounds = math.ceil(trials / (cores // each))
            hours[each] = rounds * costs.best(each)[0] * episodes / 3600
        chosen = min(hours, key=lambda each: (round(hours[each], 3), each))
        print(
            f"| {cores} | {seconds * episodes / 3600:.2f} | {alone / seconds:.1f}"
            f" | {runners} | {learners} | {limit} | {hours[chosen]:.1f} | {chosen} |"
        )
    print("\n| learners | computing, ms | sending, ms | adding up, ms | times faster |")
    print("|---|---|---|---|---|")
    for learners in (1, 2, 4, 8, 16, 32):
        parts = costs.update(learners)
        cells = [f"{1e3 * part:.0f}" for part in parts.values()]
        ratio = costs.update_s / sum(parts.values())
        print(f"| {learners} | {' | '.join(cells)} | {ratio:.1f} |")


def main() -> None:
    """Prints the tables of two workloads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update-s", type=float, default=0.276)
    parser.add_argument("--fixed-share", type=float, default=0.1)
    parser.add_argument("--updates-per-episode", type=float, default=1.0)
    parser.add_argument("--call-ms", type=float, default=10.0)
    parser.add_argument("--network-mb-per-s", type=float, default=1000.0)
    parser.add_argument("--episodes", type=int, default=40_000)
    parser.add_argument("--trials", type=int, default=30)
    a = parser.parse_args()
    for name, step_s in (
        ("A fast simulator (SMAX 5m_vs_6m, 11,853 steps/s)", 1 / 11_853),
        ("A slow simulator (20 ms a step)", 0.02),
    ):
        costs = Costs(
            update_s=a.update_s,
            fixed_share=a.fixed_share,
            step_s=step_s,
            episode_steps=70,
            updates_per_episode=a.updates_per_episode,
            batch=32,
            call_s=a.call_ms / 1e3,
            batch_mb=3.4,
            parameters_mb=0.94,
            mb_per_s=a.network_mb_per_s,
        )
        table(name, costs, a.episodes, a.trials)


if __name__ == "__main__":
    main()
