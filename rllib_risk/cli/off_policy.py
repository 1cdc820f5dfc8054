"""``rllib evaluate --dataset``: evaluates policies from a log of another policy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rllib_risk.cli.options import static_threshold_option
from rllib_risk.cli.output import note, say, stdout_to_stderr
from rllib_risk.cli.status import status_lines
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.cli.evaluate import EvaluationOptions
    from rllib_risk.data.card import Card
    from rllib_risk.data.dataset import Dataset
    from rllib_risk.evaluation.off_policy.estimates import Choices
    from rllib_risk.evaluation.off_policy.report import OffPolicyResults

_PANEL = "From a dataset"


@dataclass(frozen=True)
class OffPolicyOptions:
    """Options of an evaluation from a dataset.

    Attributes:
        data: Folder of the dataset; None: the evaluation plays episodes.
        method: Names of methods, separated by commas; None: the default methods.
        threshold: Return threshold for the probability of a lower return; None: the
            end of the log's lowest tenth.
        static_threshold: Threshold of teams of objective ``static``; None: the one that
            their last evaluation chose.
        min_ess: Effective sample size (in episodes) below which ratios give no
            estimate; None: the default.
        clip: Largest cumulative ratio; None: no limit.
        stochastic: Whether actor-critic teams sample their actions.
    """

    data: Annotated[
        Path | None,
        typer.Option(
            "--dataset",
            help="Folder of a dataset: estimate returns from it, and play no episode.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAMES",
            help="Methods among fqe, wis, dr and dm, separated by commas (default:"
            " fqe,wis,dr).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Return threshold: the table has the probability of a lower return"
            " (default: the log's 10 % quantile).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    static_threshold: Annotated[float | None, static_threshold_option(_PANEL)] = None
    min_ess: Annotated[
        float | None,
        typer.Option(
            "--min-ess",
            min=1.0,
            help="Effective sample size in episodes below which wis and dr are refused"
            " (default: 30).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    clip: Annotated[
        float | None,
        typer.Option(
            "--clip",
            help="Largest cumulative importance ratio (default: no limit).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    stochastic: Annotated[
        bool,
        typer.Option(
            "--stochastic",
            help="Evaluate actor-critic teams with sampled actions (default: greedy"
            " actions, as in a deployed team).",
            rich_help_panel=_PANEL,
        ),
    ] = False

    @property
    def given(self) -> list[str]:
        """Names of the given options that have a meaning only with ``--dataset``."""
        values = {
            "--method": self.method,
            "--threshold": self.threshold,
            "--static-threshold": self.static_threshold,
            "--min-ess": self.min_ess,
            "--clip": self.clip,
            "--stochastic": self.stochastic or None,
        }
        return [name for name, value in values.items() if value is not None]


def choices_of(options: OffPolicyOptions, seed: int | None) -> Choices:
    """Checks the options.

    Args:
        options: Options of the command line.
        seed: Seed of clones, fits and resamples; None: 0.

    Returns:
        The settings of the evaluation.

    Raises:
        ConfigError: If a method does not exist, or a number is out of range.
    """
    from rllib_risk.config.schema import suggest
    from rllib_risk.evaluation.off_policy import estimates
    from rllib_risk.ops.off_policy import LARGEST_RATIO

    methods: tuple[str, ...] = estimates.DEFAULT_METHODS
    if options.method is not None:
        methods = tuple(dict.fromkeys(n.strip() for n in options.method.split(",")))
        for name in methods:
            if name not in estimates.METHODS:
                raise ConfigError(
                    f"--method: there is no method {name!r}."
                    f"{suggest(name, estimates.METHODS)} Methods:"
                    f" {', '.join(estimates.METHODS)}."
                )
    if options.clip is not None and options.clip <= 0.0:
        raise ConfigError(f"--clip: must be above 0, not {options.clip:g}.")
    least = estimates.MIN_ESS if options.min_ess is None else options.min_ess
    return estimates.Choices(
        methods=methods,
        threshold=options.threshold,
        min_ess=least,
        clip=LARGEST_RATIO if options.clip is None else options.clip,
        seed=seed or 0,
    )


def off_policy_folder(out: Path | None, dataset: Path) -> Path:
    """Returns the folder for the results, after checking that it can be created.

    The check comes before learning, which takes minutes.

    Args:
        out: Requested folder; None: ``off-policy-DATASET`` in the working directory.
        dataset: Folder of the dataset.

    Returns:
        The absolute folder, which may not exist yet.

    Raises:
        ConfigError: If it cannot be created.
    """
    folder = (
        (out or Path(f"off-policy-{dataset.resolve().name}")).expanduser().resolve()
    )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out: {folder} is a file; with --dataset it is a folder.")
    if not folder.parent.is_dir():
        raise ConfigError(f"--out: there is no folder {folder.parent}.")
    return folder


def run_off_policy(
    checkpoints: Sequence[Path],
    options: OffPolicyOptions,
    *,
    labels: Sequence[str],
    episodes: int | None,
    seed: int | None,
    trust_code: bool,
) -> OffPolicyResults:
    """Evaluates checkpoints from a dataset, without Ray and without an environment.

    Args:
        checkpoints: Folders of checkpoints, at least one.
        options: Options of the command line.
        labels: Names of the checkpoints; empty: names of their algorithms.
        episodes: Number of episodes to use, from the dataset's beginning; None: all.
        seed: See :func:`choices_of`.
        trust_code: Whether code that a checkpoint names may be imported.

    Returns:
        The results of all policies.

    Raises:
        ConfigError: If an option is wrong, or a checkpoint does not fit the dataset.
        CheckpointError: If a checkpoint is incomplete or was changed.
    """
    from rllib_risk.cli.checkpoints import verified
    from rllib_risk.cli.session import register_all
    from rllib_risk.cli.shift import made_up_labels
    from rllib_risk.data.dataset import Dataset
    from rllib_risk.data.rows import DatasetError

    choices = choices_of(options, seed)
    if labels and len(labels) != len(checkpoints):
        raise ConfigError(
            f"--label: give one per checkpoint: {len(checkpoints)}, not {len(labels)}."
        )
    assert options.data is not None
    try:
        dataset = Dataset(options.data.expanduser())
        folders = [verified(path, "--dataset") for path in checkpoints]
        register_all()
        names = list(labels) or made_up_labels(folders)
        for folder in folders:
            _check_fits(folder, dataset.card)
        return _evaluate(
            folders,
            names,
            dataset,
            choices,
            episodes=episodes,
            stochastic=options.stochastic,
            static_threshold=options.static_threshold,
            trust_code=trust_code,
        )
    except DatasetError as error:
        raise ConfigError(f"--dataset: {error}.") from error


def evaluate_off_policy(
    checkpoints: Sequence[Path],
    dataset: Path,
    options: EvaluationOptions,
    off_policy: OffPolicyOptions,
) -> None:
    """Evaluates checkpoints from a dataset, prints the result and writes it.

    Args:
        checkpoints: Folders of checkpoints, at least one.
        dataset: Folder of the dataset.
        options: Options of all evaluations.
        off_policy: Options of an evaluation from a dataset.

    Raises:
        ConfigError: See :func:`run_off_policy`; or if an option needs an environment.
    """
    note(f"Evaluating from {dataset} ...")
    from rllib_risk.cli import output
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import import_modules
    from rllib_risk.evaluation.off_policy.report import (
        print_off_policy,
        write_off_policy,
    )

    playing = {
        "--shift": options.shift,
        "--algo": options.algo,
        "--render": options.figure,
        "--env": options.env,
        "--env-config": options.env_config,
        "--alpha": options.level,
        "--no-references": options.no_references or None,
    }
    for name, value in playing.items():
        if value is not None:
            raise ConfigError(f"{name} is not for --dataset: nothing is played.")
    with stdout_to_stderr(), status_lines(lambda: "estimating returns"):
        prepare(options.verbose)
        folder = off_policy_folder(options.out, dataset)
        import_modules(options.imports)
        results = run_off_policy(
            checkpoints,
            off_policy,
            labels=options.label or (),
            episodes=options.episodes,
            seed=options.seed,
            trust_code=options.trust_code,
        )
    folder.mkdir(exist_ok=True)
    files = write_off_policy(results, folder)
    if options.as_json:
        say((folder / "off_policy.json").read_text(encoding="utf-8").rstrip("\n"))
    else:
        print_off_policy(results, output.out)
    for written in files:
        note(f"Wrote {written}")


def _check_fits(folder: Path, card: Card) -> None:
    """Compares the environment of a checkpoint with that of a dataset's card."""
    from rllib_risk.core.checkpoint import read_config, reading

    with reading(folder):
        values = read_config(folder)["config"]
        env, settings = values.get("env"), values.get("env_config") or {}
    if env is None or card.env is None:
        return
    if env != card.env:
        raise ConfigError(
            f"--dataset: its env is '{card.env}', but {folder} was trained in"
            f" '{env}'. Give a dataset of that environment."
        )
    if dict(settings) != dict(card.env_config):
        note(
            f"{folder} was trained with env_config {dict(settings)}, and the dataset"
            f" was recorded with {dict(card.env_config)}: the estimates are for the"
            " dataset's environment."
        )


def _evaluate(
    folders: Sequence[Path],
    labels: Sequence[str],
    dataset: Dataset,
    choices: Choices,
    *,
    episodes: int | None,
    stochastic: bool,
    static_threshold: float | None,
    trust_code: bool,
) -> OffPolicyResults:
    from rllib_risk.core.off_policy.log import Log, replay
    from rllib_risk.core.policy_loading import load_policy
    from rllib_risk.core.rounds import one_thread
    from rllib_risk.core.thresholds import settle_threshold
    from rllib_risk.evaluation.off_policy.behaviour import clone_behaviour
    from rllib_risk.evaluation.off_policy.estimates import (
        evaluate_policy,
        log_result,
        threshold_of,
    )
    from rllib_risk.evaluation.off_policy.report import OffPolicyResults

    card = dataset.card
    policies = [
        load_policy(folder, card.sizes, trust_code=trust_code) for folder in folders
    ]
    for folder, policy in zip(folders, policies, strict=True):
        if stochastic and not hasattr(policy, "probabilities"):
            raise ConfigError(
                f"--stochastic: {folder} is a value-based team, which has no"
                " probabilities of actions. Leave it out."
            )
        settle_threshold(policy.network.objective, static_threshold, folder)
    note(f"Reading {dataset.folder} ...")
    log = Log.of(itertools.islice(dataset.episodes(), episodes))
    if len(log.lengths) < 2:
        raise ConfigError("--dataset: needs at least two episodes.")
    found = []
    with one_thread():
        note("Cloning the policy that played ...")
        behaviour = clone_behaviour(log, seed=choices.seed)
        for folder, label, policy in zip(folders, labels, policies, strict=True):
            note(f"Evaluating {label} ...")
            replayed = replay(policy, log, stochastic=stochastic)
            found.append(
                evaluate_policy(
                    log, behaviour, replayed, choices, label=label, source=str(folder)
                )
            )
    return OffPolicyResults(
        dataset=str(dataset.folder),
        env=card.env,
        num_episodes=len(log.lengths),
        num_steps=len(log.rewards),
        threshold=threshold_of(log, choices),
        choices=choices,
        cross_entropy=behaviour.cross_entropy,
        calibration_error=behaviour.calibration_error,
        log=log_result(log, choices),
        policies=tuple(found),
    )
