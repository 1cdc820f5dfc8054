"""docs/reliability.md lists every promise with its tests, which name the promise."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
# The number and the text of every bullet.
ROWS = re.findall(r"^- \*\*(R\d+)\*\* (.*?)(?=^- \*\*R|^#|\Z)", PAGE, re.M | re.S)
NUMBERS = [f"R{number}" for number in range(1, 50)]


def trees() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        yield str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))


def numbers_of_tests() -> dict[str, set[str]]:
    """Maps `path::name` of every test to the promises that its docstring names."""
    found = {}
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                text = ast.get_docstring(node) or ""
                found[f"{path}::{node.name}"] = set(
                    re.findall(r"(?:^|\s)(R\d+):", text)
                )
    return found


def test_every_promise_is_listed_once() -> None:
    assert Counter(number for number, _ in ROWS) == Counter(NUMBERS)
    for number, row in ROWS:
        assert re.search(r"tests/[\w/]+\.py::\w+", row) or "No test" in row, number


def test_tests_and_page_name_each_other() -> None:
    tests = numbers_of_tests()
    on_page = {
        (number, test)
        for number, row in ROWS
        for test in re.findall(r"`(tests/[\w/]+\.py::\w+)`", row)
    }
    in_tests = {(number, test) for test, numbers in tests.items() for number in numbers}
    missing = {test for _, test in on_page} - tests.keys()
    assert not missing, f"tests that do not exist: {sorted(missing)}"
    assert not on_page - in_tests, "docstrings that do not name the number"
    assert not in_tests - on_page, "tests that docs/reliability.md does not list"


def test_every_skipped_test_has_a_reason() -> None:
    """R43: `skip`, `skipif` and `xfail` say why; `importorskip` names the package."""
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if re.fullmatch(r"pytest\.(mark\.)?(skip|skipif|xfail)", name):
                assert isinstance(node, ast.Call)
                given = {keyword.arg for keyword in node.keywords}
                positional = node.args and not name.endswith("skipif")
                if "reason" not in given and not positional:
                    found.append(f"{path}:{node.lineno}")
            # A mark without brackets has no reason.
            for decorator in getattr(node, "decorator_list", []):
                if ast.unparse(decorator) in ("pytest.mark.skip", "pytest.mark.xfail"):
                    found.append(f"{path}:{node.lineno}")
    assert found == []


def test_every_key_is_read_and_has_its_unit() -> None:
    """R28: the code reads every key that is declared and documented."""
    from rllib_risk.algorithms import ALGORITHMS, config_class
    from rllib_risk.parts.slots import VALUE_PARTS

    read = set(VALUE_PARTS.slots)  # read by Composition.make and chosen
    for file in (ROOT / "rllib_risk").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
            elif isinstance(node, ast.Subscript):
                read.add(ast.unparse(node.slice).strip("'"))
    units = {"_episodes": "episodes", "_steps": "steps", "_s": "s"}
    for name in ALGORITHMS:
        for key, field in config_class(name).fields().items():
            assert key in read, key
            for end, unit in units.items():
                if key.endswith(end):
                    assert field.unit.endswith(unit), key
