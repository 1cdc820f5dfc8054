"""The command ``rllib example``: lists, shows and runs the tuned examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_risk.cli import option_groups as g
from rllib_risk.cli import options as o
from rllib_risk.cli.output import note, out, say, stdout_to_stderr
from rllib_risk.cli.pretrained import PLAY_HELP, play
from rllib_risk.config.schema import ConfigError

app = typer.Typer(
    help="List, show and run the tuned examples of this package, and play its trained"
    " teams.",
    no_args_is_help=True,
)
_SCHEMA_HELP = """Print the JSON Schema of training files, for editors.

\b
    rllib example schema > rllib_risk.schema.json

With the schema, an editor that has a YAML language server completes keys,
shows their meaning, and marks mistyped keys and values out of range. Name the
schema in the first line of a training file: # yaml-language-server:
$schema=rllib_risk.schema.json
"""
_COMPARISONS = "compare/"
_GRIDS = "shift/"

NameArgument = Annotated[
    str,
    typer.Argument(
        help="Name of an example, such as rmix/macn-4x7; see 'rllib example list'."
    ),
]


def _first_comment(file: Path) -> str:
    """Returns the first line of a file's header."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and line.strip("# "):
            return line.strip("# ")
        if not line.startswith("#"):
            break
    return ""


@app.command("list")
def list_command(
    filter_text: Annotated[
        str | None,
        typer.Option(
            "--filter", "-f", help="Text: list only examples whose name contains it."
        ),
    ] = None,
) -> None:
    """List the tuned examples."""
    from rich.table import Table

    from rllib_risk.config.loading import EXAMPLES, examples_root, list_examples

    names = [n for n in list_examples() if not filter_text or filter_text in n]
    if not names:
        what = f"whose name contains '{filter_text}'" if filter_text else "installed"
        raise ConfigError(f"there is no example {what}.")
    table = Table("name", "description", box=None, pad_edge=False)
    for name in names:
        table.add_row(name, _first_comment(examples_root() / f"{name}.yaml"))
    out.print(table)
    say("\nRun an example with: rllib example run NAME")
    if any(name.startswith(_COMPARISONS) for name in names):
        say(
            f"Run a comparison ({_COMPARISONS}...) with: rllib compare"
            f" {EXAMPLES}/{_COMPARISONS}NAME.yaml"
        )
    if any(name.startswith(_GRIDS) for name in names):
        say(
            f"Play a grid ({_GRIDS}...) with: rllib evaluate CHECKPOINT --shift"
            f" {EXAMPLES}/{_GRIDS}NAME.yaml"
        )


@app.command("get")
def get_command(
    name: NameArgument,
    target: Annotated[
        Path | None,
        typer.Option("--out", help="New file to copy the example to (default: print)."),
    ] = None,
) -> None:
    """Print an example, or copy it to a file that you can edit."""
    from rllib_risk.config.loading import find_example

    source = find_example(name)
    text = source.read_text(encoding="utf-8")
    if target is None:
        say(text.rstrip("\n"))
        return
    if target.exists():
        raise ConfigError(f"--out: {target} exists already. Choose another file.")
    target.write_text(text, encoding="utf-8")
    commands = {
        _COMPARISONS[:-1]: "compare",
        _GRIDS[:-1]: "evaluate CHECKPOINT --shift",
    }
    command = commands.get(source.parent.name, "train file")
    note(f"Wrote {target}. Run it with: rllib {command} {target}")


@app.command("schema", help=_SCHEMA_HELP)
def schema_command() -> None:
    """Prints the JSON Schema of training files."""
    import json

    from rllib_risk.algorithms import ALGORITHMS
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.cli.session import register_all
    from rllib_risk.config.json_schema import training_schema
    from rllib_risk.core import ray_internals
    from rllib_risk.env_wrappers.registry import ENVS

    with stdout_to_stderr():
        register_all()
        catalog = RLlibCatalog()
        algorithms = [
            *ALGORITHMS,
            *filter(catalog.is_there, ray_internals.rllib_registry()),
        ]
        schema = training_schema(catalog, algorithms, [*ENVS])
    say(json.dumps(schema))


app.command("play", help=PLAY_HELP)(play)


@app.command("run")
@g.grouped
def run_command(
    name: NameArgument,
    changes: g.CommonChanges,
    resume: o.ResumeOption = False,
    verbose: o.VerboseOption = 0,
    project: o.WandbProjectOption = None,
    run_name: o.WandbRunNameOption = None,
    num_cpus: o.CpusOption = None,
    num_gpus: o.GpusOption = None,
) -> None:
    """Train a tuned example; 'rllib train file' has more options."""
    from rllib_risk.cli.runner import run_experiments
    from rllib_risk.cli.session import prepare
    from rllib_risk.cli.train import load_changed
    from rllib_risk.config.loading import find_example

    prepare(verbose)
    code = run_experiments(
        load_changed(str(find_example(name)), changes),
        g.RunOptions(resume, verbose),
        g.RayOptions(num_cpus=num_cpus, num_gpus=num_gpus, verbose=verbose),
        g.WandbOptions(project, run_name=run_name),
    )
    raise typer.Exit(code)
