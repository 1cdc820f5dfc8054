"""Exported teams in the environment of their training, beside the algorithm itself."""

import json

import pytest

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.export import export_team
from rllib_risk.core.exported_teams import ExportedTeam
from rllib_risk.deploy import ArtefactError
from rllib_risk.deploy.files import POLICY, TENSORS, as_json, write_manifest

STATIC = {"objective": "static", "alpha": 0.3, "gamma": 0.9}
# Evaluations without the noise of training, in another seed's episodes.
QUIET = {
    "env_config": {"reward_noise_std": 5.0, "episode_limit": 12},
    "evaluation_config": {"env_config": {"episode_limit": 9}},
    "evaluation_duration": 3,
    "seed": 5,
}


def exported(folder, name, env, **keys):
    """An untrained team as an algorithm and as a folder."""
    config = config_class(name)().environment(env).update_from_dict(keys)
    algorithm = config.build_algo()
    algorithm._carry_evaluation({"evaluation": algorithm.evaluate()})
    export_team(algorithm, folder)
    return algorithm


def change(folder, evaluation):
    """Changes the environment that an artefact names."""
    policy = json.loads((folder / POLICY).read_text())
    policy["provenance"]["evaluation"] = evaluation
    (folder / POLICY).write_text(as_json(policy))
    write_manifest(folder, [POLICY, TENSORS])


@pytest.mark.parametrize(
    ("name", "env", "keys"),
    [
        ("RMIX", "macn", {"num_atoms": 8} | QUIET),
        ("VDN", "risky_two_step", STATIC),
        ("COMA", "uav", {"env_config": {"episode_steps": 7}}),
    ],
)
def test_the_evaluation_is_that_of_the_training(tmp_path, name, env, keys):
    """R47: the same episodes, the same numbers; and others with another seed."""
    algorithm = exported(tmp_path / "team", name, env, **keys)
    team = ExportedTeam.load(tmp_path / "team")
    assert team.episodes == keys.get("evaluation_duration", 32)
    for number, seed in ((None, None), (10, 3)):
        expected = algorithm.evaluate_episodes(number or team.episodes, seed)
        found = team.evaluate(number, seed)
        assert found.pop("returns") == pytest.approx(expected.pop("returns"))
        # The algorithm also reports the threshold that it chose for a static level.
        chosen = {key: expected[key] for key in found}
        assert found == pytest.approx(chosen, nan_ok=True)
    algorithm.stop()


def test_what_does_not_fit_is_refused(tmp_path):
    folder = tmp_path / "team"
    exported(folder, "QMIX", "macn").stop()
    with pytest.raises(ConfigError, match=r"--env: .* was trained in 'macn'"):
        ExportedTeam.load(folder, env="uav")
    wide = ExportedTeam.load(folder, env_config={"obs_encoding": "onehot"})
    with pytest.raises(ConfigError, match=r"9 numbers .* but the environment has"):
        wide.evaluate(1)
    own = tmp_path / "own"
    factory = {"factory": "pettingzoo.butterfly.unknown:parallel_env"}
    exported(own, "QMIX", "macn").stop()
    change(own, {"env": "pettingzoo", "env_config": factory})
    with pytest.raises(ConfigError, match=r"importing 'pettingzoo.butterfly"):
        ExportedTeam.load(own)
    change(own, {"env": None, "env_config": {}})
    with pytest.raises(ConfigError, match=r"learned from a dataset .* --env"):
        ExportedTeam.load(own)
    with pytest.raises(ArtefactError, match="is not an exported team"):
        ExportedTeam.load(tmp_path)
