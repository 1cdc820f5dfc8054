"""Figures and summary tables from result folders."""

import csv
import io

import pytest
from rich.console import Console

from rllib_risk.evaluation.plots import run_plot_command
from rllib_risk.evaluation.results import ResultsError


def silent():
    return Console(file=io.StringIO())


@pytest.mark.parametrize(
    ("suffix", "head"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_figure_and_numbers_are_written(results, suffix, head):
    out = results / "figures" / f"curves{suffix}"
    run_plot_command([results], out, silent(), title="MACN", threshold=-7.0)
    assert out.read_bytes().startswith(head)
    with out.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Four points for rmix (its longest run), two for qmix.
    assert [row["group"] for row in rows] == ["qmix"] * 2 + ["rmix"] * 4
    last = rows[-1]
    assert float(last["num_env_steps_sampled_lifetime"]) == 40
    # The solved run keeps -7 up to x = 40: (-7 - 7 - 30) / 3.
    assert float(last["evaluation/return_mean iqm"]) == pytest.approx(-44 / 3)
    assert (last["ci95_low"], last["ci95_high"], last["runs"]) == ("-30", "-7", "3")


def test_a_solved_run_is_said_to_keep_its_last_value(results):
    out = results / "curves.svg"
    run_plot_command([results / "rmix"], out, silent(), y_min=-100.0)
    # Matplotlib writes each text as a comment beside its glyphs.
    text = out.read_text()
    assert "A run that ended early keeps its last value." in text
    assert "<!-- rmix (3 seeds) -->" in text


def test_other_suffixes_are_refused_before_anything_is_written(results):
    with pytest.raises(ResultsError, match=r"must end in one of .pdf, .png, .svg"):
        run_plot_command([results], results / "curves.gif", silent())
    assert not (results / "curves.csv").exists()


def test_the_command_prints_a_table_and_writes_four_files(results):
    console = Console(file=io.StringIO(), width=200)
    files = run_plot_command([results], results / "curves.png", console, threshold=-7.0)
    names = [f"curves.{suffix}" for suffix in ("png", "csv", "md", "tex")]
    assert [file.name for file in files] == names
    assert all(file.stat().st_size > 0 for file in files)
    screen = console.file.getvalue()
    markdown = files[2].read_text()
    for text in (screen, markdown):
        assert "2 of 3" in text
        assert "30 ± 14" in text
        assert "-14.67 [-30, -7]" in text
    line = "| qmix | 1 | -100 [-100, -100] | -100 | 0 of 1 | – | – | – |"
    assert markdown.splitlines()[2] == line


def test_the_command_without_threshold(results):
    console = Console(file=io.StringIO(), width=200)
    files = run_plot_command([results], results / "curves.png", console)
    assert "| rmix | 3 |" in files[2].read_text()
