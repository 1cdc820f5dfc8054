"""Imports between parts run in one direction, and an import is light (R40)."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "rllib_risk"
NAME = PACKAGE.name
# A part may import only from the parts before it, at module level or in a function.
FLOORS = (
    "deploy",
    "config",
    "ops",
    "data",
    "offline",
    "networks",
    "parts",
    "env_wrappers",
    "core",
    "algorithms",
    "evaluation",
    "cli",
)
# Earlier parts that a part must not import either.
APART = {"env_wrappers": {"networks", "parts"}, "ops": {"config"}}
# Packages that a part must not import anywhere, and packages that it must not import
# when it is itself imported.
FORBIDDEN_PACKAGES = {
    "ops": {"ray"},
    "deploy": {"gymnasium", "ray", "safetensors", "torch"},
}
FORBIDDEN_AT_IMPORT = {
    "config": {"ray", "torch"},
    "evaluation": {"matplotlib", "PIL"},
    "env_wrappers": {"ray", "torch"},
}


def imported(source: str, package: str, at_import: bool = False) -> set[str]:
    """Full names of the modules that this source imports.

    Args:
        source: Python source.
        package: Full name of the package that holds it, for relative imports.
        at_import: Whether to count only what runs on import. Imports in functions and
            under ``if TYPE_CHECKING`` are then left out.
    """
    names: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # In `from rllib_risk import core` the imported name is a module.
            names |= {f"{module}.{alias.name}" for alias in node.names}
        if at_import:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                nodes += node.orelse
                continue
        nodes += ast.iter_child_nodes(node)
    return names


def violations(part: str, *, internal: set[str], external: set[str], at_import: bool):
    """Forbidden imports in a part of the package, as ``file: name``."""
    found = []
    for file in sorted((PACKAGE / part).rglob("*.py")):
        package = ".".join(file.relative_to(PACKAGE.parent).parent.parts)
        for name in sorted(imported(file.read_text("utf-8"), package, at_import)):
            top, *rest = name.split(".")
            if top in external or (top == NAME and rest and rest[0] in internal):
                found.append(f"{file.relative_to(PACKAGE)}: {name}")
    return found


def test_the_check_reads_every_form_of_import():
    source = (
        "import ray.tune as tune\n"
        "from .statistics import iqm\n"
        "from ..core import policy\n"
        "if TYPE_CHECKING:\n"
        "    import torch\n"
        "def f():\n"
        "    from rllib_risk import parts\n"
    )
    at_import = {
        "ray.tune",
        "rllib_risk.evaluation.statistics.iqm",
        "rllib_risk.core.policy",
    }
    package = "rllib_risk.evaluation"
    assert imported(source, package, at_import=True) == at_import
    everything = at_import | {"torch", "rllib_risk.parts"}
    assert imported(source, package) == everything


@pytest.mark.parametrize("part", FLOORS)
def test_imports_run_one_way(part):
    above = FLOORS[FLOORS.index(part) + 1 :]
    found = violations(
        part,
        internal={*above, *APART.get(part, ())},
        external=FORBIDDEN_PACKAGES.get(part, set()),
        at_import=False,
    )
    assert found == []


@pytest.mark.parametrize("part", sorted(FORBIDDEN_AT_IMPORT))
def test_heavy_packages_are_imported_when_needed(part):
    found = violations(
        part, internal=set(), external=FORBIDDEN_AT_IMPORT[part], at_import=True
    )
    assert found == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("rllib_risk", {"gymnasium", "matplotlib", "ray", "smac", "torch", "wandb"}),
        ("rllib_risk.deploy", {"gymnasium", "ray", "safetensors", "scipy", "torch"}),
        ("rllib_risk.env_wrappers.hvac.dynamics", {"gymnasium", "pettingzoo", "torch"}),
        ("rllib_risk.config.schema", {"matplotlib", "ray", "smac", "torch", "wandb"}),
        ("rllib_risk.evaluation.plots", {"matplotlib", "ray", "torch", "wandb"}),
        ("rllib_risk.evaluation.rendering", {"PIL", "ray", "torch"}),
    ],
)
def test_import_is_light(module, heavy):
    """R40: tests what is imported, not how long it takes."""
    code = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert loaded & heavy == set()


def test_import_takes_no_time():
    """R40: two seconds are allowed; 0.02 s is usual."""
    code = (
        "import time; start = time.process_time(); import rllib_risk;"
        " print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60
    )
    assert float(done.stdout) < 2.0
