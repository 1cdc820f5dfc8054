"""``rllib record``: datasets from policies, checkpoints and learners."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli.option_groups import CommonChanges, RayOptions, grouped
from rllib_risk.cli.options import (
    EnvConfigOption,
    ImportOption,
    ShowRayOption,
)
from rllib_risk.cli.output import note, say, stdout_to_stderr
from rllib_risk.config.schema import MOST_EPISODES, ConfigError

if TYPE_CHECKING:
    from rllib_risk.data.card import Card
    from rllib_risk.data.episodes import Episode

_EPISODES = 100
_SHARE = 0.16

RECORD_HELP = """Record a dataset: a folder of joint steps that algorithms learn from.

\b
    rllib record DATA --env uav --policy greedy --epsilon 0.05
    rllib record DATA --env uav --policy greedy --policy risk_blind
    rllib record DATA CHECKPOINT --episodes 500
    rllib record DATA tuned_examples/ma_cqr/uav-online.yaml --part paper
    rllib record OTHER DATA --part expert

A SOURCE may be a checkpoint; a training file, whose exploring learner is then trained
and its episodes recorded; or the dataset that such a recording wrote. Of a learner
--part takes 'replay', all that it ever played; or a stretch of --share of that: 'paper'
begins half way, 'medium' where half of its gain was reached, 'expert' is the end.
Without a SOURCE --policy names scripted policies of --env: 'random' plays everywhere.
"""


@dataclass(frozen=True)
class RecordOptions:
    """What the command line says.

    Attributes:
        policies: Names of scripted policies.
        env: Where they play.
        env_config: Its arguments, as JSON.
        episodes: How many; None: the usual number.
        epsilon: Probability of random actions; None: 0.
        part: Of a learner's log; None: all of it.
        share: Of a learner's log; None: the usual one.
        seed: Of the recording; None: 0, or a training file's own.
        trust_code: Whether code that a checkpoint names may be imported.
        imports: Modules to import first.
        verbose: 0, 1 or 2.
    """

    policies: Annotated[
        list[str] | None,
        typer.Option("--policy", help="A scripted policy (may be repeated)."),
    ] = None
    env: Annotated[str | None, typer.Option("--env", help="Where they play.")] = None
    env_config: EnvConfigOption = None
    episodes: Annotated[
        int | None,
        typer.Option(
            "--episodes",
            min=1,
            max=MOST_EPISODES,
            help=f"How many (default: {_EPISODES}).",
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
            "--part", help="Of a learner: replay (default), paper, medium or expert."
        ),
    ] = None
    share: Annotated[
        float | None,
        typer.Option(
            "--share",
            min=0.0,
            max=1.0,
            help=f"Of all that it played (default: {_SHARE}).",
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Random seed (default: 0, or the file's)."),
    ] = None
    trust_code: Annotated[
        bool,
        typer.Option("--trust-code", help="Import what a checkpoint names."),
    ] = False
    imports: ImportOption = None
    verbose: ShowRayOption = 0


@grouped
def record(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the dataset.")],
    options: RecordOptions,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE", help="A checkpoint, a training file or a dataset."
        ),
    ] = None,
) -> None:
    """Records a dataset and says what is in it."""
    from rllib_risk.cli.dataset import describe
    from rllib_risk.cli.session import prepare, register_all
    from rllib_risk.config.loading import import_modules
    from rllib_risk.data.rows import DatasetError

    with stdout_to_stderr():
        prepare(options.verbose)
        note(f"Recording {out} ...")
        import_modules(options.imports)
        register_all()
        out = out.expanduser()
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists and is not empty; choose another folder.")
        try:
            card = _recorder(source, options)(out)
        except DatasetError as error:
            raise ConfigError(f"{error}.") from error
    describe(out, card)
    say(f"Learn from it with: config: {{dataset: {out}}}")


def _recorder(source: str | None, options: RecordOptions) -> Callable[[Path], Card]:
    """Who records, after a look at what belongs together."""
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
            raise ConfigError(f"{option}: is not for {kind}.")
    if options.share is not None and options.part in (None, "replay"):
        raise ConfigError("--share: is of a part; give --part paper, medium or expert.")

    def run(out: Path) -> Card:
        return recorder(path, out, options)

    return run


def _kind_of(source: str | None, options: RecordOptions) -> tuple[str, Path]:
    from rllib_risk.config.loading import find_file
    from rllib_risk.data.card import CARD

    if source is None:
        if not options.policies or options.env is None:
            raise ConfigError(
                "give a SOURCE (a checkpoint, a training file or a dataset), or --env"
                " and --policy. See 'rllib record --help'."
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
    from rllib_risk.core.envs import scripted_policies, start_env

    text, seed = options.env_config, options.seed or 0
    settings: dict[str, Any] = parse_json(text, "--env-config").data if text else {}
    config = TeamConfig().environment(options.env, env_config=settings)
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
    return _write(
        out,
        record(config, players, options.episodes or _EPISODES, seed),
        config,
        env.spec_team.agents,
        behaviour | {"epsilon": epsilon},
        seed,
    )


def _of_checkpoint(checkpoint: Path, out: Path, options: RecordOptions) -> Card:
    from rllib_risk.cli.checkpoints import opened, verified
    from rllib_risk.cli.session import ray_session
    from rllib_risk.core.dataset_recording import record, trained_player

    folder = verified(checkpoint, "recording")
    with (
        ray_session(
            RayOptions(num_cpus=1, verbose=options.verbose), options.imports or ()
        ),
        opened(folder, trust_code=options.trust_code) as algorithm,
    ):
        algorithm.require_env()
        epsilon, seed = options.epsilon or 0.0, options.seed or 0
        player = trained_player(algorithm.team_policy, epsilon)
        number = options.episodes or _EPISODES
        return _write(
            out,
            record(algorithm.config, [player], number, seed),
            algorithm.config,
            algorithm.agent_names(),
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
    # Beside the dataset, since a log may be larger than where temporary files are.
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{out.name}-log-", dir=out.parent) as log:
        _log(file, Path(log), options)
        return _of_log(Path(log), out, options)


def _log(file: Path, out: Path, options: RecordOptions) -> Card:
    """Trains a learner and writes down all that it plays."""
    from rllib_risk.cli.debug import train_here
    from rllib_risk.cli.preflight import preflight
    from rllib_risk.cli.session import ray_session
    from rllib_risk.cli.train import load_changed

    specs = load_changed(str(file), CommonChanges(seed=options.seed))
    if len(specs) != 1:
        raise ConfigError(f"{file} has {len(specs)} experiments; record needs one.")
    spec = specs[0]
    config = preflight(spec).config
    if not spec.stop:
        raise ConfigError(f"{file}: says nowhere when to stop.")
    if not hasattr(config, "preflight") or getattr(config, "dataset", None):
        raise ConfigError(f"{file}: nothing that this package could record is played.")
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
        agents, seed = algorithm.agent_names(), algorithm.config.seed
        return _write(out, episodes(), algorithm.config, agents, behaviour, seed)


def _of_log(folder: Path, out: Path, options: RecordOptions) -> Card:
    import itertools

    from rllib_risk.data.dataset import Dataset, write_dataset
    from rllib_risk.data.log_parts import part_of_log

    part, share = options.part or "replay", options.share or _SHARE
    _check_part(part)
    log = Dataset(folder)
    if log.card.behaviour.get("part") != "replay":
        raise ConfigError(f"{folder} is not all that a learner played.")
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
    )


def _check_part(part: str) -> None:
    from rllib_risk.data.log_parts import LOG_PARTS

    if part not in LOG_PARTS:
        raise ConfigError(f"--part: must be one of {', '.join(LOG_PARTS)}.")


def _write(
    out: Path,
    episodes: Iterator[Episode],
    config: Any,
    agents: Sequence[str],
    behaviour: dict[str, Any],
    seed: int | None,
) -> Card:
    from rllib_risk.data.dataset import write_dataset

    note(f"Recording to {out} ...")
    return write_dataset(
        out,
        episodes,
        env=str(config.env),
        env_config=config.env_config,
        agents=agents,
        behaviour=behaviour,
        seed=seed,
    )
