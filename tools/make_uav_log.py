"""Writes a CSV log of the env `uav`, as a user's own system might have written it.

    python tools/make_uav_log.py wide.csv --rows 1000000
    python tools/make_uav_log.py long.csv --rows 1000000 --form long

Two UAVs follow the scripted policy `greedy`. A share `--epsilon` of their decisions is
random. In the wide form a row is a step of both UAVs, in the long form a step of one.
Each flight ends with one more row (long: one for each UAV), which has the last
observation and no action. The env is known, so results from the log can be compared
with the truth.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data.episodes import Episode
from rllib_risk.env_wrappers.registry import register_envs
from rllib_risk.env_wrappers.scripted import reference_policies

AGENTS = ("uav_0", "uav_1")


def wide(number: int, flight: Episode) -> Iterator[list[object]]:
    """Yields a row for each step of both UAVs."""
    for t, state in enumerate(flight.state.tolist()):
        over = t == len(flight)
        done = [""] * 3 if over else [*flight.actions[t].tolist(), flight.rewards[t]]
        yield [number, t, *state, *done]


def long(number: int, flight: Episode) -> Iterator[list[object]]:
    """Yields a row for each UAV and step."""
    for t, state in enumerate(flight.state.tolist()):
        for index, agent in enumerate(AGENTS):
            over = t == len(flight)
            done = [""] * 2 if over else [flight.actions[t, index], flight.rewards[t]]
            yield [number, t, agent, *state, *done]


def main() -> None:
    """Plays whole flights until the file has at least ``--rows`` rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", help="CSV file to write")
    parser.add_argument("--rows", type=int, default=10_000, help="rows, at least")
    parser.add_argument("--form", choices=("wide", "long"), default="wide")
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    register_envs()
    config = TeamConfig().environment("uav")
    policy = reference_policies("uav")["greedy"]
    player = scripted_player(policy, epsilon=arguments.epsilon)
    rows = flights = 0
    with open(arguments.out, "w", newline="") as file:
        log = csv.writer(file)
        state = [f"s{i}" for i in range(14)]
        if arguments.form == "wide":
            actions = [f"{agent}_action" for agent in AGENTS]
            log.writerow(["flight", "t", *state, *actions, "reward"])
        else:
            log.writerow(["flight", "t", "uav", *state, "action", "reward"])
        form = wide if arguments.form == "wide" else long
        # `record` plays flights one by one. The limit is never reached, because a
        # flight has several rows.
        for flight in record(config, [player], arguments.rows, seed=arguments.seed):
            for row in form(flights, flight):
                log.writerow(row)
                rows += 1
            flights += 1
            if rows >= arguments.rows:
                break
    print(f"{arguments.out}: {rows:,} rows, {flights:,} flights")


if __name__ == "__main__":
    main()
