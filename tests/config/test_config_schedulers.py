"""Schedulers and searchers by name."""

import pytest
from ray.tune import schedulers
from ray.tune.search.basic_variant import BasicVariantGenerator

from rllib_risk.config.schedulers import (
    ClipToBounds,
    parse_scheduler,
)
from rllib_risk.config.schema import ConfigError, Field
from rllib_risk.config.searchers import parse_searcher

METRIC = "evaluation/return_mean"
FIELDS = {
    "lr": Field(1e-3, "", float, low=0.0, low_open=True),
    "gamma": Field(0.99, "", float, low=0.0, high=1.0),
}


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("FIFO", None, schedulers.FIFOScheduler),
        ("ASHA", {"max_t": 50, "grace_period": 5}, schedulers.ASHAScheduler),
        ("async_hyperband", {}, schedulers.ASHAScheduler),
        ("HyperBand", {"max_t": 9}, schedulers.HyperBandScheduler),
        ("median_stopping", {"grace_period": 3}, schedulers.MedianStoppingRule),
        (
            "PBT",
            {"hyperparam_mutations": {"lr": {"loguniform": [1e-4, 1e-2]}}},
            schedulers.PopulationBasedTraining,
        ),
    ],
)
def test_schedulers_by_name(name: str, arguments: dict, kind: type) -> None:
    scheduler = parse_scheduler(name, arguments, FIELDS).build(METRIC, "max")
    assert isinstance(scheduler, kind)
    if kind is not schedulers.FIFOScheduler:
        assert scheduler.metric == METRIC


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ASAH", {}, "unknown name 'ASAH'. Did you mean 'asha'"),
        ("ASHA", {"grace_peroid": 1}, "unknown argument 'grace_peroid'. Did you mean"),
        ("ASHA", {"max_t": "ten"}, "max_t: must be a whole number"),
        ("ASHA", {"mode": "most"}, "must be min or max"),
        ("ASHA", [1], "must be a mapping"),
        ("ASHA", {"hyperparam_mutations": {}}, "only pbt has it"),
        ("PBT", {}, "'hyperparam_mutations' is missing"),
        ("PBT", {"hyperparam_mutations": {"lrr": [1]}}, "lrr: unknown key"),
        ("PBT", {"hyperparam_mutations": {"lr": [0.1, -1]}}, "lr: must be in"),
        ("PBT", {"hyperparam_mutations": {"lr": 0.1}}, "list of values or a sampler"),
        (
            "PBT",
            {"hyperparam_mutations": {"lr": {"grid_search": [0.1]}}},
            "cannot run a grid",
        ),
        ("PBT", {"custom_explore_fn": "os.system"}, "unknown argument"),
    ],
)
def test_wrong_schedulers_are_refused(name: str, arguments: dict, message: str) -> None:
    """R32: a misspelt argument of a scheduler."""
    with pytest.raises(ConfigError, match=message):
        parse_scheduler(name, arguments, FIELDS)


def test_combinations_that_the_class_refuses_name_the_scheduler() -> None:
    asha = parse_scheduler("ASHA", {"max_t": 2, "grace_period": 5})
    with pytest.raises(ConfigError, match=r"ASHA: grace_period must be <= max_t"):
        asha.build(METRIC, "max")


def test_pbt_values_stay_inside_their_ranges() -> None:
    mutations = {
        "gamma": {"uniform": [0.9, 0.999]},
        "lr": {"normal": [0.1, 1.0]},
        "env_config": {"noise": {"uniform": [0, 2]}},
    }
    fields = {**FIELDS, "env_config": Field({}, "", dict)}
    component = parse_scheduler("pbt", {"hyperparam_mutations": mutations}, fields)
    clip = ClipToBounds(component.bounds)
    # PBT's factor 1.2 changes gamma from 0.99 to 1.188, and noise from 1.8 to 2.16.
    config = {"gamma": 1.188, "lr": 0.5, "env_config": {"noise": 2.16}, "seed": 1}
    assert clip(config) == {
        "gamma": 0.999,
        "lr": 0.5,
        "env_config": {"noise": 2},
        "seed": 1,
    }


def test_searchers_by_name() -> None:
    searcher = parse_searcher("random", {"random_state": 3}).build(METRIC, "max")
    assert isinstance(searcher, BasicVariantGenerator)
    with pytest.raises(ConfigError, match="unknown argument 'random_stat'"):
        parse_searcher("random", {"random_stat": 3})
