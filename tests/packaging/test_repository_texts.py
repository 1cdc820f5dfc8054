"""Texts of the repository name no package registry and no path of one machine."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = {".cfg", ".ini", ".json", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
NAMES = {".gitignore", "LICENSE", "Makefile", "run"}
# Folders that .gitignore names, or that belong to tools.
SKIPPED = {"build", "dist", "node_modules", "results", "wandb"}
# Split, so that this file passes its own test.
FORBIDDEN = {
    "package registry": r"py"
    r"pi\.org|python"
    r"hosted\.org|download\.py"
    r"torch\.org",
    "pip index option": r"--(extra-)?index" r"-url|--find" r"-links|PIP_" r"INDEX",
    "machine path": r"(?<![\w.\-])/(root|wo" r"rk|opt/py" r"pi|opt/wh" r"eels)(/|\b)",
}


def texts() -> list[Path]:
    """Every text file of the repository, tracked or untracked."""
    files = []
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_symlink():
                continue  # The target is read at its own path.
            if path.is_dir():
                hidden = path.name.startswith(".") and path.name != ".ci"
                skipped = path.name in SKIPPED or path.name.endswith(".egg-info")
                if not (hidden or skipped or path.name == "__pycache__"):
                    folders.append(path)
            elif path.suffix in SUFFIXES or path.name in NAMES:
                files.append(path)
    return files


@pytest.mark.parametrize("kind", sorted(FORBIDDEN))
def test_no_text_contains_forbidden_names(kind):
    pattern = re.compile(FORBIDDEN[kind], re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in texts()
        for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


def test_every_kind_of_text_is_read():
    read = [str(file.relative_to(ROOT)) for file in texts()]
    kinds = {"Makefile", "constraints.txt", "rllib_risk/__init__.py", ".ci/run"}
    assert kinds <= set(read)
    named = [path for path in read if path.endswith("rmix/macn-4x7.yaml")]
    assert named == ["rllib_risk/tuned_examples/rmix/macn-4x7.yaml"]
