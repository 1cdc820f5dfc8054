"""The tuned examples: listed, loaded strictly, copied."""

from dataclasses import replace
from pathlib import Path

import pytest
from extras import need_extra

from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.main import run
from rllib_risk.cli.preflight import preflight
from rllib_risk.cli.session import register_all
from rllib_risk.config.comparison import parse_comparison
from rllib_risk.config.loading import (
    examples_root,
    is_comparison,
    list_examples,
    parse_document,
)
from rllib_risk.config.shift_grid import is_shift_grid, parse_shift_grid
from rllib_risk.config.yaml_reader import read_yaml


def test_examples_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["example", "list"]) == 0
    printed = capsys.readouterr().out
    names = list_examples()
    assert "rmix/macn-4x7" in names
    assert all(name in printed for name in names)
    assert run(["example", "list", "--filter", "rmix/"]) == 0
    printed = capsys.readouterr().out
    assert "vdn/" not in printed and "rllib compare" not in printed


def test_comparisons_are_listed_with_their_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["example", "list", "--filter", "compare/"]) == 0
    printed = capsys.readouterr().out
    assert "compare/macn-4x7" in printed
    assert "rllib compare tuned_examples/compare/NAME.yaml" in printed
    # `compare/` holds all comparisons and nothing else.
    for name in list_examples():
        data = read_yaml(examples_root() / f"{name}.yaml").data
        assert is_comparison(data) == name.startswith("compare/"), name
    assert run(["example", "run", "compare/macn-4x7"]) == 2
    assert "Run it with: rllib compare " in capsys.readouterr().err
    target = tmp_path / "mine.yaml"
    assert run(["example", "get", "compare/macn-4x7", "--out", str(target)]) == 0
    printed = "".join(capsys.readouterr().err.split())
    assert f"Runitwith:rllibcompare{target}" in printed


def test_grids_are_listed_with_their_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["example", "list", "--filter", "shift/"]) == 0
    printed = capsys.readouterr().out
    assert "shift/macn-cliff" in printed
    assert "--shift tuned_examples/shift/NAME.yaml" in printed
    # `shift/` holds all grids and nothing else.
    for name in list_examples():
        data = read_yaml(examples_root() / f"{name}.yaml").data
        assert is_shift_grid(data) == name.startswith("shift/"), name
    assert run(["example", "run", "shift/macn-cliff"]) == 2
    assert "Play it with: rllib evaluate CHECKPOINT --shift" in capsys.readouterr().err
    target = tmp_path / "mine.yaml"
    assert run(["example", "get", "shift/macn-cliff", "--out", str(target)]) == 0
    printed = "".join(capsys.readouterr().err.split())
    assert f"Runitwith:rllibevaluateCHECKPOINT--shift{target}" in printed


@pytest.mark.parametrize("name", list_examples())
def test_every_example_is_correct_and_explained(
    name: str, recorded: Path, smac_double: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R27: the strict loader accepts every shipped YAML file."""
    register_all()
    monkeypatch.chdir(recorded)
    file = examples_root() / f"{name}.yaml"
    document, catalog = read_yaml(file), RLlibCatalog()
    if is_shift_grid(document.data):
        parse_shift_grid(document, file.stem)
        return
    if is_comparison(document.data):
        specs = list(parse_comparison(document, catalog).specs)
    else:
        specs = parse_document(document, catalog)
    for spec in specs:
        need_extra(spec.env, spec.config.get("env_config"))
        preflight(replace(spec, config={"seed": 0} | spec.config))
        assert spec.stop
    assert file.read_text().startswith("#")


def test_an_example_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, target = "rmix/macn-4x7", tmp_path / "mine.yaml"
    text = (examples_root() / f"{name}.yaml").read_text()
    assert run(["example", "get", name]) == 0
    assert capsys.readouterr().out.strip() == text.strip()
    assert run(["example", "get", name, "--out", str(target)]) == 0
    assert target.read_text() == text
    # A file that a user has changed is not overwritten.
    assert run(["example", "get", name, "--out", str(target)]) == 2
