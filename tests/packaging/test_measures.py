"""The limits of docs/architecture.md hold; what is over them may only shrink."""

import importlib.util
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("measures", ROOT / "tools/measures.py")
assert spec is not None and spec.loader is not None
measures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measures)

# One simulator or one part each, which may have 500 lines.
ONE_THING = {
    "rllib_risk/env_wrappers/team_env.py",
    "rllib_risk/env_wrappers/uav/env.py",
}
# Over the limits still, with their lines: no number may grow, and a line goes when its
# module or function is within the limits.
LONG_MODULES = {
    "rllib_risk/cli/compare.py": 447,
    "rllib_risk/config/experiments.py": 405,
    "rllib_risk/core/algorithm.py": 721,
    "rllib_risk/core/callbacks.py": 436,
    "rllib_risk/core/config.py": 617,
    "rllib_risk/core/ray_internals.py": 526,
    "rllib_risk/core/value_config.py": 998,
    "rllib_risk/data/replay.py": 479,
    "rllib_risk/evaluation/shift.py": 412,
    "rllib_risk/parts/acting.py": 449,
    "rllib_risk/parts/losses.py": 855,
    "rllib_risk/parts/team.py": 566,
}
LONG_FUNCTIONS = {
    "rllib_risk/core/episode_loop.py::play_episodes": 61,
    "rllib_risk/core/value_config.py::_quantile_problems": 62,
    "rllib_risk/env_wrappers/team_env.py::__init__": 63,
}
MEDIAN = 181
STATED_TWICE = 56
TURNS_BACK = 23


def over(lines: dict[str, int], known: dict[str, int], limit: int) -> list[str]:
    """What is wrong with numbers of lines, given those that are known to be over."""
    found = []
    for name in sorted(lines.keys() | known.keys()):
        number, allowed = lines.get(name, 0), known.get(name)
        most = measures.MOST_LINES_OF_ONE_THING if name in ONE_THING else limit
        if allowed is not None and number <= most:
            found.append(f"{name}: now within the limit; take it off the list")
        elif number > (allowed or most):
            found.append(f"{name}: {number} lines, at most {allowed or most}")
    return found


def test_lines_of_modules():
    lines = measures.lines_of_modules()
    assert over(lines, LONG_MODULES, measures.MOST_LINES) == []
    assert statistics.median(lines.values()) <= MEDIAN
    unneeded = {n for n in ONE_THING if lines.get(n, 0) <= measures.MOST_LINES}
    assert unneeded == set()


def test_lines_of_functions():
    lines = measures.lines_of_functions()
    assert over(lines, LONG_FUNCTIONS, measures.MOST_LINES_OF_A_FUNCTION) == []


def test_the_check_of_lines():
    known = {"a": 450, "b": 450, "c": 450}
    found = over({"a": 450, "b": 451, "c": 400, "d": 401, "e": 400}, known, 400)
    assert [line[:1] for line in found] == ["b", "c", "d"]


def test_a_key_is_stated_once():
    stated = measures.statements_of_keys()
    # Its choices differ from algorithm to algorithm, so each builds its own.
    assert [key for key, places in stated.items() if not places] == ["preset"]
    assert sum(len(places) > 1 for places in stated.values()) <= STATED_TWICE


def test_a_batch_goes_straight_through():
    walk = measures.walk_of_a_batch("QMIX")
    assert walk[0] == "data/replay.py"
    assert any(re.match(r"parts/", module) for module in walk)
    assert measures.turns_back(walk) <= TURNS_BACK
