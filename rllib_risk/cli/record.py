"""The command ``rllib record``: datasets from policies, checkpoints and learners."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli.option_groups import CommonChanges, RayOptions, grouped
from rllib_risk.cli.options import (
    EnvConfigOption,
    ImportOption,
    ShowRayOption,
    TrustCodeOption,
)
from rllib_risk.cli.output import note, say, stdout_to_stderr
from rllib_risk.cli.status import playing
from rllib_risk.config.schema import MAX_EPISODES, ConfigError

if TYPE_CHECKING:
    from rllib_risk.data.card import Card
    from rllib_risk.data.episodes import Episode
    from rllib_risk.data.sizes import TeamSpec

_EPISODES = 100
_SHARE = 0.16

RECORD_HELP = """Record a dataset of joint steps, from which algorithms can learn.

\b
    rllib record DATA --env uav --policy greedy --epsilon 0.05
    rllib record DATA --env uav --policy greedy --policy risk_blind
    rllib record DATA CHECKPOINT --episodes 500
    rllib record DATA tuned_examples/ma_cqr/uav-online.yaml --part paper
    rllib record OTHER DATA --part expert

Without a SOURCE, the scripted policies named by --policy play the environment
--env. The policy 'random' exists in every environment. A SOURCE is one of
these:

\b
- a checkpoint: its team plays;
- a training file: the command trains it and records its episodes (the log);
- a dataset recorded from a training file: a part of its log is copied.

For a training file or its dataset, --part selects episodes of the log.
'replay' is the whole log. The others are a consecutive share of it, whose
size is --share: 'paper' begins in the middle, 'medium' begins where half of
the improvement was reached, and 'expert' is the end.
"""


@dataclass(frozen=True)
class RecordOptions:
    """Options of ``rllib record``.

    Attributes:
        policies: Names of scripted policies.
        env: Name of the environment in which they play.
        env_config: Arguments of the environment, as JSON.
        episodes: Number of episodes; None: the default number.
        epsilon: Probability of random actions; None: 0.
        part: Part of a learner's log; None: the whole log.
        share: Share of a learner's log; None: the default share.
        seed: Seed of the recording; None: 0, or the seed of the training file.
        trust_code: Whether code that a checkpoint names may be imported.
        imports: Modules to import before the run.
        verbose: Number of ``-v`` flags: 0, 1 or 2.
    """

    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="Name of a scripted policy (may be repeated).",
        ),
    ] = None
    env: Annotated[
        str | None,
        typer.Option(
            "--env", help="Name of the environment in which scripted policies play."
        ),
    ] = None
    env_config: EnvConfigOption = None
    episodes: Annotated[
        int | None,
        typer.Option(
            "--episodes",
            min=1,
            max=MAX_EPISODES,
            help=f"Number of episodes (default: {_EPISODES}).",
        ),
    ] = None
    epsilon: Annotated[
        float | None,
        typer.Option(
            "--epsilon",
            min=0.0,
            max=1.0,
            help="Probability of a random action, per agent and step (default: 0).",
        ),
    ] = None
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            help="Part of a learner's log: replay (default), paper, medium or expert.",
        ),
    ] = None
    share: Annotated[
        float | None,
        typer.Option(
            "--share",
            min=0.0,
            max=1.0,
            help="Size of the part as a share of the log, between 0 and 1 (default:"
            f" {_SHARE}).",
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Random seed of the recording (default: 0, or the training file's"
            " seed).",
        ),
    ] = None
    trust_code: TrustCodeOption = False
    imports: ImportOption = None
    verbose: ShowRayOption = 0


@grouped
def record(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New folder for the dataset.")
    ],
    options: RecordOptions,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE", help="A checkpoint, a training file or a dataset."
        ),
    ] = None,
) -> None:
    """Records a dataset and prints its contents."""
    note(f"Recording {out} ...")
    from rllib_risk.cli.dataset import describe
    from rllib_risk.cli.session import prepare, register_all
    from rllib_risk.config.loading import import_modules
    from rllib_risk.data.rows import DatasetError

    with stdout_to_stderr():
        prepare(options.verbose)
        import_modules(options.imports)
        register_all()
        out = out.expanduser()
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists and is not empty. Choose another folder.")
        try:
            card = _recorder(source, options)(out)
        except DatasetError as error:
            raise ConfigError(f"{error}.") from error
    describe(out, card)
    say(f"Learn from it with: config: {{dataset: {out}}}")


def _recorder(source: str | None, options: RecordOptions) -> Callable[[Path], Card]:
    """Returns the function that records, after checking that the options fit it."""
    kinds: dict[str, tuple[Callable[..., Card], tuple[str, ...]]] = {
        "--policy": (
            _of_policies,
            ("policies", "env", "env_config", "episodes", "epsilon", "seed"),
        ),
        "a checkpoint": (
            _of_checkpoint,
            ("episodes", "epsilon", "seed", "trust_code"),
        ),
        "a training file": (_of_learner, ("part", "share", "seed")),
        "a dataset": (_of_log, ("part", "share")),
    }
    kind, path = _kind_of(source, options)
    recorder, allowed = kinds[kind]
    for name in ("policies", "env", "env_config", "episodes", "epsilon", "part"):
        if getattr(options, name) and name not in allowed:
            option = f"--{'policy' if name == 'policies' else name.replace('_', '-')}"
            raise ConfigError(
                f"{option}: cannot be combined with {kind}. Leave it out."
            )
    if options.share is not None and options.part in (None, "replay"):
        raise ConfigError("--share: needs --part paper, medium or expert. Add it.")

    return lambda out: recorder(path, out, options)


def _kind_of(source: str | None, options: RecordOptions) -> tuple[str, Path]:
    from rllib_risk.config.loading import find_file
    from rllib_risk.data.card import CARD

    if source is None:
        if not options.policies or options.env is None:
            raise ConfigError(
                "nothing to record. Give a SOURCE (a checkpoint, a training file or a"
                " dataset), or --env and --policy. See 'rllib record --help'."
            )
        return "--policy", Path()
    path = Path(source).expanduser()
    if not path.is_dir():
        return "a training file", find_file(source)
    if (path / CARD).is_file():
        return "a dataset", path
    return "a checkpoint", path


def _of_policies(_: Path, out: Path, options: RecordOptions) -> Card:
    from rllib_risk.config.loading import parse_json
    from rllib_risk.config.schema import suggest
    from rllib_risk.core.config import TeamConfig
    from rllib_risk.core.dataset_recording import record, scripted_player
    from rllib_risk.core.envs import env_name, scripted_policies, start_env

    text, seed = options.env_config, options.seed or 0
    settings: dict[str, Any] = parse_json(text, "--env-config").data if text else {}
    config = TeamConfig().environment(options.env, env_config=settings)
    note(f"Starting env '{env_name(config)}' ...")
    env = start_env(config)
    env.close()
    known = scripted_policies(config)
    names = options.policies or []
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--policy: env '{options.env}' has no policy '{name}'."
                f"{suggest(name, known)} Known: {', '.join(known)}."
            )
    epsilon = options.epsilon or 0.0
    players = [scripted_player(known[name], epsilon) for name in names]
    behaviour = {"policy": names[0] if len(names) == 1 else list(names)}
    with playing():
        return _write(
            out,
            record(config, players, options.episodes or _EPISODES, seed),
            config,
            env.spec_team,
            behaviour | {"epsilon": epsilon},
            seed,
        )


def _of_checkpoint(checkpoint: Path, out: Path, options: RecordOptions) -> Card:
    from rllib_risk.cli.checkpoints import opened, verified
    from rllib_risk.cli.session import register_all
    from rllib_risk.core.dataset_recording import record, trained_player

    folder = verified(checkpoint, "recording")
    register_all()
    with (
        opened(folder, trust_code=options.trust_code) as algorithm,
        playing(),
    ):
        algorithm.require_env()
        epsilon, seed = options.epsilon or 0.0, options.seed or 0
        player = trained_player(algorithm.team_policy, epsilon)
        number = options.episodes or _EPISODES
        return _write(
            out,
            record(algorithm.config, [player], number, seed),
            algorithm.config,
            algorithm.team_spec(),
            {
                "checkpoint": str(checkpoint),
                "algorithm": type(algorithm).__name__,
                "env_steps": algorithm.env_steps,
                "epsilon": epsilon,
            },
            seed,
        )


def _of_learner(file: Path, out: Path, options: RecordOptions) -> Card:
    part = options.part or "replay"
    _check_part(part)
    if part == "replay":
        return _log(file, out, options)
    # Next to the dataset, since a log may not fit into the folder of temporary files.
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{out.name}-log-", dir=out.parent) as log:
        _log(file, Path(log), options)
        return _of_log(Path(log), out, options)


def _log(file: Path, out: Path, options: RecordOptions) -> Card:
    """Trains a learner and records all its episodes."""
    from rllib_risk.cli.debug import train_here
    from rllib_risk.cli.preflight import preflight
    from rllib_risk.cli.session import ray_session
    from rllib_risk.cli.train import load_changed

    specs = load_changed(str(file), CommonChanges(seed=options.seed))
    if len(specs) != 1:
        raise ConfigError(
            f"{file} has {len(specs)} experiments, but 'rllib record' needs a file with"
            " one."
        )
    spec = specs[0]
    config = preflight(spec).config
    if not spec.stop:
        raise ConfigError(f"{file}: 'stop' is missing. Add stop criteria.")
    if not hasattr(config, "preflight") or getattr(config, "dataset", None):
        raise ConfigError(
            f"{file}: this training plays no episodes that can be recorded. Use an"
            " algorithm of this package that learns in an environment."
        )
    imports = (*(options.imports or ()), *spec.imports)
    with ray_session(RayOptions(verbose=options.verbose), imports):
        algorithm = config.build_algo()
        played: list[Episode] = []
        algorithm.on_episodes.append(played.extend)

        def episodes() -> Iterator[Episode]:
            for _ in train_here(algorithm, spec.stop):
                yield from played
                played.clear()

        behaviour = {
            "learner": file.name,
            "algorithm": type(algorithm).__name__,
            "part": "replay",
        }
        team, seed = algorithm.team_spec(), algorithm.config.seed
        return _write(out, episodes(), algorithm.config, team, behaviour, seed)


def _of_log(folder: Path, out: Path, options: RecordOptions) -> Card:
    import itertools

    from rllib_risk.data.dataset import Dataset, write_dataset
    from rllib_risk.data.log_parts import part_of_log

    part, share = options.part or "replay", options.share or _SHARE
    _check_part(part)
    log = Dataset(folder)
    if log.card.behaviour.get("part") != "replay":
        raise ConfigError(
            f"{folder} is not the whole log of a learner. Record one from a training"
            " file with --part replay."
        )
    first, after = part_of_log(log, part, share)
    return write_dataset(
        out,
        itertools.islice(log.episodes(), first, after),
        env=log.card.env,
        env_config=log.card.env_config,
        agents=log.card.agents,
        behaviour={
            **log.card.behaviour,
            "part": part,
            "share": share,
            "episodes": [first, after],
        },
        seed=log.card.seed,
        image=log.card.sizes.image,
    )


def _check_part(part: str) -> None:
    from rllib_risk.data.log_parts import LOG_PARTS

    if part not in LOG_PARTS:
        raise ConfigError(f"--part: must be one of {', '.join(LOG_PARTS)}.")


def _write(
    out: Path,
    episodes: Iterator[Episode],
    config: Any,
    team: TeamSpec,
    behaviour: dict[str, Any],
    seed: int | None,
) -> Card:
    from rllib_risk.core.envs import env_name
    from rllib_risk.data.dataset import write_dataset

    note(f"Playing env '{env_name(config)}' ...")
    return write_dataset(
        out,
        episodes,
        env=str(config.env),
        env_config=config.env_config,
        agents=team.agents,
        behaviour=behaviour,
        seed=seed,
        image=team.image,
    )
