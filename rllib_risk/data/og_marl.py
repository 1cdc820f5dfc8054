"""Imports datasets from OG-MARL vaults.

Letters: ``N`` agents, ``A`` actions, ``D`` observation size, ``S`` state size, ``B``
slices of a vault, ``T`` steps.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.data.arrays import with_last_observation
from rllib_risk.data.card import Card
from rllib_risk.data.dataset import write_dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import action_dtype
from rllib_risk.data.rows import DatasetError

# Number of rows that are read at once.
_ROWS = 10_000
_VAULT_METADATA = "metadata.json"


def import_vault(
    source: Path,
    out: Path,
    env: str | None,
    env_config: Mapping[str, Any],
    team_reward: str = "shared",
) -> Card:
    """Imports a vault of OG-MARL (Formanek et al., 2023), as written by Flashbax.

    A vault contains ``B`` slices of concatenated episodes, without the observation
    after an episode's last step. The last step of a truncated episode is therefore
    dropped, and its observation becomes the last one. The observation after a
    termination is never read and is set to zero.

    Args:
        source: Folder with ``metadata.json``.
        out: Folder of the dataset.
        env: Name of the environment; None if unknown.
        env_config: Arguments of the environment.
        team_reward: ``shared`` (all agents have the same reward, which is checked), or
            the ``sum`` or ``mean`` over agents.

    Returns:
        The dataset's card.

    Raises:
        DatasetError: If the folder is no such vault, or tensorstore is not installed.
    """
    with _fitting(source):
        vault = _Vault(source)
    agents = tuple(f"agent_{i}" for i in range(vault.num_agents))
    return write_dataset(
        out,
        _vault_episodes(vault, source, team_reward),
        env=env,
        env_config=env_config,
        agents=agents,
        behaviour={
            "imported": "/".join(source.resolve().parts[-2:]),
            "format": "og-marl",
            "team_reward": team_reward,
        },
        seed=None,
    )


def _vault_episodes(vault: _Vault, source: Path, kind: str) -> Iterator[Episode]:
    with _fitting(source):
        for slice_ in range(vault.slices):
            yield from vault.episodes(slice_, kind)


@contextlib.contextmanager
def _fitting(source: Path) -> Iterator[None]:
    """Converts errors from arrays of wrong shapes to a DatasetError."""
    try:
        yield
    except (ValueError, LookupError, TypeError, MemoryError, OverflowError) as error:
        raise DatasetError(
            f"{source}: its arrays do not fit together or cannot be read: {error}"
        ) from error


class _Vault:
    """The arrays of a Flashbax vault, read in chunks of steps."""

    def __init__(self, folder: Path) -> None:
        """Opens a vault."""
        try:
            import tensorstore
        except ImportError as error:
            raise DatasetError(
                "reading a vault needs tensorstore: pip install 'rllib-risk[og-marl]'"
            ) from error
        self._folder = folder
        try:
            metadata = json.loads((folder / _VAULT_METADATA).read_text())
            names = _leaves(metadata["structure_shape"])
        except (
            *(OSError, ValueError, KeyError, TypeError),
            *(AttributeError, RecursionError),
        ) as error:
            raise DatasetError(
                f"{folder} is no vault: its {_VAULT_METADATA} cannot be read ({error})"
            ) from error

        def read(name: str) -> Any:
            base = f"file://{folder.resolve()}"
            store = {"driver": "ocdbt", "base": base, "path": name}
            try:
                return tensorstore.open({"driver": "zarr", "kvstore": store}).result()
            except ValueError as error:
                raise DatasetError(
                    f"{folder}: {name} cannot be read: {error}"
                ) from error

        needed = ("observations", "actions", "rewards", "terminals")
        missing = [name for name in needed if name not in names]
        if missing:
            raise DatasetError(f"{folder} has no {', '.join(missing)}")
        # The name of a leaf is its path, with a dot after every part.
        self._arrays = {name: read(f"{name}.") for name in names}
        self._length = int(read("vault_index").read().result()[0])
        shape = self._arrays["observations"].shape
        if len(shape) < 3:
            raise DatasetError(f"{folder}: observations have shape {shape}")
        self.slices, _, self.num_agents = shape[:3]
        for name, array in self._arrays.items():
            if array.ndim < 2 or array.shape[0] != self.slices:
                raise DatasetError(
                    f"{folder}: {name} has shape {array.shape}, and observations have"
                    f" {shape}"
                )
            if array.shape[1] < self._length:
                raise DatasetError(
                    f"{folder}: {name} holds {array.shape[1]} steps, and vault_index"
                    f" says {self._length}"
                )
        self._num_actions = self._count_actions()

    def _count_actions(self) -> int:
        if "infos.legals" in self._arrays:
            return int(self._arrays["infos.legals"].shape[-1])
        chunks = (c for s in range(self.slices) for c in self._read(s, ["actions"]))
        return 1 + max(int(chunk["actions"].max()) for chunk in chunks)

    def _read(
        self, slice_: int, names: Iterable[str]
    ) -> Iterator[dict[str, np.ndarray]]:
        for begin in range(0, self._length, _ROWS):
            end = min(begin + _ROWS, self._length)
            yield {
                name: np.asarray(self._arrays[name][slice_, begin:end].read().result())
                for name in names
            }

    def episodes(self, slice_: int, team_reward: str) -> Iterator[Episode]:
        """Yields the episodes of one slice."""
        parts: list[dict[str, np.ndarray]] = []
        step = 0
        for chunk in self._read(slice_, self._arrays):
            self._check(chunk, slice_, step)
            step += len(chunk["actions"])
            ends = chunk["terminals"].astype(bool)
            if "truncations" in chunk:
                ends = ends | chunk["truncations"].astype(bool)
            cuts = np.flatnonzero(ends.reshape(len(ends), -1).all(axis=1)) + 1
            begin = 0
            for cut in cuts.tolist():
                parts.append({k: v[begin:cut] for k, v in chunk.items()})
                yield from self._episode(parts, team_reward)
                parts, begin = [], cut
            if begin < len(ends):
                parts.append({k: v[begin:] for k, v in chunk.items()})
        if parts:
            yield from self._episode(parts, team_reward)

    def _check(self, chunk: Mapping[str, np.ndarray], slice_: int, step: int) -> None:
        """Raises an error for invalid values that names slice, step and array."""

        def refuse(name: str, array: np.ndarray, wrong: np.ndarray, text: str) -> None:
            """Raises an error if ``wrong`` (leading axes of ``array``) has a 1."""
            if wrong.any():
                place = np.argwhere(wrong)[0]
                raise DatasetError(
                    f"{self._folder}: slice {slice_}, step {step + place[0]}, {name}:"
                    f" {text.format(array[tuple(place)])}"
                )

        actions = chunk["actions"].reshape(len(chunk["actions"]), -1)
        if actions.shape[1] != self.num_agents or actions.dtype.kind not in "iu":
            raise DatasetError(f"{self._folder}: actions are not one number per agent")
        for name, array in chunk.items():
            if array.dtype.kind == "f":
                refuse(name, array, ~np.isfinite(array), "holds {}")
        last = self._num_actions - 1
        wrong = (actions < 0) | (actions > last)
        text = f"holds {{}}, and actions go from 0 to {last}"
        refuse("actions", actions, wrong, text)
        if "infos.legals" in chunk:
            legal = chunk["infos.legals"].astype(bool)
            stuck = np.asarray(~legal.any(axis=2))
            refuse("infos.legals", legal, stuck, "an agent has no action")
            taken = np.take_along_axis(legal, actions[..., None].astype(np.int64), 2)
            text = "holds {}, which infos.legals does not allow"
            refuse("actions", actions, ~taken[..., 0], text)

    def _episode(
        self, parts: list[dict[str, np.ndarray]], team_reward: str
    ) -> Iterator[Episode]:
        whole = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
        terminated = bool(whole["terminals"][-1].all())
        rows = len(whole["actions"])
        obs = whole["observations"].astype(np.float32)
        shape = (rows, self.num_agents, self._num_actions)
        mask = whole.get("infos.legals", np.ones(shape)).astype(bool).astype(np.uint8)
        state = whole.get("infos.state", np.zeros((rows, 0))).astype(np.float32)
        kept = with_last_observation(obs, state, mask, terminated)
        if kept is None:
            return
        obs, state, mask = kept
        steps = len(obs) - 1
        rewards = whole["rewards"][:steps].reshape(steps, -1).astype(np.float64)
        actions = whole["actions"][:steps].reshape(steps, -1)
        yield Episode(
            obs=obs.reshape(len(obs), self.num_agents, -1),
            state=state.reshape(len(state), -1),
            action_mask=mask,
            actions=actions.astype(action_dtype(self._num_actions)),
            rewards=self._team_reward(rewards, team_reward).astype(np.float32),
            terminated=terminated,
            risk_levels=np.ones((steps, self.num_agents), np.float32),
        )

    def _team_reward(self, rewards: np.ndarray, kind: str) -> np.ndarray:
        if kind == "sum":
            return rewards.sum(axis=1)
        if kind == "shared" and not np.allclose(rewards, rewards[:, :1], atol=1e-6):
            raise DatasetError(
                f"{self._folder}: agents have different rewards; choose --team-reward"
                " sum or mean"
            )
        return rewards.mean(axis=1)


def _leaves(tree: Mapping[str, Any], above: str = "") -> list[str]:
    """Returns the paths of the leaves of a nested mapping, joined by dots."""
    found: list[str] = []
    for key, value in tree.items():
        name = f"{above}{key}"
        found += _leaves(value, f"{name}.") if isinstance(value, Mapping) else [name]
    return found
