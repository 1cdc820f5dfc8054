"""The tuned examples: listed, loaded strictly, copied."""

from pathlib import Path

import pytest

from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.main import run
from rllib_risk.cli.preflight import preflight
from rllib_risk.cli.session import register_all
from rllib_risk.config.loading import examples_root, list_examples, load_experiments


def test_examples_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["example", "list"]) == 0
    printed = capsys.readouterr().out
    names = list_examples()
    assert "rmix/macn-4x7" in names
    assert all(name in printed for name in names)
    assert run(["example", "list", "--filter", "rmix/"]) == 0
    assert "vdn/" not in capsys.readouterr().out


@pytest.mark.parametrize("name", list_examples())
def test_every_example_is_correct_and_explained(name: str) -> None:
    register_all()
    file = examples_root() / f"{name}.yaml"
    for spec in load_experiments(file, RLlibCatalog()):
        preflight(spec)
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
    # Nobody's edits are written over.
    assert run(["example", "get", name, "--out", str(target)]) == 2
