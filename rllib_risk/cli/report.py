"""The command ``rllib report``: one HTML page on results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_risk.cli.options import AxisOption, MetricOption, ThresholdOption
from rllib_risk.cli.output import note
from rllib_risk.config.schema import ConfigError

REPORT_HELP = """Write one HTML page on results, to read, print or send.

\b
    rllib report ~/ray_results/compare-macn-4x7 --out report.html
    rllib report ~/ray_results/risk-sweep shift-results --title "Wind"

The page holds what was run (environments, seeds, versions, commit), learning
curves, the table of results, the probability that one group is better than
another, and the settings. It also holds the tables and figures that
'rllib evaluate --shift' and '--dataset' wrote into the folders, and the images
in them, such as episodes of 'rllib evaluate --render-out'. It needs no other
file.
"""


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of comparisons, experiments or evaluations."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The .html file to write.")] = Path(
        "report.html"
    ),
    title: Annotated[
        str | None,
        typer.Option(
            "--title", help="Title of the page (default: names of the folders)."
        ),
    ] = None,
    metric: MetricOption = None,
    x: AxisOption = None,
    threshold: ThresholdOption = None,
) -> None:
    """Writes the report."""
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out: {out.name} must end in .html.")
    from rllib_risk.evaluation.report import write_report
    from rllib_risk.evaluation.results import ResultsError

    paths = [folder.expanduser() for folder in folders]
    title = title or ", ".join(path.resolve().name for path in paths)
    try:
        remarks = write_report(
            paths, out, title=title, metric=metric, x=x, threshold=threshold
        )
    except ResultsError as error:
        raise ConfigError(str(error)) from error
    for remark in remarks:
        note(remark)
    note(f"Wrote {out}")
