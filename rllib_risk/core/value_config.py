"""The configuration of value-based algorithms: a composition of parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from rllib_risk.config.options import fields_of
from rllib_risk.config.schema import MOST_RATE, MOST_WIDTH, ConfigError, Field
from rllib_risk.core.config import (
    TEAM_FIELDS,
    TeamConfig,
    check_schedule,
)
from rllib_risk.core.model import team_sizes
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.replay_memory import ReplayBound, machine_memory, spelled
from rllib_risk.data.rows import DatasetError
from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.env_wrappers.team_env import TeamEnv, team_spaces
from rllib_risk.networks.dual import DualNetwork
from rllib_risk.parts.agents import NetworkOptions
from rllib_risk.parts.base import Composition
from rllib_risk.parts.mixers import Mixer
from rllib_risk.parts.slots import NETWORK_PARTS, VALUE_PARTS
from rllib_risk.parts.team import TeamNetwork, network_keys

# A part that works without a state, by the key of one that needs it.
_STATELESS = {"mixer": "vdn", "joint_critic": "none", "target": "contamination"}
# rho, v_min and robust_over where there is no robust target.
_NOMINAL = (0.0, 0.0, "next_value")
# What utilities and the team's value are made of, beside what all teams have.
COMPOSITION_FIELDS: dict[str, Field] = {
    key: field
    for key, field in (fields_of(NetworkOptions) | NETWORK_PARTS.fields()).items()
    if key not in TEAM_FIELDS
}

LEARNING_FIELDS: dict[str, Field] = {
    "loss": Field(
        "td",
        "How utilities and mixer learn: squared TD error, quantile regression on the"
        " team's reward (independent agents, or a sum), QTRAN's consistency with the"
        " critic, or behaviour cloning: the likelihood of a dataset's actions, whatever"
        " they earned.",
        str,
        choices=("td", "quantile", "qtran", "bc"),
    ),
    "opt_weight": Field(1.0, "Weight of QTRAN's L_opt.", float, low=0.0),
    "nopt_weight": Field(0.1, "Weight of QTRAN's L_nopt.", float, low=0.0),
    "td_weighting": Field(
        "none",
        "Which errors weigh td_weighting_alpha instead of 1: ow, those of values above"
        " their target (OW-QMIX; hysteresis of independent agents); cw, those of joint"
        " actions that are not the critic's best either (CW-QMIX); likelihood, as ow,"
        " but no less than the likelihood of the target (LH-IQN).",
        str,
        choices=("none", "ow", "cw", "likelihood"),
    ),
    "td_weighting_alpha": Field(
        0.1,
        "The lesser weight; a number, or points [[env_steps, value], ...].",
        (float, list),
        low=0.0,
        high=1.0,
    ),
    "target": Field(
        "plain",
        "Bellman target: the mean over what was sampled, or the worst mean over a set"
        " of transition kernels around it (contamination or total variation).",
        str,
        choices=("plain", "contamination", "tv"),
        fixed=True,
    ),
    "rho": Field(
        0.0,
        "Size of that set: share of the kernel that is replaced, or its radius in total"
        " variation; 0: the plain target.",
        float,
        low=0.0,
        high=1.0,
        fixed=True,
    ),
    "v_min": Field(
        0.0,
        "Return from the fail state that the worst kernel may lead to, in units of"
        " unscaled rewards.",
        float,
    ),
    "robust_over": Field(
        "next_value",
        "What the transition decides: the next value (the reward follows from state and"
        " action), or the reward too.",
        str,
        choices=("next_value", "transition"),
    ),
    "dual_loss": Field(
        "pinball",
        "Loss of tv's dual variable: quantile regression, or its square as in the"
        " authors' code, whose minimum is no quantile.",
        str,
        choices=("pinball", "squared_released"),
    ),
    "dual_bounds": Field(
        None,
        "Least and greatest dual variable [low, high], in units of unscaled rewards;"
        " null: unbounded.",
        list,
        optional=True,
    ),
    "dual_lr": Field(
        1e-3,
        "Learning rate of the dual variable (Adam).",
        float,
        low=0.0,
        low_open=True,
        high=MOST_RATE,
    ),
    "dual_block": Field(
        4,
        "Dual updates in a row, then as many of the values, each on its own batch.",
        int,
        low=1,
        unit="updates",
    ),
    "conservative_weight": Field(
        None,
        "Weight of the conservative penalty (CQL) of actions that the data do not have,"
        " beside half the TD error, or half its mean over atoms. 0: that half alone."
        " null: no penalty, and the TD error in full, summed over atoms.",
        float,
        low=0.0,
        optional=True,
    ),
    "conservative_on": Field(
        "quantiles",
        "Penalty of every atom, and their mean (MA-CQR), or of the mean of the atoms.",
        str,
        choices=("quantiles", "mean"),
    ),
    "tail_level": Field(
        1.0,
        "Share of the return's lower tail whose quantiles the atoms of loss quantile"
        " are (MA-CQR's xi); their mean is then CVaR at this level, step by step.",
        float,
        low=0.0,
        low_open=True,
        high=1.0,
    ),
    "sequence_length": Field(
        None,
        "Learn from stretches of so many steps, drawn from all steps held; null: from"
        " whole episodes. batch_size_episodes is then their number.",
        int,
        low=1,
        optional=True,
        unit="steps",
    ),
    "burn_in": Field(
        0,
        "Steps before a stretch that fill the memory, from zeros, and are not learned"
        " from.",
        int,
        low=0,
        unit="steps",
    ),
    "acting_window": Field(
        None,
        "Act on the last so many steps alone, with a memory that begins at zero; null:"
        " on the whole episode so far.",
        int,
        low=1,
        optional=True,
        unit="steps",
    ),
    "target_window": Field(
        "carried",
        "Step at which the memory behind the next value begins: the first of the"
        " sequence, as for the present value (carried), or one later, so that both"
        " look through the same number of steps (shifted; DrIGM's code).",
        str,
        choices=("carried", "shifted"),
    ),
    "window_padding": Field(
        "none",
        "What stands before an episode's first step, in burn_in and in acting_window:"
        " nothing, so that windows are shorter there (none), or zero observations and"
        " action 0 (zeros; DrIGM's code).",
        str,
        choices=("none", "zeros"),
    ),
    "double_q": Field(True, "Online network picks the next action.", bool),
    "td_lambda": Field(
        0.0,
        "TD(lambda) of the targets; a number, or points [[env_steps, value], ...].",
        (float, list),
        low=0.0,
        high=1.0,
    ),
    "td_lambda_cut": Field(
        "none",
        "Where a lambda-return stops: nowhere (Peng), or at the first action that is"
        " not greedy (Watkins).",
        str,
        choices=("none", "watkins"),
    ),
    "target_update_interval_episodes": Field(
        200, "Episodes between hard target copies.", int, low=1, unit="episodes"
    ),
    "target_update_tau": Field(
        None,
        "Polyak rate per update; null: hard copies.",
        float,
        low=0.0,
        low_open=True,
        high=1.0,
        optional=True,
    ),
    "qr_gate": Field(
        "never",
        "When RMIX's quantile-regression loss may start: once the evaluation success"
        " rate is above a threshold, after a number of env steps, or never.",
        str,
        choices=("winrate", "step", "never"),
        fixed=True,
    ),
    "qr_gate_threshold": Field(
        0.35, "Success rate that must be exceeded.", float, low=0.0, high=1.0
    ),
    "qr_start_step": Field(
        100_000, "Env steps that must be exceeded.", int, low=0, unit="env steps"
    ),
    "qr_interval": Field(1000, "Least distance between QR steps.", int, low=1),
    "qr_interval_unit": Field(
        "env_steps",
        "Unit of qr_interval.",
        str,
        choices=("env_steps", "train_steps"),
    ),
    "qr_lr": Field(
        5e-5,
        "Learning rate of the QR loss (Adam).",
        float,
        low=0.0,
        low_open=True,
        high=MOST_RATE,
    ),
    "qr_eps": Field(
        3.125e-4, "Epsilon of the QR loss's Adam.", float, low=0.0, low_open=True
    ),
    "qr_loss": Field(
        "qrdqn",
        "QR-DQN's loss, or the released code's, under which atoms collapse.",
        str,
        choices=("qrdqn", "official"),
    ),
    "qr_fractions": Field(
        "midpoint",
        "Quantile fractions (2m-1)/(2M), or m/M.",
        str,
        choices=("midpoint", "right_edge"),
    ),
    "qr_kappa": Field(
        1.0, "Huber threshold, in units of return.", float, low=0.0, low_open=True
    ),
    "qr_target": Field(
        "cvar_dummy",
        "Dummy reward of the QR target: the paper's CVaR, or the reward that CVaR"
        " implies, for which both losses agree.",
        str,
        choices=("cvar_dummy", "implied_reward"),
    ),
    "qr_replaces_td": Field(
        False, "Whether a QR step takes the place of the TD step.", bool
    ),
}

EXPLORATION_FIELDS: dict[str, Field] = {
    "epsilon_ladder": Field(
        0.0,
        "Spread of epsilon over environments as in Ape-X: the first has epsilon, the"
        " last epsilon ** (1 + ladder); 0: all the same.",
        float,
        low=0.0,
    ),
}

DATASET_FIELDS: dict[str, Field] = {
    "dataset": Field(
        None,
        "Folder of a dataset (rllib record, rllib dataset) to learn from; {seed} in it"
        " stands for the run's seed. Nothing is sampled then, env serves evaluations"
        " only, and schedules count the env steps that were learned from.",
        str,
        optional=True,
        folder=True,
        fixed=True,
    ),
    "dataset_memory_mb": Field(
        1024,
        "Memory for its episodes. A dataset that does not fit is streamed through a"
        " window of this size.",
        int,
        low=1,
        unit="MiB",
    ),
    "updates_per_iteration": Field(
        1000, "Updates from a dataset between two results.", int, low=1, unit="updates"
    ),
}

VALUE_FIELDS: dict[str, Field] = (
    TEAM_FIELDS
    | COMPOSITION_FIELDS
    | LEARNING_FIELDS
    | VALUE_PARTS.fields()
    | EXPLORATION_FIELDS
    | DATASET_FIELDS
)


class ValueConfig(TeamConfig):
    """A composition of utilities, risk measure, mixer, critic, target and losses.

    Named algorithms are subclasses that set :attr:`overrides` and some :attr:`presets`.
    Any of them takes any key of :data:`VALUE_FIELDS`. GroupDR alone declares more keys
    and adds checks.
    """

    declared: ClassVar[dict[str, Field]] = VALUE_FIELDS
    composition: ClassVar[Composition] = VALUE_PARTS

    def validate(self) -> None:
        """See TeamConfig; without an environment the dataset says what there is."""
        if self.dataset is not None and self.env is None:
            sizes = self.open_dataset().card.sizes
            self.observation_space, self.action_space = team_spaces(
                sizes.num_agents, sizes.num_actions, sizes.obs_size, sizes.state_size
            )
            # There is nowhere to play.
            self.evaluation_interval = 0
        if self.dataset is not None:
            # What an iteration is, updates_per_iteration says.
            self.min_sample_timesteps_per_iteration = 0
        super().validate()

    def open_dataset(self) -> Dataset:
        """The dataset that is learned from; there must be one.

        Returns:
            The dataset, its files looked at but not read.

        Raises:
            ConfigError: If it is none, or not whole.
        """
        if "{seed}" in self.dataset and self.seed is None:
            raise ConfigError("dataset: {seed} in it needs a seed; set seed.")
        try:
            return Dataset(self.dataset.replace("{seed}", str(self.seed)))
        except DatasetError as error:
            raise ConfigError(f"dataset: {error}.") from error

    def preflight(self) -> ReplayBound | None:
        """See TeamConfig; without an environment the dataset is looked at alone."""
        if self.env is None:
            if self.dataset is not None:
                self._check_network(self.open_dataset().card.sizes)
            return None
        bound = super().preflight()
        # Nothing is sampled beside a dataset, and dataset_memory_mb bounds that.
        return bound if self.dataset is None else None

    def check_dataset(self, env: TeamEnv | None) -> Dataset:
        """Opens the dataset and checks that it is of an environment.

        Args:
            env: The environment; None: there is none.

        Returns:
            The dataset.

        Raises:
            ConfigError: If it is of another one, or not whole.
        """
        dataset = self.open_dataset()
        card = dataset.card
        if env is None:
            return dataset
        if card.env is not None and card.env != self.env:
            raise ConfigError(
                f"dataset: {dataset.folder} is of env {card.env!r}, not {self.env!r}."
            )
        spec = env.spec_team
        sizes = team_sizes(env.observation_space, env.action_space)
        if sizes != card.sizes or spec.agents != card.agents:
            raise ConfigError(
                f"dataset: {dataset.folder} is of {_spelled(card.agents, card.sizes)},"
                f" and env {self.env!r} has {_spelled(spec.agents, sizes)}."
            )
        differing = _differences(card.env_config, self.env_config)
        if card.env is not None and differing:
            raise ConfigError(
                f"dataset: {dataset.folder} was recorded with another env_config"
                f" ({differing}). Set env_config as it was; another environment to"
                " evaluate in belongs into evaluation_config."
            )
        return dataset

    def _check_combinations(self) -> None:
        super()._check_combinations()
        for key in ("td_lambda", "td_weighting_alpha", "alpha"):
            if isinstance(getattr(self, key), list):
                check_schedule(key, getattr(self, key), zero=key != "alpha")
        problems = (
            *self._value_problems(),
            *self._quantile_problems(),
            *self._robust_problems(),
            *self._window_problems(),
            *self._dataset_problems(),
        )
        for wrong, message in problems:
            if wrong:
                raise ConfigError(message)

    def _value_problems(self) -> tuple[tuple[bool, str], ...]:
        critic = self.joint_critic != "none"
        weighting = self.td_weighting
        return (
            (
                self.loss == "qtran" and self.joint_critic != "qtran",
                "loss: 'qtran' needs joint_critic: qtran, whose state value it uses.",
            ),
            (
                self.loss == "qtran" and weighting != "none",
                "td_weighting: weighs errors of the mixed value; loss 'qtran' has none."
                " Set td_weighting: none.",
            ),
            (
                weighting == "cw" and not critic,
                "td_weighting: 'cw' asks which joint action the critic thinks best; set"
                " joint_critic: wqmix.",
            ),
            (
                weighting == "likelihood" and self.loss != "quantile",
                "td_weighting: 'likelihood' compares return distributions; set loss:"
                " quantile.",
            ),
        )

    def _mixer(self) -> type[Mixer]:
        return NETWORK_PARTS.slots["mixer"].part(self.mixer)

    def _quantile_problems(self) -> tuple[tuple[bool, str], ...]:
        sampled, regresses = self.quantiles == "sampled", self.loss == "quantile"
        gated = self.qr_gate != "never"
        return (
            (
                (regresses or gated) and self.num_atoms == 1,
                "num_atoms: must be above 1 for loss: quantile and the"
                " quantile-regression loss (set qr_gate: never).",
            ),
            (
                regresses and not self._mixer().mixes_atoms,
                "loss: 'quantile' fits the distribution of the team's reward, per agent"
                f" or as a sum of agents' atoms, and mixer {self.mixer!r} mixes"
                " numbers; set mixer: none or vdn.",
            ),
            (
                regresses and sampled and self.mixer != "none",
                "quantiles: 'sampled' draws fractions for each agent, and the atoms of"
                " a sum belong to the same ones; set quantiles: fixed, or mixer: none.",
            ),
            (
                regresses and self.td_lambda != 0.0,
                "td_lambda: lambda-returns are numbers; loss 'quantile' needs"
                " td_lambda: 0.",
            ),
            (
                regresses
                and self.risk_mode == "dynamic"
                and self.risk_grad != "frozen",
                "risk_mode: the level predictor learns from the TD error, and loss"
                " 'quantile' has none; set risk_mode: static, or risk_grad: frozen.",
            ),
            (
                regresses and gated,
                "qr_gate: loss 'quantile' is a quantile regression already; set"
                " qr_gate: never.",
            ),
            (
                sampled and (self.qr_loss, self.qr_fractions) != ("qrdqn", "midpoint"),
                "quantiles: 'sampled' draws the fractions; leave qr_loss: qrdqn and"
                " qr_fractions: midpoint.",
            ),
            (
                self.qr_gate == "winrate" and not self.evaluation_interval,
                "qr_gate: 'winrate' needs evaluation_interval above 0.",
            ),
            (
                self.tail_level != 1.0 and (not regresses or sampled),
                "tail_level: is about the fixed atoms of a quantile regression; set"
                " loss: quantile and quantiles: fixed.",
            ),
            (
                self.tail_level != 1.0 and self.risk_measure != "mean",
                "tail_level: the mean of a tail's atoms is its CVaR already; set"
                " risk_measure: mean.",
            ),
            (
                self.conservative_on != "quantiles"
                and (self.conservative_weight is None or self.num_atoms == 1),
                "conservative_on: says where the penalty of several atoms is taken; set"
                " conservative_weight and num_atoms above 1.",
            ),
        )

    def _robust_problems(self) -> tuple[tuple[bool, str], ...]:
        robust, tv = self.target != "plain", self.target == "tv"
        bounds = self.dual_bounds
        return (
            (
                not robust and (self.rho, self.v_min, self.robust_over) != _NOMINAL,
                "rho, v_min, robust_over: describe a robust target; set target:"
                " contamination or tv.",
            ),
            (
                robust and self.loss == "quantile",
                "target: a robust target is a worst mean, and loss 'quantile' fits a"
                " whole distribution; set loss: td.",
            ),
            (
                tv and self.td_lambda != 0.0,
                "td_lambda: the worst case of total variation is of one step; set"
                " td_lambda: 0, or target: contamination.",
            ),
            (
                not tv and (self.dual_loss != "pinball" or bounds is not None),
                "dual_loss, dual_bounds: belong to target: tv.",
            ),
            (
                bounds is not None and not _is_interval(bounds),
                f"dual_bounds: must be two ascending numbers [low, high], not"
                f" {bounds!r}.",
            ),
        )

    def _window_problems(self) -> tuple[tuple[bool, str], ...]:
        pads = self.window_padding != "none"
        return (
            (
                self.burn_in > 0 and self.sequence_length is None,
                "burn_in: comes before a stretch of an episode; set sequence_length.",
            ),
            (
                self.burn_in > 0 and not self.recurrent,
                "burn_in: fills a memory; set recurrent: true, or burn_in: 0.",
            ),
            (
                self.acting_window is not None and not self.recurrent,
                "acting_window: cuts a memory; set recurrent: true, or acting_window:"
                " null.",
            ),
            (
                self.target_window != "carried"
                and (self.sequence_length is None or not self.recurrent),
                "target_window: 'shifted' moves the first step of a sequence's memory;"
                " set sequence_length and recurrent: true, or target_window: carried.",
            ),
            (
                pads and (self.sequence_length is None or self.acting_window is None),
                "window_padding: 'zeros' fills windows in training and in acting; set"
                " sequence_length and acting_window, or window_padding: none.",
            ),
            (
                pads and not self.recurrent,
                "window_padding: 'zeros' fills a memory; set recurrent: true, or"
                " window_padding: none.",
            ),
        )

    def _dataset_problems(self) -> tuple[tuple[bool, str], ...]:
        offline, clones = self.dataset is not None, self.loss == "bc"
        return (
            (
                offline and self.num_env_runners > 0,
                "num_env_runners: nobody samples where a dataset is learned from; set"
                " num_env_runners: 0.",
            ),
            (
                offline and bool(self.env_variants),
                "env_variants: are what is sampled in turn, and a dataset was sampled"
                " before; leave them out, or dataset.",
            ),
            (
                offline and self.target_update_tau is None and not clones,
                "target_update_interval_episodes: counts episodes that are sampled, and"
                " with a dataset none are; set target_update_tau.",
            ),
            (
                clones and not offline,
                "loss: 'bc' imitates the actions of a dataset; set dataset.",
            ),
            (
                clones and (self.mixer != "none" or self.num_atoms > 1),
                "loss: 'bc' learns which actions were taken, and neither a team's value"
                " nor returns; set mixer: none and num_atoms: 1.",
            ),
            (
                clones and self.conservative_weight is not None,
                "conservative_weight: loss 'bc' is that penalty alone; leave it out.",
            ),
            (
                clones
                and (self.target, self.td_weighting, self.td_lambda)
                != ("plain", "none", 0.0),
                "target, td_weighting, td_lambda: are about TD errors, and loss 'bc'"
                " has none; leave them out.",
            ),
        )

    def _check_sampling(self) -> None:
        # Nothing is sampled from a dataset's environment, so what says how much to
        # sample first has nothing to agree with.
        if self.dataset is None:
            super()._check_sampling()

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the network fits an environment, by building it.

        Args:
            env: The environment.

        Raises:
            ConfigError: If a part needs a state that the environment does not have, or
                a part of the user's own cannot be built.
        """
        self._check_network(team_sizes(env.observation_space, env.action_space))
        # Evaluations may be in any other environment of this size.
        if self.dataset is not None and not self.in_evaluation:
            self.check_dataset(env)

    def _check_network(self, sizes: TeamSizes) -> None:
        self._check_network_memory(sizes)
        try:
            network = TeamNetwork(sizes, vars(self))
            if self.target == "tv" and self.rho > 0.0:
                DualNetwork(sizes)
        except NeedsStateError as error:
            without = _STATELESS[error.key]
            raise ConfigError(
                f"{error.key}: {error.part!r} needs a global state, and env"
                f" {self.env!r} has none. Give the environment a state() method, or set"
                " env_config: {state: concat_obs} to use the agents' observations side"
                f" by side, or choose {error.key}: {without}."
            ) from error
        except Exception as error:  # a part of the user's own may fail in any way
            cause = str(error).partition("\n")[0]
            if not isinstance(error, (ValueError, RuntimeError, MemoryError)):
                cause = f"{type(error).__name__}: {cause}"
            raise ConfigError(f"The network cannot be built: {cause}") from error
        if network.joint_critic is not None and network.count_values() != 1:
            raise ConfigError(
                f"joint_critic: {self.joint_critic!r} teaches one value of the team,"
                f" and mixer {self.mixer!r} gives one per agent."
            )

    def _check_network_memory(self, sizes: TeamSizes) -> None:
        """Counts the parameters without making them."""
        try:
            with torch.device("meta"):
                network = TeamNetwork(sizes, vars(self))
        except Exception:
            # A part of the user's own may not work on this device, which has no memory.
            # The real network is built next, and its errors are reported there.
            return
        # Online and target network, gradients, and the optimizer's moments.
        needed = 5 * sum(p.numel() * p.element_size() for p in network.parameters())
        room = machine_memory()
        if room is not None and needed > room:
            keys = [
                key
                for key, field in self.all_fields().items()
                if field.high == MOST_WIDTH and key in network_keys(vars(self))
            ]
            key = max(keys, key=lambda name: getattr(self, name) or 0)
            raise ConfigError(
                f"{key}: with {getattr(self, key):,} learning the network takes"
                f" {spelled(needed)}, and this machine has {spelled(room)} of memory."
                " Lower it."
            )

    def _least_episodes(self) -> int:
        # Stretches are drawn with replacement.
        return 1 if self.sequence_length is not None else self.batch_size_episodes


def _spelled(agents: Sequence[str], sizes: TeamSizes) -> str:
    return (
        f"agents {', '.join(agents)} with {sizes.num_actions} actions, observations of"
        f" {sizes.obs_size} numbers and a state of {sizes.state_size}"
    )


def _differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    keys = sorted({*theirs, *mine})
    return ", ".join(
        f"{key} {theirs.get(key, 'not set')!r} there, {mine.get(key, 'not set')!r} here"
        for key in keys
        if theirs.get(key) != mine.get(key)
    )


def _is_interval(bounds: list) -> bool:
    numbers = [b for b in bounds if isinstance(b, (int, float)) and math.isfinite(b)]
    return len(bounds) == len(numbers) == 2 and numbers[0] < numbers[1]
