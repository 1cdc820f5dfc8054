"""The limits of docs/architecture.md hold."""

import importlib.util
import json
import re
import statistics
from pathlib import Path

from command import run_python

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("measures", ROOT / "tools/measures.py")
assert spec is not None and spec.loader is not None
measures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measures)

# Modules with one simulator or one part, which may have 500 lines.
ONE_THING = {
    "rllib_risk/data/replay.py",
    "rllib_risk/env_wrappers/team_env.py",
}


def over(lines: dict[str, int], limit: int) -> list[str]:
    """Names that have more lines than allowed."""
    most = dict.fromkeys(ONE_THING, measures.MAX_LINES_OF_ONE_THING)
    return [name for name, n in lines.items() if n > most.get(name, limit)]


def test_lines_of_modules():
    lines = measures.lines_of_modules()
    assert over(lines, measures.MAX_LINES) == []
    assert all(lines[name] > measures.MAX_LINES for name in ONE_THING)
    assert statistics.median(lines.values()) < measures.MEDIAN_LINES


def test_lines_of_functions():
    lines = measures.lines_of_functions()
    assert over(lines, measures.MAX_LINES_OF_A_FUNCTION) == []


def test_the_check_of_lines():
    part = "rllib_risk/data/replay.py"
    assert over({"a": 400, "b": 401, part: 500}, 400) == ["b"]
    assert over({"a": 400, part: 501}, 400) == [part]


def test_code_is_not_repeated():
    for places in measures.repetitions():
        names = {place.partition(":")[0].split("/")[-1] for place in places.split(", ")}
        assert names == {"env.py"}, places  # a signature of PettingZoo
    assert len(measures.repetitions(8)) > len(measures.repetitions())


def test_a_key_is_stated_once():
    stated = measures.statements_of_keys()
    # The choices of `preset` depend on the algorithm, so each algorithm builds the key.
    assert [key for key, places in stated.items() if not places] == ["preset"]
    assert {key: places for key, places in stated.items() if len(places) > 1} == {}


def test_a_batch_goes_straight_through():
    # Runs in a new process, since it watches every call, including those of pytest.
    code = "import json, measures; print(json.dumps(measures.walk_of_a_batch('QMIX')))"
    walk = json.loads(run_python(ROOT / "tools", "-c", code).splitlines()[-1])
    assert walk[0] == "data/replay.py"
    assert any(re.match(r"parts/", module) for module in walk)
    assert measures.turns_back(walk) < measures.TURNS_BACK
