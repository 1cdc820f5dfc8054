"""Shipped files of the risky two-step game: each objective plays its own optimum."""

import pytest

from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.preflight import build_config
from rllib_risk.config.loading import examples_root, parse_document, read_training_file
from rllib_risk.env_wrappers.game_tables import tables_of
from rllib_risk.evaluation.frontier_runs import team_risk

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.long]


# Mean, CVaR at .5 and nested CVaR at .5 of the optimum, from docs/risk.md.
@pytest.mark.parametrize(
    ("objective", "mean", "cvar", "nested"),
    [
        ("mean", 8.80, 2.12, -0.40),  # A, then G
        ("static", 7.72, 3.56, -0.12),  # A, then G after 0 and M after 9
        ("nested", 4.60, 2.20, 2.20),  # B, then M
    ],
)
def test_the_trained_team_plays_the_exact_optimum(objective, mean, cvar, nested):
    file = examples_root() / "risk" / f"two-step-{objective}.yaml"
    (spec,) = parse_document(read_training_file(file), RLlibCatalog())
    algorithm = build_config(spec, spec.config).build_algo()
    algorithm.train()  # one iteration is the whole training
    assert algorithm.env_steps == spec.stop["num_env_steps_sampled_lifetime"]
    tables = tables_of("risky_two_step")
    names = {"label": objective, "source": str(file)}
    team = team_risk(algorithm, tables, [0.5], episodes=1000, seed=0, **names)
    algorithm.stop()
    assert team.mean[0].value == pytest.approx(mean)
    assert team.cvar[0].value == pytest.approx(cvar)
    assert team.nested[0].value == pytest.approx(nested)
