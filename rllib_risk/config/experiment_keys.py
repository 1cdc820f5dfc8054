"""Keys of an experiment in a training file, without the algorithm's own keys."""

from __future__ import annotations

from rllib_risk.config.schema import MAX_EPISODES, Field

EXTENDS = "extends"
WITHOUT = "without"

# Keys by which an experiment inherits values; see inheritance.py.
INHERITANCE_FIELDS: dict[str, Field] = {
    EXTENDS: Field(
        None,
        "Experiment of another file from which this one inherits, as FILE or"
        " FILE:EXPERIMENT.",
        str,
    ),
    WITHOUT: Field(
        [],
        "What is not inherited: keys of `config`, or paths such as `stop` and"
        " `env_config.width`.",
        list,
    ),
}
CHECKPOINT_FIELDS: dict[str, Field] = {
    "checkpoint_frequency": Field(
        0,
        "Number of iterations between checkpoints; 0: none before the end.",
        int,
        low=0,
    ),
    "checkpoint_at_end": Field(
        True, "Whether to save a checkpoint when a trial ends.", bool
    ),
    "num_to_keep": Field(
        None,
        "Number of best checkpoints to keep per trial; null: all.",
        int,
        low=1,
        optional=True,
    ),
    "checkpoint_score_attribute": Field(
        None, "Name of the result that ranks checkpoints.", str, optional=True
    ),
    "checkpoint_score_order": Field(
        "max", "`max`: higher is better; `min`: lower.", str, choices=("max", "min")
    ),
}
# Spellings of Ray's old command line, which files may also use.
OLD_CHECKPOINT_KEYS: dict[str, str] = {
    "checkpoint_freq": "checkpoint_frequency",
    "checkpoint_at_end": "checkpoint_at_end",
    "keep_checkpoints_num": "num_to_keep",
    "checkpoint_score_attr": "checkpoint_score_attribute",
}
# Values inside `stop` and `resources_per_trial`. Memory is in bytes, and no machine has
# more than the upper bound.
STOP_VALUE = Field(None, "Value at which a trial stops.", (int, float))
RESOURCE = Field(None, "Amount of a resource.", float, low=0, high=1e15)
EXPERIMENT_FIELDS: dict[str, Field] = {
    "run": Field(None, "Name of the algorithm.", str),
    "algorithm": Field(None, "Same as `run`.", str),
    "env": Field(None, "Name of the environment.", str),
    "stop": Field(
        {},
        "Stop criteria: result to the value at which a trial stops.",
        dict,
        optional=True,
    ),
    "config": Field({}, "The algorithm's configuration.", dict, optional=True),
    "num_samples": Field(
        1,
        "Number of times to sample the search space.",
        int,
        low=1,
        high=MAX_EPISODES,
    ),
    "time_budget_s": Field(
        None,
        "Time limit of the experiment. At the limit every trial saves a checkpoint;"
        " `--resume` continues the experiment.",
        float,
        low=0,
        low_open=True,
        unit="s",
    ),
    "resources_per_trial": Field(
        None, "Resources of each trial, instead of what RLlib requests.", dict
    ),
    "storage_path": Field(None, "Folder for results; null: ~/ray_results.", str),
    "checkpoint_config": Field(
        {}, "When to save checkpoints and which ones to keep.", dict
    ),
    **{old: CHECKPOINT_FIELDS[new] for old, new in OLD_CHECKPOINT_KEYS.items()},
    "max_failures": Field(
        0, "Maximum number of restarts of a failed trial; -1: no limit.", int, low=-1
    ),
    "restore": Field(None, "Folder of a checkpoint from which trials start.", str),
    "scheduler": Field(None, "Name of a Tune scheduler.", str),
    "scheduler_config": Field(None, "Arguments of the scheduler.", dict),
    "search_alg": Field(None, "Name of a Tune searcher.", str),
    "search_alg_config": Field(None, "Arguments of the searcher.", dict),
    "max_concurrent_trials": Field(
        None, "Maximum number of trials at the same time.", int, low=1
    ),
    "imports": Field(
        [], "Modules to import before the run; they register envs.", (list, str)
    ),
}
REMOVED: dict[str, str] = {
    "local_dir": "write `storage_path`.",
    "upload_dir": "write `storage_path`.",
    "trial_resources": "write `resources_per_trial`.",
    "seeds": "write `seed: {grid_search: [0, 1, 2]}` inside `config`.",
}
