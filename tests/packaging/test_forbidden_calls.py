"""No call in the package can execute what a file contains (R24). No exceptions."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "rllib_risk"
# Reading any of these formats can run code that the file brings along.
MODULES = {"cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"}
BUILTINS = {"__import__", "compile", "eval", "exec"}
# As written in code, with the usual names of the modules.
CALLS = {
    "joblib.load",
    "os.popen",
    "os.system",
    "pandas.read_pickle",
    "pd.read_pickle",
    "torch.load",
    "yaml.full_load",
    "yaml.full_load_all",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
}
# Keyword arguments that must be False.
KEYWORDS = {"allow_pickle", "shell"}


def forbidden(source: str) -> list[str]:
    """Forbidden imports, calls and arguments of a source, as ``line: name``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
            names = [name for name in names if name in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module] if module.split(".")[0] in MODULES else []
            imported = [f"{module}.{alias.name}" for alias in node.names]
            names += [name for name in imported if name in CALLS]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            names = [called] if called in CALLS | BUILTINS else []
            names += [
                f"{keyword.arg}={ast.unparse(keyword.value)}"
                for keyword in node.keywords
                if keyword.arg in KEYWORDS and ast.unparse(keyword.value) != "False"
            ]
        found += [f"{node.lineno}: {name}" for name in names]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, cloudpickle as cp",
        "from pickle import loads",
        "from torch import load",
        "torch.load(path, weights_only=True)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=flag)",
        "np.load(path, allow_pickle=True)",
        "os.system(command)",
        "def f():\n    import marshal",
    ],
)
def test_the_check_finds_each_forbidden_call(source):
    assert len(forbidden(source)) == 1


def test_the_check_lets_pass():
    source = (
        "model.eval()\n"
        "re.compile('x')\n"
        "yaml.safe_load(text)\n"
        "np.load(path, allow_pickle=False)\n"
        "subprocess.run(['ls'], shell=False)\n"
    )
    assert forbidden(source) == []


def test_the_package_has_no_forbidden_call():
    """R24: no exceptions."""
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    found = {
        str(file.relative_to(PACKAGE)): names
        for file in files
        if (names := forbidden(file.read_text(encoding="utf-8")))
    }
    assert found == {}
