"""Prints the code measures of docs/architecture.md with their present values.

    python tools/measures.py

prints a table. ``--list`` adds the items behind each number.
tests/packaging/test_measures.py checks the limits.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rllib_risk"
# Maximum number of lines of a module; of a module with a single simulator or part; of a
# function.
MAX_LINES, MAX_LINES_OF_ONE_THING, MAX_LINES_OF_A_FUNCTION = 400, 500, 60
MEDIAN_LINES = 150
# Number of lines of code from which a run that occurs twice counts as a repetition.
REPEATED_LINES = 12
# Limit for `turns_back` of a batch on its way from replay to loss.
TURNS_BACK = 10


def modules() -> Iterator[tuple[str, str]]:
    """Yields path in the repository and source of every module of the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        yield str(file.relative_to(ROOT)), file.read_text("utf-8")


def lines_of_modules() -> dict[str, int]:
    """Returns the number of lines by module, without ``__init__`` files."""
    return {
        path: len(source.splitlines())
        for path, source in modules()
        if not path.endswith("__init__.py")
    }


def lines_of_functions() -> dict[str, int]:
    """Returns the number of lines of the body by ``module::function``.

    The docstring does not count.
    """
    found = {}
    for path, source in modules():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                documented = ast.get_docstring(node) is not None
                body = node.body[documented:]
                if body:
                    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
                    found[f"{path}::{node.name}"] = lines
    return found


def repetitions(length: int = REPEATED_LINES) -> list[str]:
    """Returns the places of runs of code that occur in more than one place.

    Comments, docstrings, imports, blank lines and indentation do not count.

    Args:
        length: Number of lines of a run.
    """
    places: dict[tuple[str, ...], list[str]] = {}
    for path, source in modules():
        lines = [*_lines_of_code(source)]
        for start in range(len(lines) - length + 1):
            run = tuple(text for _, text in lines[start : start + length])
            places.setdefault(run, []).append(f"{path}:{lines[start][0]}")
    return [", ".join(found) for found in places.values() if len(found) > 1]


def _lines_of_code(source: str) -> Iterator[tuple[int, str]]:
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if text or isinstance(node, (ast.Import, ast.ImportFrom)):
            left_out |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
    for number, line in enumerate(source.splitlines(), 1):
        code = line.strip()
        if code and not code.startswith("#") and number not in left_out:
            yield number, code


def statements_of_keys() -> dict[str, list[str]]:
    """Returns where the package states the default, by key of an algorithm.

    A statement is a field of a class with a default, an entry ``"key": Field(...)``, or
    a ``Slot("key", ...)``.
    """
    sys.path.insert(0, str(ROOT))
    from rllib_risk.algorithms import ALGORITHMS, config_class

    keys = {key for name in ALGORITHMS for key in config_class(name).fields()}
    found: dict[str, list[str]] = {key: [] for key in sorted(keys)}
    for path, source in modules():
        for node in ast.walk(ast.parse(source)):
            for name, line in _declared(node):
                if name in found:
                    found[name].append(f"{path}:{line}")
    return found


def _declared(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.ClassDef):
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and field.value is not None:
                yield ast.unparse(field.target), field.lineno
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Slot":
        if node.args and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), node.lineno
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if (
                isinstance(key, ast.Constant)
                and isinstance(value, ast.Call)
                and ast.unparse(value.func) in ("Field", "schema.Field")
            ):
                yield str(key.value), key.lineno


def walk_of_a_batch(name: str = "QMIX") -> list[str]:
    """Returns the modules that a reader visits to follow a batch from replay to loss.

    Args:
        name: Name of the algorithm.

    Returns:
        The module of each function at its first call in an update. Repetitions in a row
        count once. Functions of a single statement are skipped, because their names
        describe them.
    """
    replay, policy = _replay_and_policy(name)
    longer = _functions_of_several_statements()
    seen: set[CodeType] = set()
    walk: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        file = Path(code.co_filename)
        if event == "call" and PACKAGE in file.parents and code not in seen:
            seen.add(code)
            path = str(file.relative_to(PACKAGE))
            of_interest = (path, code.co_firstlineno) in longer
            if of_interest and (not walk or walk[-1] != path):
                walk.append(path)

    from rllib_risk.data.episodes import collate

    sys.setprofile(note)
    try:
        policy.learn_on_batch(collate(replay.sample(4)))
    finally:
        sys.setprofile(None)
    return walk


def _functions_of_several_statements() -> set[tuple[str, int]]:
    """Returns module and first line (of the decorators) of each such function."""
    found = set()
    for path, source in modules():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None
                first = min([node, *node.decorator_list], key=lambda n: n.lineno)
                if len(node.body) - documented > 1:
                    found.add((path.removeprefix("rllib_risk/"), first.lineno))
    return found


def _replay_and_policy(name: str) -> tuple[Any, Any]:
    sys.path.insert(0, str(ROOT))
    from rllib_risk.algorithms import algorithm_class, config_class
    from rllib_risk.core.dataset_recording import record, scripted_player
    from rllib_risk.data.replay import EpisodeReplay
    from rllib_risk.env_wrappers.registry import make_team_env
    from rllib_risk.env_wrappers.scripted import reference_policies

    config = config_class(name)().environment("macn").debugging(seed=0)
    replay = EpisodeReplay(8, seed=0)
    player = scripted_player(reference_policies("macn")["random"], 0.0)
    replay.add(record(config, [player], 8, seed=0))
    env = make_team_env("macn", {})
    policy_class = algorithm_class(name).get_default_policy_class(config)
    policy = policy_class(env.observation_space, env.action_space, config.to_dict())
    return replay, policy


def turns_back(walk: list[str]) -> int:
    """Returns how often a walk returns to a module that it has left."""
    return len(walk) - len(set(walk))


def table() -> list[tuple[str, str, str, list[str]]]:
    """Returns rows of measure, value, limit, and the items behind the value."""
    lines, functions = lines_of_modules(), lines_of_functions()
    longest = Counter(lines).most_common(1)[0]
    long = {k: n for k, n in functions.items() if n > MAX_LINES_OF_A_FUNCTION}
    keys = statements_of_keys()
    walk, repeated = walk_of_a_batch(), repetitions()

    def largest(numbers: dict[str, int], limit: int) -> list[str]:
        return [f"{n:5} {k}" for k, n in Counter(numbers).most_common() if n > limit]

    def count(limit: int) -> str:
        return str(sum(n > limit for n in lines.values()))

    above = largest(lines, MAX_LINES)
    twice = [f"{key}: {', '.join(at)}" for key, at in keys.items() if len(at) > 1]
    return [
        ("modules", str(len(lines)), "", []),
        (
            "lines of the median module",
            f"{statistics.median(lines.values()):g}",
            f"below {MEDIAN_LINES}",
            [],
        ),
        (
            "lines of the longest module",
            f"{longest[1]} ({longest[0]})",
            str(MAX_LINES_OF_ONE_THING),
            [],
        ),
        (
            f"modules over {MAX_LINES_OF_ONE_THING} lines",
            count(MAX_LINES_OF_ONE_THING),
            "0",
            [],
        ),
        (
            f"modules over {MAX_LINES} lines",
            count(MAX_LINES),
            "single simulators and parts",
            above,
        ),
        (
            f"functions over {MAX_LINES_OF_A_FUNCTION} lines",
            str(len(long)),
            "0",
            largest(long, 0),
        ),
        (
            f"runs of {REPEATED_LINES} lines of code in two places",
            str(len(repeated)),
            "signatures of PettingZoo",
            repeated,
        ),
        ("keys of algorithms", str(len(keys)), "", []),
        ("keys whose default is stated twice", str(len(twice)), "0", twice),
        (
            "turns back of a batch from replay to loss (QMIX)",
            f"{turns_back(walk)} (in {len(set(walk))} modules)",
            f"below {TURNS_BACK}",
            walk,
        ),
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--list", action="store_true", help="also print the items behind each number"
    )
    options = parser.parse_args()
    print(f"{'measure':50} {'value':42} limit")
    for measure, value, limit, behind in table():
        print(f"{measure:50} {value:42} {limit}")
        for line in behind if options.list else []:
            print(f"    {line}")


if __name__ == "__main__":
    main()
