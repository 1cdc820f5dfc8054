"""The ``rllib`` command."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Annotated

import typer

from rllib_risk.cli import dataset, examples, train
from rllib_risk.cli.compare import COMPARE_HELP, compare
from rllib_risk.cli.evaluate import EVALUATE_HELP, evaluate
from rllib_risk.cli.export import EXPORT_HELP, export
from rllib_risk.cli.output import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    fail,
    note,
    say,
)
from rllib_risk.cli.record import RECORD_HELP, record
from rllib_risk.cli.report import REPORT_HELP, report
from rllib_risk.cli.signals import end_on_sigterm, interrupt_code
from rllib_risk.cli.tools import CHECK_ENV_HELP, check_env, plot_app
from rllib_risk.config.schema import ConfigError
from rllib_risk.env_wrappers.errors import EnvConfigError, EnvError

_HELP = """Train and evaluate multi-agent reinforcement learning on RLlib.

\b
    rllib example list                          list the tuned examples
    rllib train file tuned_examples/rmix/macn-4x7.yaml
    rllib compare tuned_examples/compare/macn-4x7.yaml
    rllib evaluate CHECKPOINT                   play greedy episodes
    rllib export CHECKPOINT --out my-team       act without Ray and PyTorch
    rllib record DATA --env uav --policy greedy --epsilon 0.05
    rllib dataset info DATA
    rllib check-env my_package:parallel_env     check your own environment
    rllib plot FOLDER ... --out curves.png
    rllib plot episode CHECKPOINT
    rllib plot frontier CHECKPOINT
    rllib report FOLDER ... --out report.html

RLlib's own algorithms (PPO, DQN, ...) run as well. 'rllib COMMAND --help'
describes a command.
"""
_WANDB_KEY = "--wandb-key"

app = typer.Typer(
    name="rllib",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train.app, name="train")
app.add_typer(examples.app, name="example")
app.add_typer(dataset.app, name="dataset")
app.command("record", help=RECORD_HELP)(record)
app.command("compare", help=COMPARE_HELP)(compare)
app.command("evaluate", help=EVALUATE_HELP)(evaluate)
app.command("export", help=EXPORT_HELP)(export)
app.command("check-env", help=CHECK_ENV_HELP)(check_env)
app.add_typer(plot_app, name="plot")
app.command("report", help=REPORT_HELP)(report)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    import rllib_risk

    say(f"rllib_risk {rllib_risk.__version__} (Ray {version('ray')})")
    raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions and exit.",
        ),
    ] = False,
) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Runs the command.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit code: 0; 1 if a run or a check failed; 2 if the configuration or an
        option is wrong (nothing has started then); 130 after Ctrl-C; 143 after
        SIGTERM.
    """
    try:
        # Not `app(...)`: it returns exit codes for KeyboardInterrupt and EOFError.
        command = typer.main.get_command(app)
        with command.make_context("rllib", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except (ConfigError, EnvConfigError) as error:
        fail(str(error))
        return EXIT_USAGE
    except EnvError as error:
        fail(str(error))
        if logging.getLogger("rllib_risk").isEnabledFor(logging.INFO):  # with -v
            traceback.print_exc()
        return EXIT_FAILED
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            # A wrong option: typer's own error prints itself.
            error.show()
            return int(error.exit_code)
        if type(error).__name__ in ("CheckpointError", "ArtefactError"):
            # Compared by name: importing the classes would load torch and NumPy in
            # every command.
            fail(str(error))
            return EXIT_USAGE
        if isinstance(error, OSError) and error.strerror:
            # A file cannot be read or written, for example because the disk is full.
            place = f"{error.filename}: " if error.filename is not None else ""
            fail(f"{place}{error.strerror}.")
            return EXIT_FAILED
        traceback.print_exc()
        return EXIT_FAILED
    return 0


def _interrupted() -> int:
    code = interrupt_code()
    note("Interrupted." if code == EXIT_INTERRUPTED else "Ended by SIGTERM.")
    return code


def main() -> None:
    """Runs the command line of this process."""
    end_on_sigterm()
    _hide_key()
    sys.exit(run(sys.argv[1:]))


def _hide_key() -> None:
    """Moves ``--wandb-key`` from the command line into the environment.

    Ray and W&B both record the command line of the process. Only a restart without the
    key removes it from there, so the process replaces itself.
    """
    kept: list[str] = []
    key = None
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument == _WANDB_KEY:
            key = next(arguments, None)
        elif argument.startswith(f"{_WANDB_KEY}="):
            key = argument.partition("=")[2]
        else:
            kept.append(argument)
    if key:
        os.environ["WANDB_API_KEY"] = key
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "rllib_risk", *kept])
