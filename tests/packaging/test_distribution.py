"""The wheel holds what an installed user needs, and the pins fit the ranges."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import rllib_risk

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(
        ROOT / "rllib_risk",
        folder / "rllib_risk",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    # A discovery of packages without limits would add these to the wheel.
    shutil.copy(ROOT / "tuned_examples", folder, follow_symlinks=False)
    for name in ("tests", "benchmarks"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_wheel_trains_where_it_is_installed(wheel, tmp_path):
    """R41: a packaged example runs to its end in a new environment and folder."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")],
        check=True,
    )
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    # The dependencies come from the present installation. The package comes from the
    # wheel, which is earlier on the path.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--quiet", wheel.filename], check=True
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*command):
        done = subprocess.run(
            [*map(str, command)],
            cwd=elsewhere,
            env=env,
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = run(python, "-c", "import rllib_risk; print(rllib_risk.__file__)")
    assert Path(where.strip()).is_relative_to(packages)
    options = ["--storage-path", "r", "--ray-num-cpus", "2", "--seed", "0"]
    file = "tuned_examples/qmix/two_step.yaml"
    printed = run(python.with_name("rllib"), "train", "file", file, *options)
    assert "Evaluate it with: rllib evaluate" in printed
    assert list(elsewhere.glob("r/*/QMIX_*/checkpoint_*/manifest.json"))


def test_every_module_and_data_file_is_in_the_wheel(wheel):
    package = ROOT / "rllib_risk"
    suffixes = {".json", ".md", ".npz", ".py", ".safetensors", ".typed", ".yaml"}
    expected = {
        str(file.relative_to(ROOT))
        for file in package.rglob("*")
        if file.suffix in suffixes
    }
    assert "rllib_risk/py.typed" in expected
    assert any(name.endswith("rmix/macn-4x7.yaml") for name in expected)
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_the_wheel_is_small(wheel):
    assert Path(wheel.filename).stat().st_size < 5e6


def test_the_examples_are_at_the_top_of_the_repository():
    link = ROOT / "tuned_examples"
    assert link.is_symlink() and link.resolve() == ROOT / "rllib_risk/tuned_examples"
    assert not link.readlink().is_absolute()


def test_the_wheel_brings_the_commands_and_the_licence(wheel):
    info = f"rllib_risk-{rllib_risk.__version__}.dist-info"
    commands = wheel.read(f"{info}/entry_points.txt").decode()
    assert "rllib = rllib_risk.cli.main:main" in commands
    assert "rllib-risk = rllib_risk.cli.main:main" in commands
    assert b"Apache License" in wheel.read(f"{info}/licenses/LICENSE")


def test_one_version_everywhere():
    (version,) = re.findall(r'^version = "(.+)"$', PYPROJECT, re.MULTILINE)
    assert rllib_risk.__version__ == version


def requirements(key):
    """The requirements listed under this key of pyproject.toml."""
    # The lists hold one or more plain strings.
    block = re.search(rf"^{key} = \[(.*?)\]$", PYPROJECT, re.MULTILINE | re.DOTALL)
    return [Requirement(text) for text in re.findall(r'"([^"]+)"', block[1])]


def test_pins_lie_within_the_ranges():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    needed = requirements("dependencies") + requirements("dev")
    assert {"ray", "torch", "pytest"} <= {need.name for need in needed}
    for need in needed:
        version = pins[canonicalize_name(need.name)]
        assert need.specifier.contains(version, prereleases=True), need
    local = [name for name, version in pins.items() if "+" in version]
    assert local == [], "a local version exists on one machine only"


def test_the_range_of_ray_is_what_was_checked():
    text = (ROOT / "docs" / "versions.md").read_text("utf-8")
    rows = re.findall(r"^\| (2\.\d+)\.\d+ \| (.+) \|$", text, re.MULTILINE)
    assert {cells for _, cells in rows} == {" | ".join(["works"] * 5)}
    newest, *_, oldest = [version for version, _ in rows]
    (ray,) = [need for need in requirements("dependencies") if need.name == "ray"]
    after = f"2.{int(newest.split('.')[1]) + 1}"
    assert ray.specifier == SpecifierSet(f">={oldest},<{after}")
