"""Evaluations of exported teams on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.cli.evaluate import EvaluationOptions


def is_exported(folder: Path) -> bool:
    """Returns whether a folder is an exported team."""
    from rllib_risk.deploy.files import MANIFEST, POLICY

    folder = folder.expanduser()
    return all((folder / name).is_file() for name in (MANIFEST, POLICY))


def evaluate_exported(
    folder: Path, env_config: Mapping[str, Any], options: EvaluationOptions
) -> tuple[dict[str, Any], list[Any]]:
    """Evaluates an exported team; Ray is not started.

    Args:
        folder: The folder that ``rllib export`` wrote.
        env_config: Keys of ``env_config`` to change.
        options: Options of the command.

    Returns:
        The result, and the frames of the first episode (empty without rendering).

    Raises:
        ArtefactError: If the folder is damaged or of a later version.
        ConfigError: If an option does not apply, or the team does not fit the env.
    """
    from rllib_risk.cli.checkpoints import changed_settings
    from rllib_risk.cli.session import register_all
    from rllib_risk.core.exported_teams import ExportedTeam, evaluation_env
    from rllib_risk.deploy.artefact import Artefact

    for name, value in {"--algo": options.algo, "--alpha": options.level}.items():
        if value is not None:
            raise ConfigError(f"{name}: does not apply to an exported team.")
    register_all()
    artefact = Artefact.load(folder.expanduser())
    env, settings = evaluation_env(artefact)
    if env_config:
        settings = changed_settings(options.env or env, env_config, settings)
    team = ExportedTeam.load(
        artefact,
        env=options.env,
        env_config=settings,
        trust_code=options.trust_code,
    )
    # First, because an environment may be unable to render.
    frames = [] if options.figure is None else team.render(options.seed)
    return team.evaluate(options.episodes, options.seed), frames
