"""Shipped files of objectives: the trained teams play the optimum, or nearly."""

import pytest

from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.preflight import build_config
from rllib_risk.config.loading import examples_root, parse_document, read_training_file
from rllib_risk.env_wrappers.game_tables import tables_of
from rllib_risk.evaluation.frontier_runs import team_risk

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.long]
ATOMS = {"loss": "quantile", "num_atoms": 32, "sort_atoms": True}


def trained(file, number, level, **keys):
    """Trains an experiment of a shipped file to its end; returns the exact values."""
    path = examples_root() / "risk" / file
    spec = parse_document(read_training_file(path), RLlibCatalog())[number]
    config = build_config(spec, spec.config | keys)
    algorithm = config.build_algo()
    while algorithm.env_steps < spec.stop["num_env_steps_sampled_lifetime"]:
        algorithm.train()
    tables = tables_of(config.env, config.env_config)
    names = {"label": file, "source": str(path)}
    team = team_risk(algorithm, tables, [level], episodes=1000, seed=0, **names)
    algorithm.stop()
    return team


# Mean, CVaR at .5 and nested CVaR at .5 of the optimum, from docs/risk.md.
@pytest.mark.parametrize(
    ("objective", "keys", "mean", "cvar", "nested"),
    [
        ("mean", {}, 8.80, 2.12, -0.40),  # A, then G
        ("static", {}, 7.72, 3.56, -0.12),  # A, then G after 0 and M after 9
        ("nested", {}, 4.60, 2.20, 2.20),  # B, then M
        ("nested", ATOMS, 4.60, 2.20, 2.20),
    ],
)
def test_the_trained_team_plays_the_exact_optimum(objective, keys, mean, cvar, nested):
    team = trained(f"two-step-{objective}.yaml", 0, 0.5, **keys)
    assert team.mean[0].value == pytest.approx(mean)
    assert team.cvar[0].value == pytest.approx(cvar)
    assert team.nested[0].value == pytest.approx(nested)


# Level, and exact nested CVaR of the best team and of the team with the best mean.
@pytest.mark.parametrize(
    ("number", "level", "best", "of_the_mean"),
    [(0, 0.25, -9.2022, -10.7188), (1, 0.1, -9.6662, -14.1816)],
)
def test_nested_from_atoms_covers_nine_tenths_of_the_gap(
    number, level, best, of_the_mean
):
    team = trained("macn-nested.yaml", number, level)
    covered = (team.nested[0].value - of_the_mean) / (best - of_the_mean)
    assert 0.9 < covered < 1.001
