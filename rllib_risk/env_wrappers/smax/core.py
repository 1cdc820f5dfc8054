"""Many SMAX battles as arrays; one compiled call begins or steps all of them.

Only this module imports JAX, and only when battles begin. Compiled functions are kept
per scenario and number of battles in this process, and on disk for later processes.

Letters: E battles, k (at most E) seeds, N allies, U units, A actions, D observation
size, S state size.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError

INSTALL = "pip install 'rllib-risk[smax]'"


@dataclass(frozen=True)
class SmaxScenario:
    """Units and settings of a battle; hashable, so that it can be the key of a cache.

    Attributes:
        unit_types: Type of every unit, as SMAX numbers them; allies first.
        num_allies: Number of allies, N.
        random_positions: Whether positions are drawn for every battle, as in SMACv2.
        random_types: Whether types are drawn for every battle, as in SMACv2.
        enemy_noise_std: Standard deviation of the noise on the enemies' positions in
            the observations, in sight ranges.
        options: Further arguments of SMAX, as pairs of name and value.
    """

    unit_types: tuple[int, ...]
    num_allies: int
    random_positions: bool = False
    random_types: bool = False
    enemy_noise_std: float = 0.0
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def num_enemies(self) -> int:
        """Number of enemies."""
        return len(self.unit_types) - self.num_allies

    @property
    def num_actions(self) -> int:
        """Number of actions, A: stop, four moves, and an attack for each enemy."""
        return 5 + self.num_enemies

    @property
    def obs_size(self) -> int:
        """Observation size, D: 13 numbers of every other unit, 10 of the own unit."""
        return 13 * (len(self.unit_types) - 1) + 10

    @property
    def state_size(self) -> int:
        """State size, S: 10 numbers of every unit, its team and its type."""
        return 12 * len(self.unit_types)


class BattleViews(NamedTuple):
    """Observations, states and masks of battles, NumPy or JAX arrays.

    Attributes:
        obs: Observations, float32 [E, N, D].
        state: Global states, float32 [E, S].
        action_mask: Legal actions, uint8 [E, N, A].
        alive: Whether each unit is alive, bool [E, U].
    """

    obs: Any
    state: Any
    action_mask: Any
    alive: Any

    def of(self, rows: Any) -> BattleViews:
        """The rows of some battles."""
        return BattleViews(*(array[rows] for array in self))


class Battles(NamedTuple):
    """Running battles, JAX arrays.

    Attributes:
        state: SMAX's own states.
        keys: Random key of each battle, [E, 2].
    """

    state: Any
    keys: Any


class SmaxCore:
    """Compiled functions of one scenario. Make them with `smax_core`.

    Actions are numbered as in SMAC, where 0 is the only legal action of a dead unit: 0
    stop, 1 to 4 SMAX's four moves, 5 + i attack enemy i.

    Attributes:
        scenario: Units and settings of the battles.
    """

    def __init__(self, scenario: SmaxScenario) -> None:
        """Builds SMAX; nothing is compiled yet.

        Args:
            scenario: Units and settings of the battles.

        Raises:
            EnvConfigError: If JaxMARL does not accept the options.
            EnvContractError: If the installed JaxMARL has other sizes.
        """
        jax, smax = _modules()
        self._jax = jax
        self.scenario = scenario
        jnp = jax.numpy
        try:
            self._env = smax.HeuristicEnemySMAX(
                scenario=smax.Scenario(
                    jnp.array(scenario.unit_types, jnp.uint8),
                    scenario.num_allies,
                    scenario.num_enemies,
                    scenario.random_positions,
                    scenario.random_types,
                ),
                **dict(scenario.options),
            )
        except (TypeError, ValueError) as error:
            raise EnvConfigError(f"env_config.smax_args: {error}") from error
        moves = self._env.num_movement_actions  # including stop, which is the last
        self._to_smax = np.r_[
            moves - 1, : moves - 1, moves : moves + scenario.num_enemies
        ]
        ours = scenario.num_actions, scenario.obs_size, scenario.state_size
        theirs = self._to_smax.size, self._env.obs_size, self._env.state_size
        if ours != theirs:
            raise EnvContractError(
                f"the installed version of JaxMARL has actions, observations and states"
                f" of sizes {theirs}, but {ours} are expected. Run\n  {INSTALL}"
            )
        self._begin = jax.jit(self._begin_all)
        self._play = jax.jit(self._play_all)

    def begin(
        self, seeds: Sequence[int], num_battles: int
    ) -> tuple[Battles, BattleViews]:
        """Begins new battles.

        Args:
            seeds: Seeds of the first k battles; the other battles are fillers.
            num_battles: Number of battles E; every new value needs a compilation.

        Returns:
            The battles, and the observations of the first k, NumPy arrays.
        """
        words = np.zeros((num_battles, 2), np.uint32)
        given = np.array(seeds, np.int64)
        words[: len(given), 0] = given & 0xFFFFFFFF
        words[: len(given), 1] = given >> 32
        battles, seen = self._begin(words)
        return battles, BattleViews(
            *(np.asarray(array)[: len(given)] for array in seen)
        )

    def play(
        self,
        battles: Battles,
        actions: np.ndarray,
        active: np.ndarray,
        fresh: Battles | None = None,
        origin: np.ndarray | None = None,
    ) -> tuple[Battles, BattleViews, np.ndarray]:
        """Replaces some battles by new ones, then steps the active battles.

        Args:
            battles: The running battles, E.
            actions: One joint action per battle, integers [E, N].
            active: Battles to step, bool [E]; the others do not change.
            fresh: E new battles, from `begin`.
            origin: Index of the new battle that each slot takes, int32 [E]; -1: none.

        Returns:
            All battles, their observations (valid only where active) and the team
            rewards, float32 [E]; the last two are NumPy arrays.
        """
        if fresh is None or origin is None:
            fresh, origin = battles, np.full(len(actions), -1, np.int32)
        chosen = self._to_smax[actions].astype(np.int32)
        battles, seen, rewards = self._play(battles, chosen, active, fresh, origin)
        return battles, BattleViews(*map(np.asarray, seen)), np.asarray(rewards)

    def positions(self, battles: Battles, slot: int) -> dict[str, np.ndarray]:
        """Positions and health of the units of one battle, for pictures.

        Args:
            battles: The battles, E.
            slot: Index of the battle.

        Returns:
            `positions` [U, 2], `health` [U] as a share, `types` [U], `radiuses` [U],
            and `targets` [U]: the unit that each one attacks, or -1.
        """
        state, env = battles.state.state, self._env
        types = np.asarray(state.unit_types[slot])
        attacks = np.asarray(state.prev_attack_actions[slot])
        allies = self.scenario.num_allies
        number = attacks - env.num_movement_actions
        # In the enemies' attack actions, SMAX numbers the allies backwards.
        target = np.where(
            np.arange(types.size) < allies, allies + number, allies - 1 - number
        )
        health = np.asarray(state.unit_health[slot])
        return {
            "positions": np.asarray(state.unit_positions[slot]),
            "health": health / np.asarray(env.unit_type_health)[types],
            "types": types,
            "radiuses": np.asarray(env.unit_type_radiuses)[types],
            "targets": np.where(number >= 0, target, -1),
        }

    @property
    def map_size(self) -> tuple[int, int]:
        """Width and height of the map."""
        return self._env.map_width, self._env.map_height

    def _new(self, key: Any) -> Any:
        """SMAX's state at the beginning of a battle, with the dtypes of later steps."""
        jax = self._jax
        _, state = self._env.reset(key)
        actions = dict.fromkeys(self._env.agents, jax.numpy.int32(0))
        later = jax.eval_shape(lambda: self._env.step_env(key, state, actions)[1])
        # Otherwise Python numbers have a weaker dtype in the first step than in the
        # second, and the step is compiled twice.
        return jax.tree.map(
            lambda x, y: jax.lax.convert_element_type(x, y.dtype), state, later
        )

    def _seen(self, state: Any, obs: dict[str, Any], key: Any) -> BattleViews:
        """Observations, state and masks of one battle."""
        jnp, env = self._jax.numpy, self._env
        masks = env.get_avail_actions(state)
        rows = jnp.stack([obs[agent] for agent in env.agents])  # [N, D]
        mask = jnp.stack([masks[agent] for agent in env.agents])
        if self.scenario.enemy_noise_std > 0:
            rows = self._with_noise(rows, key)
        return BattleViews(
            rows,
            obs["world_state"],
            mask[:, self._to_smax].astype(jnp.uint8),
            state.state.unit_alive,
        )

    def _with_noise(self, rows: Any, key: Any) -> Any:
        """Adds noise to the positions of visible enemies (blocks that are not zero)."""
        jax = self._jax
        n, enemies = self.scenario.num_allies, self.scenario.num_enemies
        size = len(self._env.unit_features)
        first = size * (n - 1)
        blocks = rows[:, first : first + size * enemies].reshape(n, enemies, size)
        noise = self.scenario.enemy_noise_std * jax.random.normal(
            jax.random.fold_in(key, 1), (n, enemies, 2)
        )
        seen = (blocks != 0).any(-1, keepdims=True)
        blocks = blocks.at[..., 1:3].add(noise * seen)
        return rows.at[:, first : first + size * enemies].set(blocks.reshape(n, -1))

    def _begin_all(self, words: Any) -> Any:
        jax = self._jax

        def one(word: Any) -> Any:
            key = jax.random.fold_in(jax.random.PRNGKey(word[0]), word[1])
            key, first = jax.random.split(key)
            state = self._new(first)
            obs = self._env.get_obs(state)
            obs["world_state"] = self._env.get_world_state(state)
            return Battles(state, key), self._seen(state, obs, first)

        return jax.vmap(one)(words)

    def _play_all(
        self, battles: Battles, actions: Any, active: Any, fresh: Battles, origin: Any
    ) -> Any:
        jax = self._jax
        jnp = jax.numpy

        def put(old: Any, new: Any) -> Any:
            taken = (origin >= 0).reshape(-1, *[1] * (old.ndim - 1))
            return jnp.where(taken, new[jnp.maximum(origin, 0)], old)

        battles = jax.tree.map(put, battles, fresh)

        def one(battle: Battles, action: Any, is_active: Any) -> Any:
            key, now = jax.random.split(battle.keys)
            chosen = {agent: action[i] for i, agent in enumerate(self._env.agents)}
            obs, state, rewards, _, _ = self._env.step_env(now, battle.state, chosen)
            after = jax.tree.map(
                lambda x, y: jax.numpy.where(is_active, x, y),
                Battles(state, key),
                battle,
            )
            return after, self._seen(state, obs, now), rewards[self._env.agents[0]]

        return jax.vmap(one)(battles, actions, active)


@lru_cache(maxsize=8)
def smax_core(scenario: SmaxScenario) -> SmaxCore:
    """The compiled functions of a scenario; equal scenarios share one object."""
    return SmaxCore(scenario)


def check_installed() -> None:
    """Raises an EnvConfigError if JAX or JaxMARL is missing, without importing them."""
    for module in ("jax", "jaxmarl"):
        if importlib.util.find_spec(module) is None:
            raise EnvConfigError(
                f"env 'smax' needs JaxMARL, but module {module} is missing. Run\n"
                f"  {INSTALL}"
            )


@lru_cache(maxsize=1)
def _modules() -> tuple[Any, Any]:
    """Imports JAX and SMAX with settings for a process that also uses torch."""
    # By default JAX takes most of a GPU's memory at once; torch needs a part of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = importlib.import_module("jax")
    with _silence():
        smax = importlib.import_module("jaxmarl.environments.smax")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update(
            "jax_compilation_cache_dir", str(cache / "rllib_risk" / "jax")
        )
    return jax, smax


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discards output of an import: JaxMARL reports missing packages of other envs.

    The import replaces `sys.stdout` by `sys.__stdout__`, so both are redirected.
    """
    before = sys.stdout, sys.__stdout__
    sys.stdout = sys.__stdout__ = io.StringIO()  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        sys.stdout, sys.__stdout__ = before  # type: ignore[misc]
