"""The keys that all algorithms of this package have in addition to RLlib's."""

from __future__ import annotations

from rllib_risk.config.options import fields_of
from rllib_risk.config.schema import MAX_EPISODES, Field
from rllib_risk.data.replay import StoreOptions
from rllib_risk.env_wrappers.episode_loop import MAX_EPISODE_STEPS
from rllib_risk.env_wrappers.watchdog import ENV_TIMEOUT_S
from rllib_risk.parts.inputs import TeamOptions
from rllib_risk.parts.slots import TEAM_PARTS

TEAM_FIELDS: dict[str, Field] = {
    **TEAM_PARTS.fields(),
    **fields_of(TeamOptions),
    "reward_scale": Field(
        1.0,
        "Factor on rewards inside the learner; logged returns are not scaled.",
        float,
        low=0.0,
        low_open=True,
    ),
    "optimizer": Field(
        "rmsprop",
        "Optimizer of the TD loss.",
        str,
        choices=("rmsprop", "adam", "radam"),
        fixed=True,
    ),
    "optimizer_eps": Field(
        None,
        "Epsilon of the TD optimizer; null: 1e-5 for rmsprop, 1e-8 for the others.",
        float,
        low=0.0,
        low_open=True,
        optional=True,
    ),
    "rmsprop_smoothing": Field(0.99, "RMSprop's decay.", float, low=0.0, high=1.0),
    "batch_size_episodes": Field(
        32,
        "Episodes per update, or sequences of their steps.",
        int,
        low=1,
        high=MAX_EPISODES,
        unit="episodes",
    ),
    **fields_of(StoreOptions),
    "learning_starts_episodes": Field(
        32, "Episodes stored before the first update.", int, low=1, unit="episodes"
    ),
    "updates_per_episode": Field(
        1.0,
        "Gradient steps per sampled episode.",
        float,
        low=0.0,
        low_open=True,
        unit="updates",
    ),
    "update_interval_env_steps": Field(
        None,
        "Env steps between two updates, which are made while episodes are played, from"
        " the episodes that have ended. null: all updates of a round are made after it,"
        " as updates_per_episode says.",
        int,
        low=1,
        optional=True,
        unit="env steps",
    ),
    "initial_epsilon": Field(1.0, "Epsilon at the start.", float, low=0.0, high=1.0),
    "final_epsilon": Field(0.05, "Epsilon at the end.", float, low=0.0, high=1.0),
    "epsilon_anneal_env_steps": Field(
        50_000,
        "Steps over which epsilon falls linearly.",
        int,
        low=1,
        unit="env steps",
    ),
    "episodes_per_round": Field(
        None,
        "Episodes a runner plays before it reports; null: one per environment.",
        int,
        low=1,
        optional=True,
        unit="episodes",
    ),
    "env_variants": Field(
        [],
        "Changes to env_config that the environments take in turn (domain"
        " randomisation), a list of mappings.",
        list,
    ),
    "overlap_sampling": Field(
        False,
        "Remote runners sample while the learner learns, with weights that are up"
        " to two rounds old. Off, a run repeats exactly.",
        bool,
    ),
    "max_env_restarts": Field(
        3,
        "Failures of one copy of the environment, without a completed episode between"
        " them, that stop the run. More than three quarters of the last 100 episodes"
        " stop it too.",
        int,
        low=1,
    ),
    "env_timeout_s": Field(
        ENV_TIMEOUT_S,
        "How long a step or a reset of an environment, or building it, may take. Longer"
        " counts as a failure of that environment, and its processes are ended. null:"
        " for ever.",
        float,
        low=0.0,
        low_open=True,
        optional=True,
        unit="seconds",
    ),
    "max_episode_steps": Field(
        MAX_EPISODE_STEPS,
        "Steps after which an episode that has not ended stops the run.",
        int,
        low=1,
        unit="env steps",
    ),
    "unused_keys": Field(
        "refuse",
        "Whether keys of parts that are not chosen are an error (refuse) or have no"
        " effect (ignore), for sweeps over parts.",
        str,
        choices=("refuse", "ignore"),
    ),
    "on_nonfinite": Field(
        "raise",
        "What NaN or infinity from an environment does: stop the run, or cost the"
        " episode. Such episodes do not count for max_env_restarts.",
        str,
        choices=("raise", "skip_episode"),
    ),
}
