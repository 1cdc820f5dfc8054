"""The keys of an experiment in a training file, those of the algorithm excepted."""

from __future__ import annotations

from rllib_risk.config.schema import MOST_EPISODES, Field

EXTENDS = "extends"
WITHOUT = "without"

# How an experiment takes over values; see inheritance.py.
INHERITANCE_FIELDS: dict[str, Field] = {
    EXTENDS: Field(
        None,
        "File whose experiment this one goes on from, as FILE or FILE:EXPERIMENT.",
        str,
    ),
    WITHOUT: Field(
        [],
        "What is not taken over: keys of `config`, or paths such as `stop` and"
        " `env_config.width`.",
        list,
    ),
}
CHECKPOINT_FIELDS: dict[str, Field] = {
    "checkpoint_frequency": Field(
        0, "Iterations between two checkpoints; 0: none.", int, low=0
    ),
    "checkpoint_at_end": Field(True, "A checkpoint when the run ends.", bool),
    "num_to_keep": Field(
        None, "Number of best checkpoints to keep.", int, low=1, optional=True
    ),
    "checkpoint_score_attribute": Field(
        None, "The result that says which are best.", str, optional=True
    ),
    "checkpoint_score_order": Field(
        "max", "Whether more is better.", str, choices=("max", "min")
    ),
}
# The spelling of the old command line, which is also accepted in files.
OLD_CHECKPOINT_KEYS: dict[str, str] = {
    "checkpoint_freq": "checkpoint_frequency",
    "checkpoint_at_end": "checkpoint_at_end",
    "keep_checkpoints_num": "num_to_keep",
    "checkpoint_score_attr": "checkpoint_score_attribute",
}
EXPERIMENT_FIELDS: dict[str, Field] = {
    "run": Field(None, "Name of the algorithm.", str),
    "algorithm": Field(None, "Another word for `run`.", str),
    "env": Field(None, "Name of the environment.", str),
    "stop": Field({}, "Result: value at which a trial stops.", dict, optional=True),
    "config": Field({}, "The algorithm's configuration.", dict, optional=True),
    "num_samples": Field(
        1, "Times the search space is drawn from.", int, low=1, high=MOST_EPISODES
    ),
    "time_budget_s": Field(
        None,
        "Every trial saves a checkpoint after this time, and the experiment ends;"
        " `--resume` continues it.",
        float,
        low=0,
        low_open=True,
        unit="s",
    ),
    "resources_per_trial": Field(None, "Overrides RLlib's request.", dict),
    "storage_path": Field(None, "Folder for results.", str),
    "checkpoint_config": Field({}, "When to save and what to keep.", dict),
    **{old: CHECKPOINT_FIELDS[new] for old, new in OLD_CHECKPOINT_KEYS.items()},
    "max_failures": Field(0, "Restarts of a failed trial; -1: no limit.", int, low=-1),
    "restore": Field(None, "Checkpoint to start from.", str),
    "scheduler": Field(None, "Name of a Tune scheduler.", str),
    "scheduler_config": Field(None, "Its arguments.", dict),
    "search_alg": Field(None, "Name of a Tune searcher.", str),
    "search_alg_config": Field(None, "Its arguments.", dict),
    "max_concurrent_trials": Field(None, "Trials at the same time.", int, low=1),
    "imports": Field([], "Modules to import first (they register envs).", (list, str)),
}
REMOVED: dict[str, str] = {
    "local_dir": "write `storage_path`.",
    "upload_dir": "write `storage_path`.",
    "trial_resources": "write `resources_per_trial`.",
    "seeds": "write `seed: {grid_search: [0, 1, 2]}` inside `config`.",
}
