"""Generates the tables of the documentation from the code.

A table is between two comments. The rest of a page is not changed::

    <!-- table: keys network -->
    ...
    <!-- end of table -->

Run: ``python docs/make_configuration.py``. A test fails if a table is out of date.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.algorithms.actor_critic.config import (
    OFF_POLICY_FIELDS,
    ActorCriticConfig,
)
from rllib_risk.algorithms.actor_critic.ppo_config import PPO_FIELDS, PPOTeamConfig
from rllib_risk.algorithms.group_dr import GROUP_DR_FIELDS
from rllib_risk.cli.main import app
from rllib_risk.config.comparison import ALGORITHM_FIELDS, COMPARISON_FIELDS
from rllib_risk.config.experiment_keys import (
    CHECKPOINT_FIELDS,
    EXPERIMENT_FIELDS,
    INHERITANCE_FIELDS,
)
from rllib_risk.config.metrics import TEAM_METRICS
from rllib_risk.config.options import fields_of
from rllib_risk.config.schedulers import SCHEDULERS
from rllib_risk.config.schema import ConfigError, Field
from rllib_risk.config.search_space import SAMPLERS
from rllib_risk.config.searchers import SEARCHERS
from rllib_risk.config.shift_grid import SHIFT_FIELDS
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.rllib_settings import IRRELEVANT, UNUSED_KEYS, key_of
from rllib_risk.core.team_fields import TEAM_FIELDS
from rllib_risk.core.value_config import DATASET_FIELDS, ValueConfig
from rllib_risk.env_wrappers.registry import ADAPTER_DEFAULTS, ENVS, import_factory
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.parts.agents import NetworkOptions
from rllib_risk.parts.slots import NETWORK_PARTS, VALUE_PARTS

ROOT = Path(__file__).parents[1]
_TABLE = re.compile(
    r"(?P<begin><!-- table: (?P<what>.+?) -->\n).*?(?P<end><!-- end of table -->)",
    re.DOTALL,
)

GROUPS: dict[str, dict[str, Field]] = {
    "shared": TEAM_FIELDS,
    "dataset": DATASET_FIELDS,
    "group-dr": GROUP_DR_FIELDS,
    # Keys that these algorithms add to the shared keys or declare differently.
    "actor-critic": {
        key: field
        for key, field in (ActorCriticConfig.fields() | OFF_POLICY_FIELDS).items()
        if field != TEAM_FIELDS.get(key)
    },
    "ppo": {key: PPOTeamConfig.fields()[key] for key in PPO_FIELDS},
    "experiment": EXPERIMENT_FIELDS,
    "comparison": COMPARISON_FIELDS,
    "comparison-algorithm": ALGORITHM_FIELDS,
    "checkpoint": CHECKPOINT_FIELDS,
    "inheritance": INHERITANCE_FIELDS,
    "shift": SHIFT_FIELDS,
}

# Slots whose keys share a table.
PART_GROUPS: dict[str, tuple[str, ...]] = {
    "composition": tuple(NETWORK_PARTS.slots),
    "learning": ("loss", "td_weighting", "target", "penalty", "qr_gate"),
    "replay": ("replay",),
    "exploration": ("exploration",),
}

# The two kinds of algorithms, and the configuration class of each.
FAMILIES: dict[str, type[TeamConfig]] = {
    "value": ValueConfig,
    "actor-critic": ActorCriticConfig,
}

# One composition for each reason of refusal: algorithm, environment and keys.
REFUSED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("QMIX", "macn", {"objective": "markov"}),
    ("MACQR", "macn", {"objective": "markov"}),
    ("RobustVDN", "macn", {"objective": "nested"}),
    ("QMIX", "macn", {"objective": "nested", "td_lambda": 0.6}),
    ("MACQR", "macn", {"objective": "nested", "target": "cvar"}),
    ("QMIX", "macn", {"target": "cvar_atoms"}),
    ("RiskQ", "macn", {"target": "cvar_atoms"}),
    (
        "RMIX",
        "macn",
        {"target": "cvar_atoms", "loss": "quantile", "risk_grad": "frozen"},
    ),
    (
        "DDN",
        "macn",
        {"target": "cvar_atoms", "risk_measure": "cvar", "alpha": 0.3},
    ),
    ("QMIX", "macn", {"objective": "static", "loss": "bc"}),
    (
        "QMIX",
        "macn",
        {"objective": "static", "risk_measure": "cvar", "num_atoms": 8, "alpha": 0.3},
    ),
    ("QMIX", "macn", {"objective": "mean", "target": "cvar"}),
    (
        "VDN",
        "macn",
        {
            "objective": "mean",
            "loss": "quantile",
            "num_atoms": 8,
            "risk_measure": "cvar",
            "alpha": 0.3,
        },
    ),
    ("QMIX", "macn", {"objective": "static", "alpha": [[0, 1.0], [1000, 0.3]]}),
    ("QMIX", "macn", {"objective": "static", "threshold_range": [5, 5]}),
    ("RobustVDN", "macn", {"objective": "static", "v_min": -10.0}),
    ("QMIX", "macn", {"risk_measure": "cvar", "alpha": 0.3}),
    ("RMIX", "macn", {"risk_measure": "wang"}),
    ("RMIX", "macn", {"quantiles": "sampled"}),
    ("RMIX", "macn", {"alpha": 0.3}),
    ("RMIX", "macn", {"risk_measure": "var", "risk_mode": "static"}),
    ("RMIX", "macn", {"risk_parameter": 0.5}),
    ("RMIX", "macn", {"risk_kwargs": {"caution": 0.5}}),
    ("RMIX", "macn", {"cvar_mode": "exact", "cvar_norm": "eq2_raw"}),
    ("RMIX", "macn", {"risk_measure": "var", "cvar_mode": "exact"}),
    ("LHIQN", "macn", {"risk_measure": "cvar", "alpha": 0.3, "cvar_norm": "eq2_raw"}),
    ("RMIX", "macn", {"risk_measure": "wang", "risk_mode": "static", "alpha": 0.3}),
    ("QMIX", "macn", {"mixer_kwargs": {"width": 8}}),
    ("IndependentQ", "macn", {"joint_critic": "wqmix"}),
    ("QTRAN", "macn", {"double_q": False}),
    ("CWQMIX", "macn", {"mixer": "vdn", "loss": "quantile", "num_atoms": 20}),
    ("QMIX", "macn", {"loss": "qtran"}),
    ("QTRAN", "macn", {"td_weighting": "ow"}),
    ("QMIX", "macn", {"td_weighting": "cw"}),
    ("QMIX", "macn", {"td_weighting": "likelihood"}),
    ("QMIX", "macn", {"qr_gate": "step"}),
    ("LHIQN", "macn", {"mixer": "vdn"}),
    ("LHIQN", "macn", {"td_lambda": 0.8}),
    ("RMIX", "macn", {"mixer": "none", "loss": "quantile"}),
    ("LHIQN", "macn", {"qr_gate": "step"}),
    ("QMIX", "macn", {"quantiles": "sampled"}),
    ("VDN", "macn", {"loss": "quantile"}),
    ("QMIX", "macn", {"qr_loss": "official"}),
    (
        "RMIX",
        "macn",
        {
            "quantiles": "sampled",
            "risk_mode": "static",
            "alpha": 0.3,
            "qr_loss": "official",
        },
    ),
    ("LHIQN", "macn", {"qr_fractions": "right_edge"}),
    ("LHIQN", "macn", {"tail_level": 0.15}),
    ("RMIX", "macn", {"evaluation_interval": None}),
    ("VDN", "macn", {"tail_level": 0.15}),
    (
        "VDN",
        "macn",
        {
            "loss": "quantile",
            "num_atoms": 8,
            "tail_level": 0.15,
            "risk_measure": "cvar",
        },
    ),
    ("VDN", "macn", {"conservative_on": "mean"}),
    ("QMIX", "macn", {"penalty": "counterfactual"}),
    ("OfflineBaselines", "macn", {"mixer": "none"}),
    ("OfflineBaselines", "macn", {"num_atoms": 8}),
    (
        "RobustQMIX",
        "macn",
        {"penalty": "counterfactual", "conservative_weight": 1.0},
    ),
    ("QMIX", "macn", {"env_config": {"state": "none"}}),
    ("QTRAN", "macn", {"env_config": {"state": "none"}}),
    ("RMIX", "macn", {"risk_mode": "static", "alpha": [[0, 1.0], [0, 0.5]]}),
    ("QMIX", "macn", {"rho": 0.1}),
    ("LHIQN", "macn", {"target": "contamination", "rho": 0.1}),
    ("RobustQMIX", "macn", {"td_lambda": 0.8}),
    ("RobustQMIX", "macn", {"target": "contamination", "dual_bounds": [-100, 0]}),
    ("RobustQMIX", "macn", {"dual_bounds": [0, -100]}),
    ("RobustVDN", "macn", {"env_config": {"state": "none"}}),
    ("QMIX", "macn", {"burn_in": 7}),
    ("QMIX", "macn", {"sequence_length": 1, "burn_in": 7, "recurrent": False}),
    ("QMIX", "macn", {"acting_window": 8, "recurrent": False}),
    ("QMIX", "macn", {"target_window": "shifted"}),
    ("QMIX", "macn", {"window_padding": "zeros"}),
    ("QMIX", "macn", {"env_variants": ["windy"]}),
    ("QMIX", "macn", {"env_variants": [{"width": 7}, {"wind_probability": 0.1}]}),
    ("MACQR", "macn", {"dataset": "walks", "num_env_runners": 2}),
    ("MACQR", "macn", {"dataset": "walks", "env_variants": [{"width": 4}]}),
    (
        "MACQR",
        "macn",
        {"dataset": "walks", "update_interval_env_steps": 2},
    ),
    ("PQN", "macn", {"buffer_size_episodes": 100}),
    ("PQN", "macn", {"update_interval_env_steps": 2}),
    ("PQN", "macn", {"batch_size_episodes": 64, "learning_starts_episodes": 64}),
    ("PQN", "macn", {"dataset": "walks"}),
    ("QMIX", "macn", {"update_interval_env_steps": 2, "num_env_runners": 2}),
    ("QMIX", "macn", {"update_interval_env_steps": 2, "updates_per_episode": 9.0}),
    ("MACQR", "macn", {"dataset_holdout": 0.1}),
    ("MACQR", "macn", {"dataset": "walks", "off_policy_interval": 1}),
    (
        "QMIX",
        "macn",
        {
            "dataset": "walks",
            "target_update_tau": 0.005,
            "objective": "static",
            "dataset_holdout": 0.1,
            "off_policy_interval": 1,
        },
    ),
    ("QMIX", "macn", {"dataset": "walks"}),
    ("MACQR", "macn", {"preset": "bc"}),
    ("MACQR", "macn", {"dataset": "walks", "loss": "bc", "conservative_weight": None}),
    ("MACQR", "macn", {"dataset": "walks", "preset": "bc", "conservative_weight": 1.0}),
    ("MACQR", "macn", {"dataset": "walks", "preset": "bc", "td_lambda": 0.5}),
    ("OfflineBaselines", "macn", {"preset": "maicq"}),
    *(
        ("OfflineBaselines", "macn", {"dataset": "walks", "preset": "maicq", **keys})
        for keys in (
            {"mixer": "vdn"},
            {"joint_critic": "none"},
            {"conservative_weight": 1.0},
            {"target": "contamination"},
            {"sequence_length": 1},
            {"loss": "td"},
        )
    ),
)

# Meaning of RLlib's own keys in the algorithms of this package.
RLLIB_KEYS: dict[str, str] = {
    "gamma": "Discount, in [0, 1].",
    "lr": (
        "Learning rate of the TD loss (COMA, DOP, MAPPO, IPPO: of the actor), above 0;"
        " a number, or points [[env_steps, value], ...]."
    ),
    "grad_clip": (
        "Limit of the gradient's L2 norm over all parameters; one limit per agent if"
        " independent agents do not share parameters; null: no limit."
    ),
    "seed": "Random seed of the whole run; null: draw a seed and report it.",
    "num_env_runners": "Number of remote sampling processes; 0: sample in the trial's"
    " own process.",
    "num_envs_per_env_runner": "Number of environments that one runner steps together.",
    "num_cpus_per_env_runner": "Number of CPUs that Ray reserves per runner.",
    "num_gpus": "Number of GPUs for learning; 0: learn on the CPU.",
    "num_learners": (
        "Number of processes that share each batch, the trial's own process included;"
        " 0 or 1: the trial's own process alone. See [scaling](scaling.md)."
    ),
    "num_gpus_per_learner": (
        "Number of GPUs of each learner beside the trial's own process; must equal"
        " `num_gpus`."
    ),
    "num_cpus_per_learner": (
        "Number of CPUs that Ray reserves for each learner beside the trial's own"
        " process; auto: 1, or 0 with a GPU."
    ),
    "min_sample_timesteps_per_iteration": "Minimum number of env steps per iteration.",
    "evaluation_interval": "Number of iterations between evaluations; null: none.",
    "evaluation_duration": "Exact number of greedy episodes per evaluation.",
    "evaluation_num_env_runners": "Number of remote processes for evaluation; 0:"
    " evaluate in the trial's own process.",
    "restart_failed_env_runners": "Whether to replace a lost runner.",
    "env_runner_restore_timeout_s": "Seconds to wait for a runner if all are lost.",
}

_OF_EVALUATION = "of the greedy returns"
METRICS: dict[str, str] = {
    "num_env_steps_sampled_lifetime": "Number of env steps sampled so far.",
    "num_episodes_lifetime": "Number of episodes sampled so far.",
    "num_updates_lifetime": "Number of gradient steps so far.",
    "dataset_passes": "Env steps learned from, divided by the size of the dataset.",
    "epsilon": "Present exploration rate.",
    "env_steps_per_s": "Env steps per second of sampling and learning.",
    "env_runners/episode_return_mean": "Mean return of training episodes, with"
    " exploration.",
    "evaluation/episodes": "Number of greedy episodes in this evaluation.",
    "evaluation/return_mean": f"Mean {_OF_EVALUATION}.",
    "evaluation/return_median": f"Median {_OF_EVALUATION}.",
    "evaluation/return_min": f"Smallest {_OF_EVALUATION}.",
    "evaluation/return_max": f"Largest {_OF_EVALUATION}.",
    "evaluation/return_q25": f"Lower quartile {_OF_EVALUATION}.",
    "evaluation/return_q75": f"Upper quartile {_OF_EVALUATION}.",
    "evaluation/return_cvar_10": "Mean of the lowest tenth of the greedy returns; the"
    " number of episodes is rounded up, to 4 of 32.",
    "evaluation/return_std": f"Standard deviation {_OF_EVALUATION}, with divisor"
    " episodes - 1; NaN for one episode.",
    "evaluation/success_rate": "Share of episodes whose last info has a true"
    " `is_success`; NaN if the environment does not report it.",
    "evaluation/episode_len_mean": "Mean length of an episode in env steps.",
    "evaluation/risk_level_mean": "Mean risk level over steps and agents; 1 if the team"
    " is risk-neutral.",
    "evaluation/alpha": "Risk level of the evaluation (objective static).",
    "evaluation/threshold": "Threshold chosen for that risk level (objective static).",
    "evaluation/return_cvar_alpha": "CVaR of the greedy returns at that risk level"
    " (objective static).",
    "evaluation/num_env_crashes": "Number of episodes of this evaluation that crashed"
    " and were played again with another seed.",
    "evaluation/env_runners/episode_return_mean": "Same as `evaluation/return_mean`,"
    " for tools that expect RLlib's name.",
}
_ON_DATA = {
    "loss": "Loss that updates minimize",
    "td_error_abs": "Mean absolute TD error (not with loss bc)",
    "conservative_penalty": "Conservative penalty without its weight",
    "ood_gap": "Value of the greedy action minus value of the data's action, mean over"
    " agents",
    "data_agreement": "Share of the data's actions that are greedy",
    "start_value_mean": "Estimated return from the first state, mean over episodes",
    "start_value_cvar_10": "Mean of the lowest tenth of these estimates: over atoms"
    " with loss quantile, otherwise over episodes",
}
_OF_GROUP = {
    "data": "on up to 100 training episodes",
    "holdout": "on held-out episodes",
}
METRICS |= {
    f"{group}/{name}": f"{text}, {where}."
    for group, where in _OF_GROUP.items()
    for name, text in _ON_DATA.items()
}
METRICS |= {
    "off_policy/return_mean": "Estimated mean return of the greedy team, by fitted Q"
    " evaluation on held-out episodes (off_policy_interval).",
    "off_policy/return_mean_low": "Lower end of its 95 % interval.",
    "off_policy/return_mean_high": "Upper end of its 95 % interval.",
    "off_policy/return_cvar_10": "Estimated mean of the lowest tenth of returns.",
    "off_policy/log_return_mean": "Mean return of these episodes as they were played.",
    "off_policy/td_error": "Held-out squared TD error of the estimate's fit, over the"
    " variance of its targets.",
    "off_policy/estimates_since_best": "Estimates since the highest one; a stop"
    " criterion.",
}


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Formats a Markdown table."""
    names = list(header)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    # A bar inside a cell would start a new cell.
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def code(value: Any) -> str:
    """Formats a value as in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`" if value != "" else "empty"


def accepts(field: Field) -> str:
    """Describes the values that a key accepts: choices, or type and range."""
    if field.choices is not None:
        text = ", ".join(f"`{choice}`" for choice in field.choices)
        text += ", `pkg.module:Class`" if field.import_path else ""
    else:
        names = {int: "whole number", float: "number", bool: "true, false"}
        names |= {str: "text", list: "list", dict: "mapping"}
        text = " or ".join(names[kind] for kind in field.types)
        if field.low is not None and field.high is not None:
            text += f" in {field.interval}"
        elif field.low is not None:
            text += f", {'above' if field.low_open else 'at least'} {field.low:g}"
    return text + (", or null" if field.optional else "")


def parts(group: str) -> str:
    """Returns a table of the keys of some slots and of their parts."""
    slots = [VALUE_PARTS.slots[name] for name in PART_GROUPS[group]]
    fields: dict[str, Field] = {}
    owners: dict[str, list[str]] = {}
    for slot in slots:
        fields |= {slot.key: slot.field, **slot.keys}
        for key in slot.keys:
            names = slot.owners(key)
            # A key that all parts of a slot have belongs to the slot.
            whole = len(names) == len(slot.builtin)
            text = slot.key if whole else f"{slot.key}: {', '.join(names)}"
            owners.setdefault(key, []).append(f"`{text}`")
    if group == "composition":
        fields = fields_of(NetworkOptions) | fields
        fields = {key: f for key, f in fields.items() if key not in TEAM_FIELDS}
    if group == "learning":
        for part in VALUE_PARTS.common:
            fields |= fields_of(part.Options)
    return markdown(
        ("key", "belongs to", "default", "accepts", "unit", "meaning"),
        (
            (
                f"`{key}`",
                "; ".join(owners.get(key, ["all"])),
                code(f.default),
                accepts(f),
                f.unit or "-",
                f.doc,
            )
            for key, f in fields.items()
        ),
    )


def keys(group: str) -> str:
    """Returns a table of all keys of a group, with their declarations."""
    return markdown(
        ("key", "default", "accepts", "unit", "meaning"),
        (
            (f"`{key}`", code(f.default), accepts(f), f.unit or "-", f.doc)
            for key, f in GROUPS[group].items()
        ),
    )


def switches(algorithm: str, *names: str) -> str:
    """Returns a table of some keys with the defaults of one algorithm."""
    fields = config_class(algorithm).fields()
    return markdown(
        ("key", "default", "meaning"),
        ((f"`{n}`", code(fields[n].default), fields[n].doc) for n in names),
    )


def family(kind: str) -> list[str]:
    """Returns the algorithms of a kind, in the order of the registry."""
    return [n for n in ALGORITHMS if issubclass(config_class(n), FAMILIES[kind])]


def all_defaults(config: type[TeamConfig]) -> dict[str, str]:
    """Returns the default of every key of a configuration class, with RLlib's keys."""
    values = {key: field.default for key, field in config.fields().items()}
    made = config()
    values |= {key: getattr(made, key) for key in RLLIB_KEYS}
    values.pop("preset", None)
    return {key: code(value) for key, value in values.items()}


def defaults(kind: str) -> str:
    """Returns a table of defaults that differ from those of value-based algorithms.

    A dash means that an algorithm does not have the key. Keys that only one value-based
    algorithm has are in another table.
    """
    general = all_defaults(ValueConfig)
    own = {name: all_defaults(config_class(name)) for name in family(kind)}
    keys = dict.fromkeys(key for values in own.values() for key in values)
    if kind == "value":
        keys = {key: None for key in keys if key in general}
    return markdown(
        ("key", "in general", *own),
        (
            (
                f"`{key}`",
                general.get(key, "-"),
                *(values.get(key, "-") for values in own.values()),
            )
            for key in keys
            if {values.get(key) for values in own.values()} != {general.get(key)}
        ),
    )


def composition() -> str:
    """Returns a table of value-based algorithms with the parts that they change."""
    known = fields_of(NetworkOptions) | VALUE_PARTS.fields()
    rows = []
    for name in family("value"):
        changed = config_class(name).overrides.items()
        chosen = {k: v for k, v in changed if k in known}
        page = ALGORITHMS[name].rpartition(".")[2]
        text = "; ".join(f"`{key}: {value}`" for key, value in chosen.items())
        rows.append((f"[{name}](algorithms/{page}.md)", text))
    return markdown(("name", "parts"), rows)


def refused() -> str:
    """Returns a table of refused compositions with the error messages."""
    rows = []
    for algorithm, env_name, keys in REFUSED:
        config = config_class(algorithm)().environment(env_name).update_from_dict(keys)
        try:
            config.validate()
            config.preflight()
        except ConfigError as error:
            text = ", ".join(f"{k}: {_flow(v)}" for k, v in keys.items())
            rows.append((f"`run: {algorithm}, {text}`", str(error)))
        else:
            raise AssertionError(f"{algorithm} with {keys} is not refused.")
    return markdown(("written", "refused with"), rows)


def _flow(value: Any) -> str:
    """Formats a value for a line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return code(value).strip("`")


def preset(algorithm: str, name: str) -> str:
    """Returns a table of a preset's values and the algorithm's defaults."""
    config = config_class(algorithm)
    usual = all_defaults(config)
    return markdown(
        ("key", "default", f"`preset: {name}`"),
        (
            (f"`{key}`", usual[key], code(value))
            for key, value in config.presets[name].items()
        ),
    )


def rllib_keys() -> str:
    """Returns a table of the keys of RLlib that have an effect."""
    config = ValueConfig()
    return markdown(
        ("key", "default", "meaning here"),
        ((f"`{k}`", code(getattr(config, k)), text) for k, text in RLLIB_KEYS.items()),
    )


def unused() -> str:
    """Returns a table of refused keys of RLlib, grouped by what to use instead."""
    return markdown(("keys", "instead"), grouped(UNUSED_KEYS))


def irrelevant() -> str:
    """Returns a table of attributes of RLlib without effect, grouped by the reason."""
    names = {key_of(name): text for name, text in IRRELEVANT.items()}
    return markdown(("attributes", "belong to"), grouped(names))


def grouped(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns the rows of a table: all names with the same text, and the text."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(f"`{name}`")
    return [(", ".join(group), text) for text, group in names.items()]


def samplers() -> str:
    """Returns a table of Tune's samplers in YAML."""
    lists = [
        ("`{grid_search: [a, b, c]}`", "every value, once per sample"),
        ("`{choice: [a, b, c]}`", "one of the values at random"),
    ]
    rows = [
        (f"`{{{name}: [{', '.join(args)}]}}`", "whole numbers" if whole else "numbers")
        for name, (args, whole) in SAMPLERS.items()
    ]
    return markdown(("written", "gives"), lists + rows)


def components() -> str:
    """Returns a table of schedulers and searchers by name."""
    rows = []
    searchers = {name: entry.class_path for name, entry in SEARCHERS.items()}
    for kind, known in (("scheduler", SCHEDULERS), ("search_alg", searchers)):
        for path in dict.fromkeys(known.values()):
            names = ", ".join(f"`{name}`" for name in known if known[name] == path)
            rows.append((f"`{kind}`", names, f"`{path.replace(':', '.')}`"))
    return markdown(("key", "names", "class of Ray Tune"), rows)


def metrics() -> str:
    """Returns a table of the metrics that a run reports."""
    return markdown(
        ("result", "meaning"), ((f"`{name}`", METRICS[name]) for name in TEAM_METRICS)
    )


def documented(thing: Any, heading: str) -> dict[str, str]:
    """Returns the descriptions under a heading such as "Args" of a Google docstring."""
    text = inspect.getdoc(thing) or ""
    section = re.search(rf"^{heading}:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    found: dict[str, str] = {}
    for line in textwrap.dedent(section.group(1)).splitlines() if section else []:
        begin = re.match(r"(\w+): (.*)", line)
        if begin:
            found[begin.group(1)] = begin.group(2)
        elif line.strip():
            name = list(found)[-1]
            found[name] = f"{found[name]} {line.strip()}"
    return found


def arguments(function: Callable[..., Any], only: Mapping[str, Any] | None) -> str:
    """Returns a table of the keyword arguments of a function, from its docstring."""
    texts = documented(function, "Args")
    for name, text in texts.items():
        other = re.fullmatch(r"See `(\w+)`\.", text)
        if other:  # a class in the same module has an attribute of that name
            described = vars(inspect.getmodule(function))[other[1]]
            texts[name] = documented(described, "Attributes")[name]
    return markdown(
        ("key", "default", "meaning"),
        (
            (f"`{name}`", code(parameter.default), texts[name])
            for name, parameter in inspect.signature(function).parameters.items()
            if name != "self" and (only is None or name in only)
        ),
    )


def env(name: str) -> str:
    """Returns a table of the arguments of an environment."""
    factory: Any = import_factory(ENVS[name].factory)
    return arguments(factory.__init__, None)


def options(*command: str) -> str:
    """Returns a table of the arguments and options of a command."""
    node: Any = typer.main.get_command(app)
    for word in command[1:]:
        node = node.commands[word]
    rows = []
    for parameter in node.params:
        if parameter.name == "help":
            continue
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        else:
            names = ", ".join(
                f"`{n}`" for n in (*parameter.opts, *parameter.secondary_opts)
            )
        default = "required" if parameter.required else "-"
        if parameter.default not in (None, False, 0) and not parameter.required:
            default = code(parameter.default)
        rows.append((names, default, parameter.help or ""))
    return markdown(("argument or option", "default", "meaning"), rows)


TABLES: dict[str, Callable[..., str]] = {
    "keys": keys,
    "parts": parts,
    "switches": switches,
    "defaults": defaults,
    "composition": composition,
    "refused": refused,
    "preset": preset,
    "rllib-keys": rllib_keys,
    "unused": unused,
    "irrelevant": irrelevant,
    "samplers": samplers,
    "components": components,
    "metrics": metrics,
    "env": env,
    "adapter": lambda: arguments(TeamEnv.__init__, ADAPTER_DEFAULTS),
    "options": options,
}


def fill(page: str) -> str:
    """Updates every table of a page.

    Args:
        page: The page in Markdown.

    Returns:
        The page with up-to-date tables.
    """

    def table(match: re.Match[str]) -> str:
        kind, *words = match["what"].split()
        # Some Markdown readers need blank lines around a table.
        return f"{match['begin']}\n{TABLES[kind](*words)}\n{match['end']}"

    return _TABLE.sub(table, page)


def pages() -> list[Path]:
    """Returns the paths of README and of all pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    """Updates the tables of all pages in place."""
    for path in pages():
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"Wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
