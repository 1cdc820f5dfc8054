"""The documentation is true: its code runs, its YAML loads, its tables are current."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from command import run_python
from extras import need_extra
from preloaded import run_script

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.cli.catalog import RLlibCatalog, default_metric
from rllib_risk.cli.main import app
from rllib_risk.cli.preflight import preflight
from rllib_risk.config.checks import check_config
from rllib_risk.config.comparison import parse_comparison
from rllib_risk.config.loading import find_example, is_comparison, parse_document
from rllib_risk.config.shift_grid import is_shift_grid, parse_shift_grid
from rllib_risk.config.yaml_reader import parse_yaml
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.team_fields import TEAM_FIELDS
from rllib_risk.data.importing.map_reader import read_map
from rllib_risk.parts.slots import VALUE_PARTS

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(
    r"<!-- output of: check-env (\S+)(?: (\{.*\}))? -->\n```text\n(.*?)```", re.DOTALL
)
PAGE = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)


class Block(NamedTuple):
    """A block of code: its place and its text."""

    place: str
    text: str


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if match[1] == language:
                place = f"{page.relative_to(ROOT)}:{line}"
                found.append(Block(place, match[2]))
    return found


def named(language: str) -> list:
    """The blocks as test parameters."""
    return [pytest.param(block, id=block.place) for block in blocks(language)]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the modules of the pages: blocks that begin with `# name.py`."""
    folder = tmp_path_factory.mktemp("modules")
    for block in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", block.text)
        if name:
            assert not (folder / name[1]).exists(), f"{name[1]} twice"
            (folder / name[1]).write_text(block.text)
    return folder


@pytest.mark.parametrize("block", named("python"))
def test_python_runs(block: Block, modules: Path, tmp_path: Path) -> None:
    """R45: every block of Python."""
    script = tmp_path / "block.py"
    script.write_text(block.text)
    run_script(modules, script)


@pytest.mark.parametrize("block", named("yaml"))
def test_yaml_loads_and_could_start(
    block: Block,
    modules: Path,
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R45: every block of YAML, up to the start of the training."""
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.chdir(recorded)
    document = parse_yaml(block.text, block.place)
    catalog = RLlibCatalog()
    if list(document.data) == ["config"]:  # a part of an experiment
        keys = document.data["config"]
        check_config(keys, "RMIX", "macn", document, ("config",), catalog)
        return
    if "form" in document.data:  # the map of an import
        (tmp_path / "map.yaml").write_text(block.text)
        assert read_map(tmp_path / "map.yaml").agents
        return
    if is_shift_grid(document.data):
        assert parse_shift_grid(document, block.place).cells
        return
    if is_comparison(document.data):
        specs = list(parse_comparison(document, catalog).specs)
    else:
        specs = parse_document(document, catalog)
    for spec in specs:
        need_extra(spec.env, spec.config.get("env_config"))
        preflight(spec)
        if spec.scheduler is not None:
            spec.scheduler.build(default_metric(spec.algorithm), "max")


def commands() -> list[tuple[str, list[str]]]:
    """Every `rllib` command line of the pages, with its place."""
    return [
        (block.place, shlex.split(line.partition(" > ")[0])[1:])
        for block in blocks("sh")
        for line in block.text.splitlines()
        if line.startswith("rllib ")
    ]


def test_commands_and_their_options_exist() -> None:
    """R45: the `rllib` lines of the shell blocks, not run."""
    assert len(commands()) > 20
    for place, words in commands():
        node = typer.main.get_command(app)
        path = []
        while words and words[0] in getattr(node, "commands", {}):
            path.append(words.pop(0))
            node = node.commands[path[-1]]
        if path == ["plot"]:  # without a subcommand
            node = node.commands["curves"]
        known = {name for parameter in node.params for name in parameter.opts}
        for word in words:
            if re.match("--?[a-z]", word):
                assert word in known, f"{place}: {word}"
            elif word.startswith("tuned_examples/") or path[:1] == ["example"]:
                if word.startswith("tuned_examples/") or words.index(word) == 0:
                    find_example(word)
            elif word.startswith("{"):
                json.loads(word)


def test_check_env_says_what_the_page_shows(modules: Path) -> None:
    """R45: what `check-env` prints."""
    # In a process of its own, which has not imported the modules of other tests.
    code = (
        "import json, sys\n"
        "from rllib_risk.env_wrappers.checking.check_env import check_env\n"
        "for env, config in json.loads(sys.argv[1]):\n"
        "    print(check_env(env, config), end='\\0')\n"
    )
    shown = [
        match
        for page in PAGES
        for match in OUTPUT.finditer(page.read_text(encoding="utf-8"))
    ]
    assert len(shown) >= 2
    asked = json.dumps([(m[1], json.loads(m[2] or "{}")) for m in shown])
    outputs = run_python(modules, "-c", code, asked).split("\0")[:-1]
    for match, output in zip(shown, outputs, strict=True):
        speed = re.compile(r"steps_per_s: .*")
        expected = speed.sub("steps_per_s: ...", match[3].rstrip("\n"))
        assert speed.sub("steps_per_s: ...", output) == expected


def load_generator():
    path = ROOT / "docs" / "make_configuration.py"
    spec = importlib.util.spec_from_file_location("make_configuration", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@PAGE
def test_tables_are_current(page: Path) -> None:
    """R28: if this fails, run: python docs/make_configuration.py"""
    text = page.read_text(encoding="utf-8")
    assert text == load_generator().fill(text)


def test_every_key_is_documented() -> None:
    """R28: every key of every algorithm."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in ALGORITHMS:
        fields = config_class(name).fields()
        assert fields.keys() >= TEAM_FIELDS.keys()
        for key, field in fields.items():
            assert field.doc.endswith("."), key
            assert f"`{key}`" in page, key


def reasons_of_parts() -> set[tuple[str, int]]:
    """File and line of every reason for which a part refuses a composition."""
    found = set()
    folders = (ROOT / "rllib_risk" / name for name in ("parts", "networks"))
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("refus"):
                yields = [n for n in ast.walk(node) if isinstance(n, ast.Yield)]
                found |= {(str(file), y.lineno) for y in yields}
    return found


def first_reason_of_parts(config: TeamConfig) -> set[tuple[str, int]]:
    """File and line of the first reason that applies to a configuration, if any."""
    reasons: Any = VALUE_PARTS.refusals(config)
    if next(reasons, None) is None:
        return set()
    inner = reasons  # the generator to which the outer ones delegate
    while inner.gi_yieldfrom is not None:
        inner = inner.gi_yieldfrom
    return {(inner.gi_code.co_filename, inner.gi_frame.f_lineno)}


def test_every_reason_to_refuse_a_composition_is_shown() -> None:
    shown, known, of_parts = set(), 0, set()
    for algorithm, env, keys in load_generator().REFUSED:
        config = config_class(algorithm)().environment(env).update_from_dict(keys)
        problems = config._dataset_problems()
        of_parts |= first_reason_of_parts(config)
        known = len(problems)
        # The page shows the message of the first problem.
        shown.update([i for i, (wrong, _) in enumerate(problems) if wrong][:1])
    assert shown == set(range(known))
    assert of_parts == reasons_of_parts() and len(of_parts) > 25


def test_every_algorithm_has_a_page() -> None:
    stems = {page.stem for page in (ROOT / "docs" / "algorithms").glob("*.md")}
    assert stems == {module.rpartition(".")[2] for module in ALGORITHMS.values()}


def anchors(page: Path) -> set[str]:
    """The anchors that headings get on GitHub."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


@PAGE
def test_links_resolve(page: Path) -> None:
    """R43: links within the repository."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@PAGE
def test_tests_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_documents_are_read() -> None:
    # The patterns above must find something, because the tests pass on empty lists.
    assert len(blocks("python")) >= 3
    assert len(blocks("yaml")) >= 15
