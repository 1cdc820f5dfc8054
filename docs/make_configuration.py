"""Writes the tables of the documentation from the code that they describe.

A table stands between two comments, and everything else on a page is left alone::

    <!-- table: keys network -->
    ...
    <!-- end of table -->

Run: ``python docs/make_configuration.py``. A test fails while a table is out of date.
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
    # What these algorithms have beside the shared keys, or declare in another way.
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

# The two kinds of algorithms, and the class that is behind the configurations of each.
FAMILIES: dict[str, type[TeamConfig]] = {
    "value": ValueConfig,
    "actor-critic": ActorCriticConfig,
}

# One composition for every reason to refuse one: algorithm, environment and keys.
REFUSED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("QMIX", "macn", {"objective": "markov"}),
    ("MACQR", "macn", {"objective": "markov"}),
    ("RobustVDN", "macn", {"objective": "nested"}),
    ("QMIX", "macn", {"objective": "nested", "td_lambda": 0.6}),
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
    ("MACQR", "macn", {"dataset": "walks", "replay": "rllib_risk.parts.replay:Replay"}),
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

# RLlib's own keys that these algorithms read, and what they mean here.
RLLIB_KEYS: dict[str, str] = {
    "gamma": "Discount, in [0, 1].",
    "lr": (
        "Learning rate of the TD loss (COMA, DOP, MAPPO, IPPO: of the actor), above 0;"
        " a number, or points [[env_steps, value], ...]."
    ),
    "grad_clip": (
        "Limit of the gradient's L2 norm over all parameters; independent agents with"
        " networks of their own have one each; null: none."
    ),
    "seed": "Seed of everything; null draws one and reports it.",
    "num_env_runners": "Remote sampling processes; 0 samples in the trial's own.",
    "num_envs_per_env_runner": "Environments that one runner steps together.",
    "num_cpus_per_env_runner": "CPUs that Ray reserves for a runner.",
    "num_gpus": "GPUs for learning; 0 learns on the CPU.",
    "min_sample_timesteps_per_iteration": "Env steps of one iteration, at least.",
    "evaluation_interval": "Iterations between evaluations; null: none.",
    "evaluation_duration": "Greedy episodes of an evaluation, exactly this number.",
    "evaluation_num_env_runners": "Remote processes that play them; 0: none.",
    "restart_failed_env_runners": "Whether a lost runner is replaced.",
    "env_runner_restore_timeout_s": "Seconds to wait if all runners are lost.",
}

_OF_EVALUATION = "of the greedy returns"
METRICS: dict[str, str] = {
    "num_env_steps_sampled_lifetime": "Env steps sampled so far.",
    "num_episodes_lifetime": "Episodes sampled so far.",
    "num_updates_lifetime": "Gradient steps so far.",
    "dataset_passes": "Env steps learned from, over those of the dataset.",
    "epsilon": "Exploration rate now.",
    "env_steps_per_s": "Env steps per second of sampling and learning.",
    "env_runners/episode_return_mean": "Mean return while exploring.",
    "evaluation/episodes": "Greedy episodes of this evaluation.",
    "evaluation/return_mean": f"Mean {_OF_EVALUATION}.",
    "evaluation/return_median": f"Median {_OF_EVALUATION}.",
    "evaluation/return_min": f"Smallest {_OF_EVALUATION}.",
    "evaluation/return_max": f"Largest {_OF_EVALUATION}.",
    "evaluation/return_q25": f"Lower quartile {_OF_EVALUATION}.",
    "evaluation/return_q75": f"Upper quartile {_OF_EVALUATION}.",
    "evaluation/return_cvar_10": "Mean of the lowest tenth, rounded up: 4 of 32.",
    "evaluation/return_std": f"Standard deviation {_OF_EVALUATION}, with divisor"
    " episodes - 1; NaN for one episode.",
    "evaluation/success_rate": "Share of episodes whose last info has a true"
    " `is_success`; NaN where the environment reports none.",
    "evaluation/episode_len_mean": "Mean length in env steps.",
    "evaluation/risk_level_mean": "Mean risk level over steps and agents; 1 for the"
    " mean.",
    "evaluation/alpha": "Level that the evaluation is for (objective static).",
    "evaluation/threshold": "Threshold that was chosen for it (objective static).",
    "evaluation/return_cvar_alpha": "CVaR of the greedy returns at that level"
    " (objective static).",
    "evaluation/env_runners/episode_return_mean": "The same as"
    " `evaluation/return_mean`, where tools made for RLlib look.",
}
_ON_DATA = {
    "loss": "What an update minimizes",
    "td_error_abs": "Mean size of the TD error (not with loss bc)",
    "conservative_penalty": "The conservative penalty without its weight",
    "ood_gap": "Value of the best action minus that of the data's action, mean over"
    " agents",
    "data_agreement": "Share of the data's actions that are greedy",
    "start_value_mean": "Estimated return from the first state, mean over episodes",
    "start_value_cvar_10": "Mean of the lowest tenth of these estimates: of atoms with"
    " loss quantile, else of episodes",
}
_OF_GROUP = {
    "data": "on up to 100 episodes that are learned from",
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
    """A Markdown table."""
    names = list(header)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    # A bar inside a cell would start a new one.
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def code(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`" if value != "" else "empty"


def accepts(field: Field) -> str:
    """What a key accepts, in words: choices, or kind and range."""
    if field.choices is not None:
        text = ", ".join(f"`{choice}`" for choice in field.choices)
        text += ", `pkg.module:Class`" if field.import_path else ""
    else:
        names = {int: "whole number", float: "number", bool: "true, false"}
        names |= {str: "text", list: "list", dict: "mapping"}
        text = " or ".join(names[kind] for kind in field.types)
        if field.low is not None and field.high is not None:
            bracket = "(" if field.low_open else "["
            text += f" in {bracket}{field.low:g}, {field.high:g}]"
        elif field.low is not None:
            text += f", {'above' if field.low_open else 'at least'} {field.low:g}"
    return text + (", or null" if field.optional else "")


def parts(group: str) -> str:
    """The keys of some slots and of their parts, with the parts that they belong to."""
    slots = [VALUE_PARTS.slots[name] for name in PART_GROUPS[group]]
    fields: dict[str, Field] = {}
    owners: dict[str, list[str]] = {}
    for slot in slots:
        fields |= {slot.key: slot.field, **slot.keys}
        for key in slot.keys:
            names = slot.owners(key)
            # What all of them have, a key names by its slot.
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
    """All keys of a group, with everything that is declared of them."""
    return markdown(
        ("key", "default", "accepts", "unit", "meaning"),
        (
            (f"`{key}`", code(f.default), accepts(f), f.unit or "-", f.doc)
            for key, f in GROUPS[group].items()
        ),
    )


def switches(algorithm: str, *names: str) -> str:
    """Some keys with the defaults of one algorithm."""
    fields = config_class(algorithm).fields()
    return markdown(
        ("key", "default", "meaning"),
        ((f"`{n}`", code(fields[n].default), fields[n].doc) for n in names),
    )


def family(kind: str) -> list[str]:
    """The algorithms of a kind, in the order of the registry."""
    return [n for n in ALGORITHMS if issubclass(config_class(n), FAMILIES[kind])]


def all_defaults(config: type[TeamConfig]) -> dict[str, str]:
    """Every key of a configuration class with its default, RLlib's keys included."""
    values = {key: field.default for key, field in config.fields().items()}
    made = config()
    values |= {key: getattr(made, key) for key in RLLIB_KEYS}
    values.pop("preset", None)
    return {key: code(value) for key, value in values.items()}


def defaults(kind: str) -> str:
    """Where an algorithm's default differs from that of value-based ones in general.

    A dash stands where there is no such key. What a single value-based algorithm has
    beside the others is in a table of its own.
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
    """The algorithms as choices of parts; what is as in general is left out."""
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
    """Compositions that make no sense, with the messages that they are refused with."""
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
    """A value inside a line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return code(value).strip("`")


def preset(algorithm: str, name: str) -> str:
    """The values of a preset beside the algorithm's defaults."""
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
    """Keys of RLlib that matter, with this package's defaults."""
    config = ValueConfig()
    return markdown(
        ("key", "default", "meaning here"),
        ((f"`{k}`", code(getattr(config, k)), text) for k, text in RLLIB_KEYS.items()),
    )


def unused() -> str:
    """Keys of RLlib that are refused, by what to use instead."""
    return markdown(("keys", "instead"), grouped(UNUSED_KEYS))


def irrelevant() -> str:
    """Attributes of RLlib's configuration that do not matter, by the reason."""
    names = {key_of(name): text for name, text in IRRELEVANT.items()}
    return markdown(("attributes", "belong to"), grouped(names))


def grouped(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Rows of a table: all names that have the same text, and the text."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(f"`{name}`")
    return [(", ".join(group), text) for text, group in names.items()]


def samplers() -> str:
    """Tune's samplers in YAML."""
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
    """Schedulers and searchers by name."""
    rows = []
    searchers = {name: entry.class_path for name, entry in SEARCHERS.items()}
    for kind, known in (("scheduler", SCHEDULERS), ("search_alg", searchers)):
        for path in dict.fromkeys(known.values()):
            names = ", ".join(f"`{name}`" for name in known if known[name] == path)
            rows.append((f"`{kind}`", names, f"`{path.replace(':', '.')}`"))
    return markdown(("key", "names", "class of Ray Tune"), rows)


def metrics() -> str:
    """Results that may be stopped on, scored or compared by."""
    return markdown(
        ("result", "meaning"), ((f"`{name}`", METRICS[name]) for name in TEAM_METRICS)
    )


def documented(thing: Any, heading: str) -> dict[str, str]:
    """What a Google docstring says of each name under a heading such as "Args"."""
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
    """Keyword arguments of an initializer, as its docstring describes them."""
    texts = documented(function, "Args")
    for name, text in texts.items():
        other = re.fullmatch(r"See `(\w+)`\.", text)
        if other:  # a class beside it has an attribute of that name
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
    """Arguments of an environment."""
    factory: Any = import_factory(ENVS[name].factory)
    return arguments(factory.__init__, None)


def options(*command: str) -> str:
    """Arguments and options of a command."""
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
    """Writes every table of a page.

    Args:
        page: Markdown.

    Returns:
        The page with up-to-date tables.
    """

    def table(match: re.Match[str]) -> str:
        kind, *words = match["what"].split()
        # Blank lines, so that every Markdown reader sees a table.
        return f"{match['begin']}\n{TABLES[kind](*words)}\n{match['end']}"

    return _TABLE.sub(table, page)


def pages() -> list[Path]:
    """README and every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    """Fills the tables of all pages in place."""
    for path in pages():
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"Wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
