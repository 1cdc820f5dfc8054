"""Builds episodes from joint steps: finds their ends and last observations.

Letters: ``L`` rows of an episode, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rllib_risk.config.schema import shown
from rllib_risk.data.arrays import OBSERVATIONS, with_last_observation
from rllib_risk.data.episodes import Episode
from rllib_risk.data.importing.cells import LARGEST
from rllib_risk.data.importing.mapping import ColumnMap
from rllib_risk.data.importing.steps import NO_ACTION, Steps
from rllib_risk.data.replay_memory import action_dtype
from rllib_risk.data.rows import DatasetError

# Relative difference between two times that counts as rounding.
_TIME_ROUNDING = 1e-6
# Relative and absolute tolerance for equal rewards of a team.
_SAME_REWARD = 1e-6


@dataclass
class Report:
    """Numbers of episodes that an import had to change or interpret.

    Attributes:
        unflagged: Number of episodes that end without an expected flag.
        shortened: Number of truncated episodes whose last step was dropped, because the
            data do not hold the observation after it.
        left_out: Number of truncated one-step episodes that were left out for the same
            reason.
    """

    unflagged: int = 0
    shortened: int = 0
    left_out: int = 0


class Assembler:
    """Builds episodes from joint steps."""

    def __init__(self, columns: ColumnMap, report: Report) -> None:
        """Initializes the assembler.

        Args:
            columns: The map.
            report: Counts to update.
        """
        self._map = columns
        self._report = report
        self._seen: set[tuple[str, str]] = set()
        self._open: list[Steps] = []

    def episodes(
        self, steps: Iterable[Steps], available: np.ndarray
    ) -> Iterator[Episode]:
        """Adds rows and yields the episodes that are complete.

        Args:
            steps: Rows of one file, in order.
            available: 1 where an agent has an action, uint8 ``[N, A]``.

        Yields:
            Complete episodes.

        Raises:
            DatasetError: If rows do not form episodes.
        """
        for chunk in steps:
            cuts = np.flatnonzero(self._begins(chunk)).tolist()
            for start, stop in zip([0, *cuts], [*cuts, len(chunk)], strict=True):
                if start in cuts and self._open:
                    yield from self._close(available)
                if start == stop:
                    continue
                if not self._open:
                    self._begin(chunk, start)
                self._open.append(chunk[start:stop])

    def finish(self, available: np.ndarray) -> Iterator[Episode]:
        """Yields the last episode, after the last row."""
        if self._open:
            yield from self._close(available)

    def _begins(self, chunk: Steps) -> np.ndarray:
        """Whether each row is the first of an episode, bool ``[R]``."""
        columns, new = self._map, np.zeros(len(chunk), bool)
        last = self._open[-1] if self._open else None
        if last is not None and columns.per_file:
            new[0] = last.rows.file != chunk.rows.file
        if columns.episode:
            names = chunk.arrays["episode"]
            new[1:] = names[1:] != names[:-1]
            if last is not None:
                new[0] |= names[0] != last.arrays["episode"][-1]
        elif not columns.per_file:
            over = _over(chunk)
            new[1:] = over[:-1]
            if last is not None:
                new[0] = _over(last)[-1]
        return new

    def _begin(self, chunk: Steps, row: int) -> None:
        """Records the name of an episode and checks that it is new."""
        if not self._map.episode:
            return
        name = str(chunk.arrays["episode"][row])
        key = (str(chunk.rows.file) if self._map.per_file else "", name)
        if key in self._seen:
            raise chunk.error(
                row,
                "episode",
                f"episode {shown(name)} was there before. Rows of an episode must"
                " follow each other; names that count within each file need"
                " 'episode: {column: ..., per_file: true}'",
            )
        self._seen.add(key)

    def _close(self, available: np.ndarray) -> Iterator[Episode]:
        parts, self._open = self._open, []
        episode = _Rows(parts, self._map).episode(available, self._report)
        if episode is None:
            self._report.left_out += 1
        else:
            yield episode


class _Rows:
    """The rows of one episode."""

    def __init__(self, parts: list[Steps], columns: ColumnMap) -> None:
        self._parts = parts
        self._map = columns
        if "time" in parts[0].arrays:
            self._check_kinds_of_time()
        first = parts[0].arrays
        self._arrays = first
        if len(parts) > 1:
            self._arrays = {
                key: np.concatenate([part.arrays[key] for part in parts])
                for key in first
            }

    def _error(self, row: int, key: str, text: str, *place: int) -> DatasetError:
        """Builds an error about a row; ``place``: index of agent and of column."""
        for part in self._parts:
            if row < len(part):
                return part.error(row, key, text, *place)
            row -= len(part)
        raise AssertionError("there is no such row")

    def _refuse(self, wrong: np.ndarray, key: str, text: str) -> None:
        """Raises an error for the first place at which ``wrong [L, n]`` is true."""
        if wrong.any():
            row, agent = (int(n) for n in np.argwhere(wrong)[0])
            raise self._error(row, key, text, agent)

    def _check_kinds_of_time(self) -> None:
        kinds = [part.arrays["time"].dtype.kind == "M" for part in self._parts]
        for part, kind in zip(self._parts, kinds, strict=True):
            if kind != kinds[0]:
                raise part.error(0, "time", "numbers and dates are mixed")

    def episode(self, available: np.ndarray, report: Report) -> Episode | None:
        """Builds the episode; None if it has no step left."""
        arrays = self._arrays
        if "time" in arrays:
            self._check_time()
        self._check_actions()
        steps = len(arrays["actions"]) - (self._map.final == "row")
        if steps == 0:
            raise self._error(0, "action", "the episode has no action")
        terminated = self._terminated(report)
        obs = arrays["obs"]
        state = arrays.get("state", np.zeros((len(obs), 0))).astype(np.float32)
        mask = arrays.get("mask")
        if mask is None:
            mask = np.broadcast_to(available, (len(obs), *available.shape))
        if self._map.next:
            obs, state, mask = self._with_next(obs, state, mask)
        rewards, actions = self._rewards()[:steps], arrays["actions"][:steps]
        if len(obs) == steps:
            kept = with_last_observation(obs, state, mask, terminated)
            if kept is None:
                return None
            obs, state, mask = kept
            report.shortened += not terminated
            steps = len(obs) - 1
        elif not terminated and not mask[-1].any(axis=1).all():
            last = len(arrays["actions"]) - 1
            key = "next.mask" if self._map.next else "mask"
            raise self._error(last, key, "leaves an agent without an action")
        if self._map.state == (OBSERVATIONS,):
            state = obs.reshape(len(obs), -1)
        return Episode(
            obs=obs,
            state=state,
            action_mask=np.ascontiguousarray(mask),
            actions=actions[:steps].astype(action_dtype(mask.shape[-1])),
            rewards=rewards[:steps].astype(np.float32),
            terminated=terminated,
            risk_levels=np.ones((steps, actions.shape[1]), np.float32),
        )

    def _check_time(self) -> None:
        time = self._arrays["time"]
        wrong = time[1:] <= time[:-1]
        if wrong.any():
            row = int(wrong.argmax()) + 1
            repeated = time[row] == time[row - 1]
            text = "is that of the row before" if repeated else "runs backwards"
            text = f"the time {time[row]} {text} ({time[row - 1]})"
            raise self._error(row, "time", text)
        step = self._map.step
        if step is None:
            return
        gaps = np.diff(time)
        if gaps.dtype.kind == "m":
            gaps = gaps / np.timedelta64(1, "s")
        elif gaps.dtype.kind == "i":
            gaps = gaps.view(np.uint64)  # int64 cannot hold every gap
        wrong = np.abs(gaps - step) > _TIME_ROUNDING * step
        if wrong.any():
            row = int(wrong.argmax()) + 1
            text = f"the time is {gaps[row - 1]:g} after the row before, and 'step' is"
            raise self._error(row, "time", f"{text} {step:g}: rows are missing")

    def _check_actions(self) -> None:
        """Checks that with 'final: row' only the last row has no actions."""
        if self._map.final != "row":
            return
        none = self._arrays["actions"] == NO_ACTION
        for row in np.flatnonzero(none.any(axis=1)).tolist():
            if not none[row].all():
                agent = int(none[row].argmax())
                text = "is empty, and other agents have an action"
                raise self._error(row, "action", text, agent)
            if row < len(none) - 1:
                text = "is empty, and it is not the last row of the episode"
                raise self._error(row, "action", text)
        if not none[-1].all():
            text = "the last row of the episode has an action. 'final: row' asks for"
            text += " one more row, with the last observation and no action"
            raise self._error(len(none) - 1, "action", text)

    def _flag(self, key: str) -> np.ndarray:
        """Returns a flag of the team, bool ``[L]``."""
        flags = self._arrays.get(key)
        if flags is None:
            return np.zeros(len(self._arrays["actions"]), bool)
        text = "differs between the agents; a team ends together"
        self._refuse(flags != flags[:, :1], key, text)
        return flags[:, 0]

    def _terminated(self, report: Report) -> bool:
        """Whether the episode terminated."""
        last = len(self._arrays["actions"]) - (2 if self._map.final == "row" else 1)
        ends: dict[str, bool] = {}
        for key in ("terminated", "truncated"):
            flag = self._flag(key)
            if flag[:last].any():
                text = "the episode goes on after its end"
                raise self._error(int(flag.argmax()), key, text)
            ends[key] = bool(flag[last:].any())
        given = {key for key in ends if key in self._arrays}
        if not any(ends.values()) and (
            len(given) == 2 or not (self._map.episode or self._map.per_file)
        ):
            report.unflagged += 1
            return False  # the log ends before the episode does
        if "terminated" in given:
            return ends["terminated"]
        return self._map.end == "terminated" and not ends["truncated"]

    def _rewards(self) -> np.ndarray:
        """Computes the reward of the team, float64 ``[L]``."""
        rewards, team = self._arrays["reward"], self._map.team
        steps = len(rewards) - (self._map.final == "row")
        self._refuse(np.isnan(rewards[:steps]), "reward", "is empty")
        if rewards.shape[1] == 1 and team != "shared":
            raise self._map.error(
                f"reward.team: '{team}' needs a reward for each agent, and the data"
                " have one.",
                *("reward", "team"),
            )
        if team == "sum":
            return self._sums(rewards, steps)
        if team == "shared":
            found = rewards[:steps]
            same = np.isclose(found, found[:, :1], rtol=_SAME_REWARD, atol=_SAME_REWARD)
            text = "differs between the agents. Set reward.team to sum or mean"
            self._refuse(~same, "reward", text)
            return rewards[:, 0]
        return rewards.mean(axis=1)

    def _sums(self, rewards: np.ndarray, steps: int) -> np.ndarray:
        """Adds up the agents' rewards, float64 ``[L]``; checks the first ``steps``."""
        sums = rewards.sum(axis=1)
        wrong = np.abs(sums[:steps]) > LARGEST
        if wrong.any():
            row = int(wrong.argmax())
            text = f"the sum of the agents' rewards, {sums[row]:g}, does not fit in 32"
            agent = int(np.abs(rewards[row]).argmax())
            raise self._error(row, "reward", f"{text} bits", agent)
        return sums

    def _with_next(
        self, obs: np.ndarray, state: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Adds the values after the last row; others must equal the next row."""
        found = []
        for key, before in (("observation", obs), ("state", state), ("mask", mask)):
            after = self._arrays.get(f"next.{key}")
            if after is None:
                found.append(np.concatenate([before, before[-1:]]))
                continue
            after = after.astype(before.dtype)
            differ = after[:-1] != before[1:]
            if differ.any():
                row, *place = (int(n) for n in np.argwhere(differ)[0])
                place = place if len(place) == 2 else [0, *place]
                text = f"is not the '{key}' of the next row. Rows may be missing, or an"
                text += " end is not flagged"
                raise self._error(row, f"next.{key}", text, *place)
            found.append(np.concatenate([before, after[-1:]]))
        obs, state, mask = found
        return obs, state, mask


def _over(chunk: Steps) -> np.ndarray:
    """Whether a flag ends the episode at each row, bool ``[R]``."""
    over = np.zeros(len(chunk), bool)
    for key in ("terminated", "truncated"):
        if key in chunk.arrays:
            over |= chunk.arrays[key].any(axis=1)
    return over
