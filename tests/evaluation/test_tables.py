"""Summary tables: numbers worked by hand, and the files of a comparison."""

import csv
import io
import math

import pytest
from rich.console import Console
from test_results import write_trial

from rllib_risk.evaluation.plots import write_comparison
from rllib_risk.evaluation.results import (
    Plan,
    ResultsError,
    read_groups,
    write_plan,
)
from rllib_risk.evaluation.table_files import latex_table, markdown_table
from rllib_risk.evaluation.tables import summarise


def summaries(folder, threshold=None):
    return [summarise(group, threshold) for group in read_groups([folder])]


@pytest.fixture
def comparison(tmp_path):
    """Five seeds of ``RMIX``, one of them failed; ``COMA`` failed in both seeds.

    The seeds of ``RMIX`` end at 8, 4, 2 and 6, with CVaR 1, 2, 3 and 6.
    """
    points = [
        [(100, 9.0, 0.0), (200, 8.0, 1.0)],
        [(100, 0.0, 0.0), (200, 4.0, 2.0)],
        [(100, 1.0, 0.0), (200, 2.0, 3.0)],
        [(100, 5.0, 4.0), (200, 6.0, 6.0)],
        [(100, 99.0, 99.0)],
    ]
    for seed, curve in enumerate(points):
        write_trial(tmp_path / f"RMIX_seed_{seed}", curve, {"seed": seed})
    labels = {
        f"{a}_seed_{s}": a for a, n in (("RMIX", 5), ("COMA", 2)) for s in range(n)
    }
    failed = ("RMIX_seed_4", "COMA_seed_0", "COMA_seed_1")
    write_plan(tmp_path, Plan(labels, failed))
    return tmp_path


def test_summary_counts_the_runs_that_reached_the_threshold(results):
    qmix, rmix = summaries(results, -7.0)
    assert (qmix.label, qmix.num_runs, qmix.num_reached) == ("qmix", 1, 0)
    assert all(math.isnan(v) for v in (*qmix.x_to_threshold, *qmix.seconds))
    assert qmix.final == (-100.0, -100.0, -100.0)
    assert math.isnan(qmix.cvar)
    assert (rmix.num_runs, rmix.num_reached, rmix.planned) == (3, 2, None)
    # Reached at 20 and 40: mean 30, standard deviation sqrt((10^2 + 10^2) / 1).
    assert rmix.x_to_threshold == pytest.approx((30.0, math.sqrt(200.0), 20.0, 40.0))
    assert rmix.seconds == pytest.approx((0.3, math.sqrt(200.0) / 100))
    assert rmix.final[0] == pytest.approx(-44 / 3)
    assert rmix.best == -7.0


def test_summary_without_threshold_takes_whole_runs(results):
    _, rmix = summaries(results)
    assert rmix.num_reached is None
    assert math.isnan(rmix.x_to_threshold[0])
    # The runs end after 0.2, 0.4 and 0.4 seconds.
    assert rmix.seconds[0] == pytest.approx(1.0 / 3.0)


def test_a_comparison_counts_what_did_not_fail(comparison):
    rmix, coma = summaries(comparison, 5.0)
    assert (rmix.label, rmix.num_runs, rmix.planned) == ("RMIX", 4, 5)
    # Of 2, 4, 6 and 8 the interquartile mean drops one at each end: (4 + 6) / 2. The
    # lowest and highest means that resampling can give are 2 and 8.
    assert rmix.final[0] == 5.0
    assert 2.0 <= rmix.final[1] < 5.0 < rmix.final[2] <= 8.0
    assert rmix.cvar == 3.0  # (1 + 2 + 3 + 6) / 4
    assert rmix.best == 9.0  # seed 0 at 100 env steps; not the failed 99
    # Seeds 0 and 3 reach 5, both at 100; seeds 1 and 2 never do.
    assert rmix.num_reached == 2
    assert rmix.x_to_threshold == (100.0, 0.0, 100.0, 100.0)
    assert rmix.seconds == (1.0, 0.0)
    assert (coma.label, coma.num_runs, coma.planned) == ("COMA", 0, 2)
    assert coma.num_reached == 0
    assert all(math.isnan(v) for v in (*coma.final, coma.cvar, coma.best))


def test_the_files_of_a_comparison(comparison):
    console = Console(file=io.StringIO(), width=200)
    files = write_comparison(comparison, console, title="two games", threshold=5.0)
    names = ["table.md", "table.tex", "table.csv", "curves.png", "curves.csv"]
    assert [file.name for file in files] == names
    assert files[3].read_bytes().startswith(b"\x89PNG")
    head, _, rmix, coma, *_ = files[0].read_text().splitlines()
    assert head == (
        "| algorithm | seeds | final: IQM [95 % CI] | CVaR 10 % | best | reached |"
        " env steps | min – max | seconds |"
    )
    assert rmix.startswith("| RMIX | 4 of 5 | 5 [")
    assert rmix.endswith("] | 3 | 9 | 2 of 4 | 100 ± 0 | 100 – 100 | 1 ± 0 |")
    assert coma == "| COMA | 0 of 2 | – | – | – | – | – | – | – |"
    screen = console.file.getvalue()
    assert "two games" in screen and "4 of 5" in screen
    with files[2].open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["label"], first["planned"], first["num_runs"]) == ("RMIX", "5", "4")
    assert (first["final_iqm"], first["cvar"], first["best"]) == ("5.0", "3.0", "9.0")
    assert (first["num_reached"], first["x_mean"]) == ("2", "100.0")
    assert (second["num_reached"], second["final_iqm"]) == ("0", "")
    # The figure has no curve for a label without runs.
    with files[4].open(newline="") as file:
        assert {row["group"] for row in csv.DictReader(file)} == {"RMIX"}


def test_no_table_where_everything_failed(comparison):
    labels = {f"RMIX_seed_{seed}": "RMIX" for seed in range(5)}
    write_plan(comparison, Plan(labels, tuple(labels)))
    with pytest.raises(
        ResultsError, match=r"No trial has the metric evaluation/return_mean"
    ):
        write_comparison(comparison, Console(file=io.StringIO()))
    assert not (comparison / "table.md").exists()


def test_tables_for_papers():
    """LaTeX's special characters are escaped; numbers get a minus sign."""
    header = ["group_1", "final [95 % CI]"]
    lines = [["[RMIX] a&b {lr=1e-3}", "-7.00 ± 0.5 [-8, –]"], ["*", "~ ^ \\ # $ < >"]]
    assert latex_table(header, lines, note="IQM\nof runs").splitlines() == [
        r"% Needs \usepackage{booktabs}.",
        "% IQM",
        "% of runs",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"group\_1 & final [95 \% CI] \\",
        r"\midrule",
        r"{}[RMIX] a\&b \{lr=1e-3\} & $-$7.00 $\pm$ 0.5 [$-$8, --] \\",
        r"{}* & \textasciitilde{} \textasciicircum{} \textbackslash{} \# \$"
        r" \textless{} \textgreater{} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == (
        "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"
    )
